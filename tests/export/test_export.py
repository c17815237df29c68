"""`segcli export` end to end: a run's file predicts, scores and stands in a comparison as the run does."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from segcli.cli import app
from segcli.core.errors import ModelError, UsageError
from segcli.engine.exported import open_exported
from segcli.export.export import _place
from segcli.models.exported.description import describe

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A folder with the tiny run, its data and exported/tiny run.onnx, made by `segcli export`."""
    folder = tmp_path_factory.mktemp("exported") / "a folder"
    shutil.copytree(trained, folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert app.run(["export", "runs/tiny run", "--to", "onnx", "-q"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def file(exported, tmp_path):
    """A copy of the file alone, that a test may change."""
    return shutil.copy(exported / "exported" / "tiny run.onnx", tmp_path / "copy.onnx")


def test_it_scores_as_the_run_does_and_is_compared(exported, segcli, monkeypatch):
    monkeypatch.chdir(exported)
    file = "exported/tiny run.onnx"
    run = json.loads((exported / "runs/tiny run/metrics.json").read_text())["metrics"]
    assert segcli("eval", file, "--json", "-q").json["metrics"] == pytest.approx(run, abs=0.01)
    rows = segcli("compare", "runs/tiny run", file, "--json", "-q").json["rows"]
    assert [row["name"] for row in rows] == ["tiny run", "tiny run.onnx"]
    assert rows[1]["params"] == rows[0]["params"]
    assert rows[1]["latency_ms"]["median"] > 0


def test_it_predicts(exported, segcli, monkeypatch):
    monkeypatch.chdir(exported)
    (exported / "no.jpg").write_bytes(b"no image")
    found = segcli(
        "predict", "exported/tiny run.onnx", "data/tiny/images", "no.jpg", "--score", "0", "--out", "p", "--json"
    )
    assert found.json["images"] == 5
    assert [one["file"] for one in found.json["failed"]] == ["no.jpg"]
    assert len(list((exported / "p/masks").glob("*.png"))) == 5


def test_the_script_beside_it_runs_without_segcli(exported):
    script = exported / "exported" / "tiny run.onnx.py"
    text = script.read_text().replace("score >= 0.5", "score >= 0.0")
    assert "import segcli" not in text
    alone = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    assert "tiny run.onnx.py IMAGE" in alone.stderr
    image = exported / "data/tiny/images/five.png"
    done = subprocess.run(
        [sys.executable, "-c", f"__file__ = {str(script)!r}\n{text}", str(image)],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    assert lines
    assert last.endswith(f" of {len(lines)} detections have a score of at least 0.5"), "and not silence where none has"
    assert all(line.split()[0] in ("cat", "dog") and len(line.split()) == 6 for line in lines)


def test_the_file_says_what_it_is(exported):
    about = describe(exported / "exported" / "tiny run.onnx")
    assert about.classes == ["cat", "dog"]
    assert about.outputs == ["boxes", "labels", "scores", "masks"]
    assert about.canvas == (64, 64)
    assert about.recipe["model"]["name"] == "rcnn_lite"
    model = onnx.load(exported / "exported" / "tiny run.onnx")
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim][:2] == ["height", "width"]


def test_a_changed_file_is_refused(exported, file, segcli):
    model = onnx.load(file)
    weight = next(
        t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.raw_data) > 1000
    )
    weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
    onnx.save(model, file)
    shutil.copy(exported / "data/tiny/images/five.png", "x.png")
    found = segcli("predict", "copy.onnx", "x.png")
    assert found.code == 4
    assert "was changed after it was exported" in found.error


def test_a_file_of_another_version_is_refused(file):
    model = onnx.load(file)
    values = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**values, "format": 99})
    onnx.save(model, file)
    with pytest.raises(ModelError, match="has format 99"):
        describe(file)


def test_operators_of_others_and_weights_elsewhere_are_refused(file):
    model = onnx.load(file)
    model.graph.node[3].domain = "somebody"
    onnx.save(model, file)
    with pytest.raises(ModelError, match=r"operator somebody\.\w+ is not ONNX's own"):
        describe(file)
    model.graph.node[3].domain = ""
    weight = model.graph.initializer[0]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="lies in another file"):
        describe(file)
    del model.graph.initializer[:]
    value = model.graph.node.add(op_type="Constant", output=["more"]).attribute.add(name="value", type="TENSOR").t
    value.data_location = onnx.TensorProto.EXTERNAL
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="lies in another file"):
        describe(file)


def test_a_file_gives_as_many_detections_as_its_recipe_says(file):
    from segcli.models.exported.onnx import bare

    model, about = onnx.load(file), describe(file)
    recipe = {**about.recipe, "eval": {**about.recipe["eval"], "max_detections": 300}}
    changed = about.model_copy(update={"recipe": recipe}).sealed(bare(model))
    model.metadata_props[0].value = changed.model_dump_json()
    onnx.save(model, file)
    assert open_exported(file)[0].max_detections == 300


def test_weights_of_somebody_else_are_not_written_over(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"a\.bin is there already"):
        _place(tmp_path / "run", "openvino", tmp_path / "a.xml", False, False)
    assert _place(tmp_path / "run", "openvino", tmp_path / "b.xml", False, False) == tmp_path / "b.xml"


@pytest.mark.parametrize("content", [b"", b"text", bytes(range(256)) * 40], ids=["empty", "text", "noise"])
def test_what_is_no_model_is_refused(content, tmp_path, segcli):
    (tmp_path / "x.onnx").write_bytes(content)
    (tmp_path / "a.png").write_bytes(b"")
    found = segcli("eval", "x.onnx")
    assert found.code == 4
    assert found.error.startswith("error: x.onnx: ")


def test_a_pytorch_program_is_not_run(tmp_path, segcli):
    (tmp_path / "x.pt2").write_bytes(b"")
    found = segcli("eval", "x.pt2")
    assert found.code == 4
    assert "unpickles" in found.error


@pytest.mark.parametrize(
    ("flags", "code", "error"),
    [
        (["--to", "onnx"], 2, "is there already"),
        (["--to", "onnx", "--out", "x.xml"], 2, "--to onnx writes .onnx files"),
        (["--to", "torch", "--int8"], 2, "--int8 is for"),
        (["--to", "tflite"], 2, "tflite"),
    ],
)
def test_bad_flags_are_named_before_any_work(exported, segcli, monkeypatch, flags, code, error):
    monkeypatch.chdir(exported)
    found = segcli("export", "runs/tiny run", *flags)
    assert found.code == code
    assert error in found.error


def test_a_file_that_predicts_otherwise_is_not_kept(exported, segcli, monkeypatch):
    monkeypatch.chdir(exported)
    from segcli.models.exported.exported import ExportedModel

    read = ExportedModel.read
    spoilt = lambda self, out, *more: read(self, {**out, "boxes": out["boxes"] + np.float32(0.2)}, *more)
    monkeypatch.setattr(ExportedModel, "read", spoilt)
    monkeypatch.setattr("segcli.export.export._write", lambda *_: shutil.copy("exported/tiny run.onnx", _[2]))
    found = segcli("export", "runs/tiny run", "--to", "onnx", "--out", "other.onnx")
    assert found.code == 4
    assert "boxes differ by 0.2" in found.error
    assert not (exported / "other.onnx").exists()
