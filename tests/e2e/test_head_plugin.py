"""The worked example of docs/write_a_head.md: a package of its own, installed without network, used by each command."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segcli.data.augment.compose import build_augment

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "orientation"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The example in a folder of its own, as pip puts it."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")  # setuptools writes beside what it builds
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def with_plugin(installed, monkeypatch):
    monkeypatch.syspath_prepend(installed)
    importlib.invalidate_caches()
    yield
    for name in [n for n in sys.modules if n.startswith("segcli_orientation")]:
        del sys.modules[name]


def test_from_the_labels_to_the_comparison(with_plugin, segcli, tmp_path):
    make = [sys.executable, str(EXAMPLE / "make_arrows.py"), str(tmp_path / "raw"), "8", "3"]
    subprocess.run(make, check=True)
    shutil.copy(EXAMPLE / "arrows.yaml", tmp_path)
    assert segcli("prepare", "raw", "--out", "data/arrows").code == 0
    sets = ["train.minutes=null", "train.steps=4", "train.batch_size=2", "hardware.workers=0", "model.width=32"]
    sets.append("model.heads.box.score=0.0")  # after four steps no score is high
    done = segcli("train", "arrows.yaml", *(word for s in sets for word in ("--set", s)))
    assert done.code == 0, done.err

    run = tmp_path / "runs" / "arrows"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[0]["loss_orientation"] > 0
    found = json.loads((run / "predictions" / "val.json").read_text(encoding="utf-8"))
    assert found
    assert all(-180 <= entry["orientation"] <= 180 for entry in found)

    scored = segcli("eval", run, "--json")
    assert scored.code == 0, scored.err
    assert 0 <= scored.json["metrics"]["orientation_accuracy"] <= 1
    assert "bbox_AP" in scored.json["metrics"]

    assert segcli("predict", run, "raw/images/val_0000.png", "--score", "0", "--out", "out").code == 0
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert all("orientation" in entry for entry in saved["annotations"])
    assert segcli("visualize", "predictions", run).code == 0

    compared = segcli("compare", run, "--sort", "orientation_accuracy")
    assert compared.code == 0, compared.err
    row = segcli("compare", run, "--json").json["rows"][0]
    assert row["metrics"]["orientation_accuracy"] == scored.json["metrics"]["orientation_accuracy"]


def test_labels_that_are_no_directions_and_half_a_command_are_refused(with_plugin, tmp_path):
    from segcli_orientation.field import Orientation

    wrong = [{"id": i, "orientation": v} for i, v in enumerate(("north", None, float("inf"), float("nan"), 12.5))]
    assert [text.split(":")[0] for text in Orientation.problems([*wrong, {"id": 9}], None)] == [
        f"annotation {i}" for i in range(4)
    ]
    make = [sys.executable, str(EXAMPLE / "make_arrows.py"), str(tmp_path / "raw"), "8"]
    done = subprocess.run(make, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FOLDER [TRAIN VAL]" in done.stderr
    assert not (tmp_path / "raw").exists()


def test_the_field_follows_the_image_and_is_drawn(with_plugin, tiny_copy):
    from segcli_orientation.field import Orientation

    from segcli.data.dataset import Dataset
    from segcli.drawing.overlays import draw

    path = tiny_copy / "annotations" / "train.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["annotations"][0]["orientation"] = 30.0
    path.write_text(json.dumps(data), encoding="utf-8")
    dataset = Dataset(tiny_copy, "train", fields={"orientation": Orientation})
    sample = dataset.read(0)
    assert sample.target.instances.fields["orientation"].angle.rad2deg()[0] == pytest.approx(30)
    augment = build_augment({"flip": 1.0}, canvas=None, info=dataset.info)
    import numpy as np

    flipped = augment(sample, np.random.default_rng(0), lambda: sample)
    angle = flipped.target.instances.fields["orientation"].angle
    assert angle.rad2deg()[0] == pytest.approx(150)
    assert angle[1].isnan()
    bare = Dataset(tiny_copy, "train").read(0)
    assert (draw(sample.image, sample.target, dataset.info) != draw(bare.image, bare.target, dataset.info)).any()


def test_every_parameter_learns_and_objects_without_labels_do_not_harm(with_plugin):
    from segcli_orientation.field import Orientation

    from segcli.models import build_model
    from segcli.types import Batch, Instances, Target

    torch.manual_seed(0)
    settings = {"name": "rcnn", "backbone": {"name": "plain"}, "heads": {"box": {"width": 32}, "orientation": {}}}
    model = build_model(settings, task="detection", num_classes=1, num_things=1)
    boxes = torch.tensor([[10.0, 10, 50, 40], [30, 30, 60, 62]])
    for angles in ([0.5, torch.nan], [torch.nan, torch.nan]):
        model.zero_grad()
        field = {"orientation": Orientation(torch.tensor(angles))}
        target = Target(1, (64, 64), Instances(boxes, torch.zeros(2, dtype=torch.int64), fields=field))
        padding = torch.zeros(1, 64, 64, dtype=torch.bool)
        batch = Batch(torch.randn(1, 3, 64, 64), padding, [(64, 64)], [(64, 64)], [1], [target], [3])
        losses = model(batch)
        assert all(value.isfinite() for value in losses.values())
        assert (losses["loss_orientation"] > 0) == (angles[0] == 0.5)
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
