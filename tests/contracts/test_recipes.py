"""Every shipped recipe: it reads, its model builds for its task, its augmentation and its data settings are known."""

import itertools
import re
import shlex

import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.recipe.recipe import Recipe, find_recipe, parse_overrides, shipped
from segcli.data.augment.compose import build_augment
from segcli.engine.optimizer import build_optimizer
from segcli.models import build_model

INFO = DatasetInfo("three", (Category("a", 1), Category("b", 2), Category("c", 3, thing=False)), {})
every_recipe = pytest.mark.parametrize("name", shipped())


@every_recipe
def test_it_reads_and_its_model_builds(name):
    recipe = Recipe.load(name)
    if recipe.model["name"] == "transformers":  # its configuration is on the hub: tests/models/test_transformers.py
        assert set(recipe.model) == {"name", "checkpoint"}
        return
    with torch.device("meta"):  # no memory, no random numbers: the large models of the papers take no time
        model = build_model(recipe.model, task=recipe.task, num_classes=3, num_things=2, num_keypoints=4)
    assert model.preprocess.with_size(recipe.data.size).longest > 0
    assert sum(p.numel() for p in model.parameters()) > 100_000
    build_optimizer(model, recipe.train.optimizer)  # its lr_scales name parameters


@every_recipe
def test_its_augmentation_is_known(name):
    recipe = Recipe.load(name)
    augment = build_augment(recipe.data.augment, canvas=(64, 64), info=INFO)
    assert (augment is None) == (recipe.data.augment == {})


@every_recipe
def test_the_files_that_it_names_are_beside_it(name):
    recipe = Recipe.load(name)
    if recipe.data.split_file is not None:
        assert recipe.resolve(recipe.data.split_file).is_file()


@every_recipe
def test_it_begins_with_the_command_that_runs_it(name):
    head = re.match(r"(#.*\n)+", find_recipe(name).read_text(encoding="utf-8"))
    assert head, "a recipe begins with a comment"
    lines = [line for line in head[0].splitlines() if "segcli train" in line]
    assert lines
    words = shlex.split(lines[0].lstrip("# ").replace("`", ""))
    assert words[2].rstrip(",;:") == name
    sets = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    Recipe.load(name, parse_overrides(sets))


@every_recipe
def test_an_expected_score_is_one_of_its_task(name):
    recipe = Recipe.load(name)
    known = {"detection": "bbox_", "instance": ("bbox_", "segm_"), "semantic": ("mIoU", "fwIoU"), "panoptic": ("PQ",)}
    known |= {task: ("bbox_", f"{task}_") for task in ("keypoints", "densepose", "mesh")}
    assert all(key.startswith(known[recipe.task]) for key in recipe.expect)


def test_a_run_of_each_recipe_has_a_name_of_its_own():
    names = [Recipe.load(name).name for name in shipped()]
    assert len(set(names)) == len(names)
