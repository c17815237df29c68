"""What is wrong with a section of a recipe names the recipe's file."""

import pytest

from segcli.core.errors import DataError, UsageError
from segcli.core.recipe.recipe import Recipe

RECIPE = {"name": "toy", "task": "instance", "data": {"root": "r"}, "model": {"name": "fake"}, "train": {"steps": 1}}


def test_errors_of_the_section_alone_get_the_file(tmp_path):
    read = Recipe.parse(RECIPE, "test", tmp_path / "toy.yaml")
    with pytest.raises(UsageError, match=r"toy\.yaml: data\.augment\.flip") as caught, read.blamed("data.augment"):
        raise UsageError("data.augment.flip: too much", hint="less")
    assert caught.value.hint == "less"
    with pytest.raises(DataError, match=r"^a\.png is broken$"), read.blamed("data.augment"):
        raise DataError("a.png is broken")
    with pytest.raises(UsageError, match=r"^data\.augment"), Recipe.parse(RECIPE, "test").blamed("data.augment"):
        raise UsageError("data.augment.flip: too much")
