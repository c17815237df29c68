"""Architectures of `transformers` are called as their papers call them."""

from segcli.core.recipe.model_title import NAMES, model_title
from segcli.models.transformers.architectures import KINDS


def test_every_architecture_that_is_offered_has_a_name():
    assert set(NAMES) == set(KINDS)


def test_a_title_says_the_architecture_of_a_known_configuration():
    given = {"name": "transformers", "checkpoint": "a/b"}
    assert model_title(given) == "transformers"
    assert model_title({**given, "config": {"architectures": ["RfDetrForObjectDetection"]}}) == "RF-DETR (transformers)"
    assert model_title({**given, "config": {"architectures": ["Unheard"]}}) == "transformers"
    assert model_title({"name": "rcnn"}) == "rcnn"
