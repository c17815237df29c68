"""Rows from finished runs and from recipes; what is broken is named and skipped."""

import json
import os
import subprocess
import sys

import pytest

from segcli.compare.row import backbone_name
from segcli.compare.rows import collect, run_row
from segcli.core.errors import ModelError, UsageError


def silent(text: str) -> None:
    pass


def test_a_finished_run_gives_every_cell(fake_run):
    row = run_row(fake_run("my run 🐈", gflops=3.5, metrics={"segm_AP": 0.5, "bbox_AP": None}))
    expected = {
        "name": "my run 🐈",
        "source": "run",
        "model": "rcnn_lite",
        "variant": None,
        "backbone": "resnet18",
        "data": "shapes",
        "params": 5_000_000,
        "params_published": None,
        "gflops": 3.5,
        "gflops_paper_rule": None,
        "gflops_published": None,
        "latency_ms": {"median": 45.6, "p95": 50.0},
        "peak_memory_mb": 123.4,
        "metrics": {"segm_AP": 0.5},
        "metrics_published": {},
        "ci95": {},
        "train_seconds": 270.0,
        "split": "val",
        "images": 20,
        "primary": "segm_AP",
    }
    assert {key: getattr(row, key) for key in expected} == expected


@pytest.mark.parametrize("name", ["metrics.json", "cost.json", "environment.json"])
def test_an_interrupted_run_names_the_file_and_how_to_go_on(fake_run, name):
    run = fake_run("a")
    (run / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: missing, the run is not finished") as caught:
        run_row(run)
    assert caught.value.hint == f"segcli train --resume {run}"


@pytest.mark.parametrize("text", ['{"params": 1', "", "[]", "{}", "\x00"])
@pytest.mark.parametrize("name", ["metrics.json", "cost.json", "environment.json"])
def test_a_truncated_or_foreign_file_is_refused(fake_run, name, text):
    run = fake_run("a")
    (run / name).write_text(text)
    with pytest.raises(ModelError, match="a"):
        run_row(run)


def test_what_is_broken_is_reported_and_the_rest_remains(fake_run, tmp_path):
    good, bad = fake_run("good"), fake_run("bad")
    (bad / "metrics.json").write_text("{")
    (tmp_path / "typo.yaml").write_text("name: x\n")
    rows, failed = collect([good, bad, tmp_path / "absent", tmp_path / "typo.yaml"], silent)
    assert [r.name for r in rows] == ["good"]
    assert [item for item, _ in failed] == [str(bad), str(tmp_path / "absent"), str(tmp_path / "typo.yaml")]
    assert [type(error) for _, error in failed] == [ModelError, ModelError, UsageError]


@pytest.mark.parametrize(
    "settings", ["variant: 3", "variant: [a, 1]", "heads: {1: {}, mask: {}}", "backbone: {name: [x]}"]
)
def test_a_model_section_of_odd_values_is_shown(fake_run, segcli, settings):
    run = fake_run("a", recipe=f"model: {{name: rcnn, {settings}}}\n")
    for flags in ((), ("--json",)):
        assert segcli("compare", run, *flags).code == 0


def test_comparing_finished_runs_needs_no_torch(fake_run, tmp_path):
    """The command itself, with what it can write, in a process where importing one of them is an error."""
    runs = [str(fake_run(name, gflops=2.0, metrics={"segm_AP": 0.5})) for name in ("a", "b")]
    site = tmp_path / "site"
    site.mkdir()
    for module in ("torch", "torchvision", "cv2", "timm", "scipy", "matplotlib"):
        (site / f"{module}.py").write_text("raise AssertionError(f'{__name__} is imported')\n")
    command = [sys.executable, "-m", "segcli.cli.app", "compare", *runs, "--published", "--debug"]
    for more in ([], ["--json"], ["--csv", "t.csv"], ["--sort", "gflops"]):
        paths = os.pathsep.join([str(site), *filter(None, sys.path)])
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}
        )
        assert done.returncode == 0, done.stderr
        assert not (more and more[0] == "--json") or {r["name"] for r in json.loads(done.stdout)["rows"]} >= {"a", "b"}


RECIPE = """
name: x
task: instance
data: {root: %s, size: 64}
model:
  name: rcnn_lite
  backbone: {name: timm, model: test_resnet}
  heads: {iou_box: {}, lite_mask: {}}
  proposals: [10, 10]
hardware: {device: cpu, workers: 0}
"""


def test_an_untrained_recipe_is_built_and_measured(tmp_path, tiny_dataset):
    recipe = tmp_path / "x.yaml"
    recipe.write_text(RECIPE % json.dumps(str(tiny_dataset)), encoding="utf-8")
    said: list[str] = []
    rows, failed = collect([recipe], said.append)
    assert not failed
    row = rows[0]
    assert (row.source, row.data, row.metrics, row.notes) == ("recipe", "tiny", {}, [])
    assert row.params == 3_776_894
    assert row.gflops > 0.1
    assert row.gflops_input == [64, 64]
    assert row.latency_ms["median"] > 0
    assert said == [f"measuring {recipe}"]


def test_a_dataset_that_is_not_there_is_said_to_be_replaced(tmp_path):
    recipe = tmp_path / "x.yaml"
    recipe.write_text(RECIPE % "data/absent", encoding="utf-8")
    rows, _ = collect([recipe], silent)
    assert "data/absent is not prepared, so it is measured for COCO's 80 thing classes" in rows[0].notes[0]


def test_a_recipe_whose_model_cannot_be_built_is_reported(tmp_path, tiny_dataset):
    recipe = tmp_path / "x.yaml"
    recipe.write_text(RECIPE.replace("heads: {iou_box", "heads: {bx") % json.dumps(str(tiny_dataset)), encoding="utf-8")
    rows, failed = collect([recipe], silent)
    assert rows == []
    assert "no head is called 'bx'" in str(failed[0][1])
    assert "x.yaml" in str(failed[0][1])


def test_an_instance_model_without_masks_is_refused_before_any_work(tmp_path, tiny_dataset):
    recipe = tmp_path / "x.yaml"
    recipe.write_text(RECIPE.replace(", lite_mask: {}", "") % json.dumps(str(tiny_dataset)), encoding="utf-8")
    rows, failed = collect([recipe], silent)
    assert rows == []
    assert "task instance needs a head that gives masks" in str(failed[0][1])


def test_backbones_have_short_names():
    assert backbone_name({"name": "resnet", "depth": 50, "norm": "frozen"}) == "resnet50"
    assert backbone_name({"name": "swin", "variant": "tiny"}) == "swin-tiny"
    assert backbone_name({"name": "timm", "model": "tf_efficientnet_lite0"}) == "tf_efficientnet_lite0"
    assert backbone_name({"name": "efficientnet_lite0", "weights": "imagenet"}) == "efficientnet_lite0"
    assert backbone_name(None) is None


def test_data_that_can_not_be_read_is_noted_and_ends_nothing(fake_run, tmp_path, monkeypatch):
    """Of runs of an earlier version it is asked whether their data is still the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "shapes").mkdir(parents=True)
    (tmp_path / "data" / "shapes" / "info.json").write_text("{", encoding="utf-8")
    runs = [fake_run("old", fingerprint="a" * 64), fake_run("new", fingerprint="2:a.b.c.d")]
    (tmp_path / "data" / "shapes" / "annotations").mkdir()
    rows, failed = collect(runs, silent)
    assert [row.name for row in rows] == ["old", "new"]
    assert failed == []


def test_a_linked_dataset_that_nobody_trusts_is_noted_too(fake_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segcli.data.fingerprint.changes", lambda *_: [])

    def refuse(root):
        raise ModelError(f"{root}: lies outside")

    monkeypatch.setattr("segcli.data.fingerprint.current", refuse)
    (tmp_path / "data" / "shapes").mkdir(parents=True)
    (tmp_path / "data" / "shapes" / "info.json").write_text("{}", encoding="utf-8")
    rows, _ = collect([fake_run("old", fingerprint="a" * 64), fake_run("new", fingerprint="2:a.b.c.d")], silent)
    assert rows[0].notes == ["old: whether its data is the same can't be told: data/shapes: lies outside"]
