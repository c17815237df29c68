"""Fine-tuning on real photographs, from a checkpoint folder of `transformers`, moves what the recipe says."""

import re
import shutil

import pytest
import tiny_checkpoints
import torch
import yaml

from segcli.commands.prepare import prepare
from segcli.weights.transformers_checkpoint import read

NAMES = {0: "hazelnut", 1: "fig", 2: "date"}


@pytest.fixture(scope="module")
def fruits(shared_data, tmp_path_factory):
    return prepare(str(shared_data / "fruits_nuts"), tmp_path_factory.mktemp("fruits") / "data", link=True)


@pytest.mark.parametrize(
    ("name", "task", "names", "optimizer", "frozen", "said"),
    [
        (
            "RTDetrV2ForObjectDetection",
            *("detection", tiny_checkpoints.NAMES, {"backbone_lr": 0}, "model.backbone."),
            "class layers begin anew.*backbone [0-9.]+ M frozen.*that begin at random",
        ),
        (
            "RfDetrForInstanceSegmentation",
            *("instance", NAMES, {"layer_decay": 0.5}, "nothing"),
            "class rows taken by name.*backbone [0-9.]+ M at 1.8e-06 to 5.9e-05",
        ),
    ],
)
def test_what_is_frozen_stays_and_the_rest_moves(
    segcli, fruits, shared_data, tmp_path, name, task, names, optimizer, frozen, said
):
    tiny_checkpoints.save(name, tmp_path / "checkpoint", names=names)
    recipe = {
        **{"name": "fruits", "task": task, "data": {"root": str(fruits)}},
        "model": {"name": "transformers", "checkpoint": "checkpoint"},
        "train": {"steps": 3, "batch_size": 2, "evaluations": 1, "optimizer": optimizer}
        | {"schedule": {"new_layers_first": 1}},
        "hardware": {"device": "cpu", "workers": 0, "threads": 1},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    before = read(str(tmp_path / "checkpoint"), name).state
    trained = segcli("train", "r.yaml")
    assert trained.code == 0, trained.err
    assert re.search(said, trained.err, re.S), trained.err
    shutil.rmtree(tmp_path / "checkpoint")

    state = torch.load(tmp_path / "runs" / "fruits" / "checkpoints" / "last.pt", weights_only=True)["model"]
    after = {key.removeprefix("net."): value for key, value in state.items()}
    both = [key for key in before if key in after and before[key].is_floating_point()]
    moved = {key for key in both if not torch.equal(before[key], after[key])}
    stayed = {key for key in both if key.startswith(frozen)}
    assert moved.isdisjoint(stayed)
    assert bool(stayed) == (frozen != "nothing")
    assert any("backbone" in key for key in moved) == (frozen == "nothing")
    assert any(".decoder." in key for key in moved)
    found = segcli(
        "predict", "runs/fruits", shared_data / "fruits_nuts" / "images" / "0.jpg", "--out", "out", "--score", 0
    )
    assert found.code == 0, found.err
