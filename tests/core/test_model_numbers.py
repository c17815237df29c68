"""Numbers of a model section that no model can have are one sentence, however long they are."""

import re

import pytest

from segcli.core.recipe.model_numbers import check
from segcli.core.recipe.recipe import Recipe
from segcli.core.recipe.recipe_file import shipped


@pytest.mark.parametrize("digits", [4, 12, 400])
def test_numbers_beyond_bounds(digits):
    with pytest.raises(ValueError, match=r"^model\.decoder_layers can't be .*: 1,000 at most$"):
        check({"decoder_layers": 10**digits})


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"width": 0}, "model.width can't be 0: 1 at least"),
        ({"heads": {"mask": {"convolutions": -1}}}, "model.heads.mask.convolutions can't be -1: 0 at least"),
        ({"heads": 0}, "model.heads can't be 0: 1 at least"),
        ({"heads": {"box": {"width": -256}}}, "model.heads.box.width can't be -256: 1 at least"),
        ({"proposals": [0, 100]}, "model.proposals can't be 0: 1 at least"),
        ({"backbone": {"frozen_stages": -1}}, "model.backbone.frozen_stages can't be -1: 0 at least"),
        ({"dropout": 1.5}, "model.dropout can't be 1.5: a share from 0 to 1"),
        ({"dropout": float("nan")}, "model.dropout can't be nan: a share from 0 to 1"),
        ({"mask_weight": -1.0}, "model.mask_weight can't be -1: 0 at least"),
    ],
)
def test_sizes_of_nothing_and_counts_below_it(settings, place):
    with pytest.raises(ValueError, match=re.escape(place)):
        check(settings)


def test_what_other_numbers_mean_is_for_others_to_say():
    check({"encoder_layers": 0, "heads": {"box": {}, "own": {"bias": -2.0}}, "dropout": 0, "queries": None})


def test_every_shipped_recipe_has_possible_numbers():
    for name in shipped():
        check(Recipe.load(name).model)


@pytest.mark.parametrize(
    "setting", ["model.width=0", "model.heads.lite_mask.convolutions=-1", "model.heads.iou_box.width=0"]
)
def test_a_command_names_the_number_before_it_works(segcli, setting):
    result = segcli("train", "quickstart/mask_rcnn", "--set", setting)
    assert result.code == 2
    assert setting.split("=")[0] in result.err
