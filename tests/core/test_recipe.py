"""Recipes: every mistake is named at once, with place and nearest valid key; what is written reads back equal."""

import json
from pathlib import Path

import pytest
import yaml

from segcli.core.errors import ModelError, UsageError
from segcli.core.recipe.recipe import Recipe, find_recipe, find_source, parse_overrides, schema, shipped

BASE = """
name: a
task: instance
data: {root: data/x}
model: {name: rcnn, backbone: {name: resnet, depth: 50}, heads: {box: {}, mask: {}}}
train: {epochs: 2}
"""


@pytest.fixture
def load(tmp_path):
    """Write a recipe and read it back; `sets` are --set flags."""

    def load(text: str, *sets: str, name: str = "r.yaml") -> Recipe:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return Recipe.load(file, parse_overrides(list(sets)))

    return load


def refused(load, text: str, *sets: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(text, *sets)
    return str(caught.value)


def test_all_mistakes_are_reported_at_once_with_the_nearest_key(load):
    message = refused(load, BASE + "evl: {}\nhardware: {wrkers: 3, devices: 0, device: gpu}\nexpect: {mIoU: {valu: 1}}")
    assert "r.yaml: " in message
    assert "evl is not a recipe key (did you mean 'eval'?)" in message
    assert "hardware.wrkers is not a recipe key (did you mean 'workers'?)" in message
    assert "hardware.devices: input should be greater than 0, not 0" in message
    assert "hardware.device: expected auto, cpu, mps, cuda or cuda:N, not 'gpu'" in message
    assert "expect.mIoU.valu is not a recipe key (did you mean 'value'?)" in message
    assert "expect.mIoU.value is missing" in message
    assert "\n" not in message


def test_missing_keys_are_named(load):
    message = refused(load, "name: a\n")
    assert [f"{key} is missing" in message for key in ("task", "data", "model")] == [True] * 3
    assert "model.name is missing" in refused(load, BASE.replace("{name: rcnn, ", "{"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "the key 'name' stands twice (line 2, column 1)"),
        ("name: [a\n", "not valid YAML"),
        ("- a\n", "a recipe is a mapping of keys to values, not list"),
        ("", "a recipe is a mapping of keys to values, not NoneType"),
        (BASE.replace("{root: data/x}", "x"), "data: input should be a mapping of keys to values, not 'x'"),
        (BASE.replace("data/x", "data/x, size: big"), "data.size: expected a number or a pair of numbers, not 'big'"),
        (BASE.replace("data/x", "data/x, size: -5"), "data.size: input should be greater than 0, not -5"),
        (BASE.replace("epochs: 2", "epochs: 2, steps: 3"), "train: set exactly one of epochs, steps, minutes"),
        (BASE.replace("epochs: 2", "epochs: .inf"), "train.epochs: input should be a finite number"),
        (BASE.replace("epochs: 2", "epochs: 2, accumulate: 2, batch_size: 3"), "not a multiple of accumulate 2"),
        (BASE.replace("instance", "instances"), "task: input should be 'detection', 'instance'"),
        (BASE + "init: !!python/object/apply:os.system [true]\n", "not valid YAML"),
    ],
)
def test_what_is_refused(load, text, says):
    assert says in refused(load, text)


def test_set_reads_numbers_lists_null_and_text(load):
    recipe = load(
        BASE,
        "train.optimizer.lr=1e-4",
        "train.optimizer.betas=[0.9, 0.95]",
        "train.ema=null",
        "data.size=[320, 480]",
        "data.root=a folder/=b",
        "model.heads.box.score=5E-2",
    )
    assert recipe.train.optimizer.lr == 1e-4
    assert recipe.train.optimizer.betas == (0.9, 0.95)
    assert recipe.train.ema is None
    assert recipe.data.size == (320, 480)
    assert recipe.data.root == "a folder/=b"
    assert recipe.model["heads"]["box"]["score"] == 0.05


def test_set_makes_a_section_that_the_file_does_not_have(load):
    assert load(BASE, "train.schedule.name=step").train.schedule.name == "step"


def test_one_length_replaces_another(load):
    train = load(BASE, "train.steps=7").train
    assert (train.epochs, train.steps, train.minutes) == (None, 7, None)


def test_null_removes_a_head(load):
    assert load(BASE, "model.heads.mask=null").model["heads"] == {"box": {}}


def test_mistakes_in_set_name_the_flag(load):
    message = refused(load, BASE + "evl: 1\n", "train.epoch=3", "hardware.workers=-1")
    assert "--set train.epoch: train.epoch is not a recipe key (did you mean 'epochs'?)" in message
    assert "--set hardware.workers: hardware.workers: input should be" in message
    assert "; evl is not a recipe key" in message
    assert "--set name.x: name is not a mapping" in refused(load, BASE, "name.x=3")


@pytest.mark.parametrize("pair", ["train.epochs", "=3", "a=[1", "a={b: 1, b: 2}"])
def test_set_that_is_no_pair_is_refused(pair):
    with pytest.raises(UsageError, match="--set"):
        parse_overrides([pair])


def test_set_never_evaluates():
    with pytest.raises(UsageError):
        parse_overrides(["name=!!python/object/apply:os.getcwd []"])
    assert parse_overrides(["name=__import__('os')"]) == {"name": "__import__('os')"}


def test_yaml_numbers_and_merge_keys(load):
    text = BASE.replace("epochs: 2", "epochs: 2, ema: 9e-1, optimizer: {lr: 1e-4}") + "expect:\n"
    text += "  mIoU: &e {value: 0.5, tolerance: 0.1}\n  PQ: {<<: *e, value: 0.4}\n"
    recipe = load(text)
    assert (recipe.train.ema, recipe.train.optimizer.lr) == (0.9, 1e-4)
    assert (recipe.expect["PQ"].value, recipe.expect["PQ"].tolerance) == (0.4, 0.1)


def test_extends_merges_mapping_by_mapping(load):
    load(BASE + "hardware: {workers: 5}\n", name="parent.yaml")
    child = load(
        "extends: parent.yaml\nname: b\nmodel: {backbone: {depth: 101}, heads: {mask: null}}\n"
        "train: {minutes: 3, seed: 4}\n"
    )
    assert (child.name, child.task, child.hardware.workers, child.train.seed) == ("b", "instance", 5, 4)
    assert child.model == {"name": "rcnn", "backbone": {"name": "resnet", "depth": 101}, "heads": {"box": {}}}
    assert (child.train.epochs, child.train.minutes) == (None, 3)


def test_extends_another_name_replaces_the_whole_mapping(load):
    load(BASE, name="parent.yaml")
    child = load("extends: parent.yaml\nmodel: {backbone: {name: swin, size: tiny}}\n")
    assert child.model["backbone"] == {"name": "swin", "size": "tiny"}
    assert child.model["heads"] == {"box": {}, "mask": {}}


def test_extends_with_another_dataset_keeps_size_and_augmentation(load):
    load(BASE.replace("data/x", "data/x, name: x, size: 320, augment: {flip: 0.5}"), name="parent.yaml")
    data = load("extends: parent.yaml\ndata: {name: null, root: data/y}\n").data
    assert (data.name, data.root, data.size, data.augment) == (None, "data/y", 320, {"flip": 0.5})


def test_null_is_the_default_where_a_key_cannot_be_null(load):
    recipe = load(BASE + "expect: null\nhardware: null\n", "data.augment=null", "train.optimizer=null")
    assert (recipe.expect, recipe.hardware.workers, recipe.data.augment) == ({}, 2, {})
    assert load(BASE, "model.heads.box.nms=null").model["heads"]["box"] == {"nms": None}
    assert "task is missing" in refused(load, BASE, "task=null")


def test_extends_finds_the_split_file_that_lies_beside_the_parent(load, tmp_path):
    load(BASE.replace("data/x", "data/x, split_file: val.txt"), name="recipes/parents/parent.yaml")
    (tmp_path / "recipes/parents/val.txt").write_text("a.png\n")
    child = load("extends: ../parents/parent.yaml\nname: b\n", name="recipes/children/child.yaml")
    assert child.resolve(str(child.data.split_file)).read_text() == "a.png\n"


def test_extends_itself_or_nothing(load, tmp_path):
    (tmp_path / "other.yaml").write_text("extends: r.yaml\n")
    assert "extends itself" in refused(load, "extends: other.yaml\n")
    assert "there is no file" in refused(load, "extends: absent.yaml\n")


def test_written_and_read_again_it_is_equal(load, tmp_path):
    recipe = load(
        BASE.replace("name: a", "name: 이름 🐈").replace("data/x", "data/x, size: [300, 400]"),
        "train.optimizer.lr=1e-5",
        "model.note=1e-4x",
    )
    (tmp_path / "again.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.load(tmp_path / "again.yaml").model_dump() == recipe.model_dump()
    assert "이름 🐈" in recipe.to_yaml()


def test_a_recipe_is_found_by_shipped_name_and_by_path(tmp_path):
    name = shipped()[0]
    file = find_recipe(name)
    assert find_recipe(f"recipes/{name}.yaml").name == file.name
    assert find_recipe(file) == file
    with pytest.raises(UsageError, match="no recipe") as caught:
        find_recipe(name + "x")
    assert f"did you mean '{name}'?" in str(caught.value.hint)


def test_a_run_or_a_recipe_is_found_and_a_missing_one_says_which(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "my run"
    run.mkdir(parents=True)
    with pytest.raises(ModelError, match="not a run folder"):
        find_source("runs/my run")
    (run / "recipe.yaml").write_text(BASE)
    assert find_source("runs/my run") == Path("runs/my run")
    assert find_source(shipped()[0]).suffix == ".yaml"
    with pytest.raises(ModelError, match="no run folder") as caught:
        find_source("runs/my rum")
    assert caught.value.hint == "did you mean 'runs/my run'?"
    with pytest.raises(UsageError, match="no recipe"):
        find_source("absent.yaml")


def test_a_recipe_that_is_not_text(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(UsageError, match=r"r\.yaml: can't be read as UTF-8 text"):
        Recipe.load(tmp_path / "r.yaml")


def test_primary_metric_follows_the_task(load):
    assert load(BASE).primary == "segm_AP"
    assert load(BASE.replace("instance", "panoptic")).primary == "PQ"


def test_json_schema_knows_every_key_and_requires_none():
    made = schema()
    assert json.loads(json.dumps(made)) == made
    assert set(Recipe.model_fields) | {"extends"} == set(made["properties"])
    assert "required" not in made
    assert made["$defs"]["Train"]["properties"]["clip"]["description"] == "Largest gradient norm over the whole model."
    assert made["additionalProperties"] is False


def test_every_yaml_of_the_recipe_folder_is_shipped():
    folder = Path(__file__).parents[2] / "recipes"
    assert shipped() == sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    assert all(isinstance(yaml.safe_load(p.read_text(encoding="utf-8")), dict) for p in folder.rglob("*.yaml"))


def test_another_length_replaces_what_a_run_recorded_of_its_own(tmp_path):
    text = "name: a\ntask: instance\ndata: {root: d}\nmodel: {name: rcnn}\n"
    (tmp_path / "r.yaml").write_text(text + "train: {steps: 900, retimed: [[10, 900]]}\n", encoding="utf-8")
    recipe = Recipe.load(tmp_path / "r.yaml", {"train.minutes": 10})
    assert (recipe.train.minutes, recipe.train.steps, recipe.train.retimed) == (10, None, [])


@pytest.mark.parametrize("key", ["data.root", "data.source", "data.split_file", "init"])
def test_paths_that_no_system_takes_are_refused_by_key(tmp_path, key):
    file = tmp_path / "r.yaml"
    file.write_text("name: a\ntask: instance\ndata: {root: x}\nmodel: {name: rcnn}\n", encoding="utf-8")
    for value in ("é" * 300, "a/" + "b" * 256, "c/" * 4000, "a\0b"):
        with pytest.raises(UsageError, match=rf"{key}: .* can't be a path"):
            Recipe.load(file, {key: value})
    assert Recipe.load(file, {key: "é" * 127 + "/" + "b" * 255}).name == "a"
