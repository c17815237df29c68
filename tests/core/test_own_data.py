"""Any recipe on any dataset: the recipe's own split file and scores stay behind, and it is said which."""

import json
import shutil
import warnings

import pytest
import yaml

from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe, find_recipe

OWN = ["data.name", "data.split_file", "expect"]


def load(*args, **kwargs):
    """(the recipe, the warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return Recipe.load(*args, **kwargs), [str(w.message) for w in caught]


@pytest.mark.parametrize("flag", ["data", "set"])
def test_what_belongs_to_the_recipes_dataset_is_left_out_and_said(tiny_dataset, flag):
    root = str(tiny_dataset)
    given = {"data": root} if flag == "data" else {"overrides": {"data.root": root}}
    recipe, told = load("pennfudan/mask_rcnn_lite", **given)
    assert (recipe.data.root, recipe.data.name, recipe.data.split_file, recipe.expect) == (root, None, None, {})
    assert recipe.data.size == 320
    assert told == [f"pennfudan/mask_rcnn_lite is used on {root}: left out {', '.join(OWN)} of its own dataset"]


def test_what_is_asked_for_stays(tiny_dataset, tmp_path):
    (tmp_path / "val.txt").write_text("five.png\n")
    sets = {"data.split_file": str(tmp_path / "val.txt"), "expect.segm_AP": {"value": 0.5}}
    recipe, told = load("pennfudan/mask_rcnn_lite", sets, data=tiny_dataset)
    assert recipe.data.split_file == str(tmp_path / "val.txt")
    assert recipe.expect["segm_AP"].value == 0.5
    assert "left out data.name of" in told[0]


def test_the_recipes_own_dataset_elsewhere_keeps_everything(tiny_copy):
    info = json.loads((tiny_copy / "info.json").read_text())
    (tiny_copy / "info.json").write_text(json.dumps({**info, "name": "pennfudan"}))
    for recipe, told in (
        load("pennfudan/mask_rcnn_lite", data=tiny_copy),
        load("pennfudan/mask_rcnn_lite", {"data.root": str(tiny_copy / "not there yet")}),
    ):
        assert not told
        assert recipe.data.name == "pennfudan"
        assert recipe.data.split_file.endswith("val_names.txt")
        assert recipe.expect


def test_the_run_is_called_after_the_data(tiny_dataset):
    folder = tiny_dataset.name
    assert load("custom/detr", data=tiny_dataset)[0].name == f"{folder}-detr"
    assert load("custom/detr", {"name": "mine"}, data=tiny_dataset)[0].name == "mine"
    assert load("custom/detr", {"data.root": str(tiny_dataset)})[0].name == "mine-detr"


def test_a_folder_that_is_not_prepared_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no prepared dataset") as caught:
        load("custom/detr", data=tmp_path)
    assert f"segcli prepare {tmp_path} --out data/NAME" in caught.value.hint


def test_a_bare_family_name_is_the_recipe_for_own_data(tmp_path, monkeypatch):
    assert find_recipe("mask_rcnn") == find_recipe("custom/mask_rcnn")
    monkeypatch.chdir(tmp_path)
    shutil.copy(find_recipe("quickstart/fcn"), "mask_rcnn")
    assert find_recipe("mask_rcnn").resolve() == tmp_path / "mask_rcnn"  # a file of one's own goes first
    with pytest.raises(UsageError, match="no recipe 'mask_rcn'"):
        find_recipe("mask_rcn")


@pytest.mark.parametrize("name", ["custom/mask_rcnn", "mask_rcnn", "recipes/custom/mask_rcnn.yaml"])
def test_a_shipped_recipe_is_extended_by_name(tmp_path, name):
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({"extends": name, "name": "own", "data": {"root": "data/own"}}))
    assert Recipe.load(file).model == Recipe.load("custom/mask_rcnn").model
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(find_recipe("quickstart/fcn"), tmp_path / name)  # a file beside it goes first
    assert Recipe.load(file).task == "semantic"


def test_a_name_that_nothing_has_is_refused_with_the_nearest(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("extends: custom/mask_rcn\nname: own\n")
    with pytest.raises(UsageError, match="no shipped recipe is called so") as caught:
        Recipe.load(file)
    assert "custom/mask_rcnn" in caught.value.hint


def test_a_runs_data_is_found_from_another_folder(trained, tmp_path, monkeypatch):
    """Beside the recipe's folder or above; the working folder's own goes first; what is nowhere stays a name."""
    file = trained / "runs" / "tiny run" / "recipe.yaml"
    monkeypatch.chdir(tmp_path)
    recipe, told = load(file)
    assert recipe.data.root == str(trained / "data" / "tiny")
    assert told == [f"{file}: data.root data/tiny is taken from {trained / 'data' / 'tiny'}"]
    assert "root: data/tiny\n" in recipe.to_yaml(file), "in its own file it stays, so that both can be moved"
    assert f"root: {trained}" in recipe.to_yaml(tmp_path / "other.yaml")
    assert load(file, {"data.root": "data/tiny"})[0].data.root == "data/tiny", "a flag means the working folder"
    shutil.copytree(trained / "data", tmp_path / "data")
    assert Recipe.load(file).data.root == "data/tiny"
    assert Recipe.load("quickstart/mask_rcnn").data.root == "data/shapes"


def test_the_recipes_own_dataset_by_another_path_is_no_other(tiny_copy, tmp_path, monkeypatch):
    (tmp_path / "val.txt").write_text("five.png\n")
    (tmp_path / "r.yaml").write_text(
        "name: a\ntask: instance\nmodel: {name: rcnn_lite}\ntrain: {steps: 1}\n"
        f"data: {{root: {tiny_copy.name}, split_file: val.txt}}\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe, told = load(tmp_path / "r.yaml", {"data.root": str(tiny_copy)})
    assert (recipe.data.split_file, told) == ("val.txt", [])
