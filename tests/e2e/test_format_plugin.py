"""The worked example of docs/write_a_format.md: a package of its own that adds a format."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from segcli import fields

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "csv_boxes"
ROWS = ["file,x1,y1,x2,y2,class", "p/a.png,10,20,60,50,leaf", "p/a.png,0,0,8,8,bug", "p/b.png,1,2,3,9,leaf"]


@pytest.fixture
def register(monkeypatch, tmp_path):
    """Make a package known that registers `name`, as pip does."""

    def make(name: str) -> None:
        info = tmp_path / "site" / "segcli_csv_boxes-0.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: segcli-csv-boxes\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[segcli.plugins]\n{name} = segcli_csv_boxes\n")
        monkeypatch.syspath_prepend(info.parent)
        monkeypatch.syspath_prepend(EXAMPLE)
        importlib.invalidate_caches()

    yield make
    sys.modules.pop("segcli_csv_boxes", None)


@pytest.fixture
def boxes(tmp_path):
    """A CSV of boxes with its two images."""
    (tmp_path / "in" / "p").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (64, 56)).save(tmp_path / "in" / "p" / f"{name}.png")

    def write(rows: list[str]) -> str:
        (tmp_path / "in" / "boxes.csv").write_text("\n".join(rows) + "\n")
        return "in/boxes.csv"

    return write


def test_a_csv_becomes_a_dataset(segcli, register, boxes, tmp_path):
    register("format:csv_boxes")
    done = segcli("prepare", boxes(ROWS), "--out", "data/leaves", "--split", "train=0.5,val=0.5", "--json")
    assert done.code == 0, done.err
    found = [json.loads(file.read_text()) for file in sorted((tmp_path / "data/leaves/annotations").glob("*.json"))]
    boxes_of = {
        image["file_name"].split("/")[-1]: sorted(
            a["bbox"] for a in part["annotations"] if a["image_id"] == image["id"]
        )
        for part in found
        for image in part["images"]
    }
    assert boxes_of == {"a.png": [[0, 0, 8, 8], [10, 20, 50, 30]], "b.png": [[1, 2, 2, 7]]}
    assert done.json["categories"] == ["bug", "leaf"]


def test_labels_beside_the_images_are_read_and_their_field_is_known(segcli, register, boxes, tmp_path, monkeypatch):
    register("format:csv_boxes")
    monkeypatch.setattr(fields, "by_key", lambda: {"axis": ("axis", Axis)})
    boxes([])
    (tmp_path / "in" / "p" / "a.lines").write_text("leaf 10 20 50 30")
    module = importlib.import_module("segcli_csv_boxes")
    found = [("train", tmp_path / "in" / "p" / "a.png", tmp_path / "in" / "p" / "a.lines")]
    one = {"category_id": 1, "bbox": [10.0, 20.0, 50.0, 30.0], "axis": 30.0}
    record = lambda entry: module.Record(entry.file_name, (56, 64), entry.path, [one])
    read = lambda entries: module.each(entries, record)
    monkeypatch.setattr(module, "detect", lambda path: path.is_dir())
    monkeypatch.setattr(
        module, "build", lambda *, path: module.draft(path, found, [module.Category("leaf", 1)], read, [])
    )
    done = segcli("prepare", "in/p", "--format", "csv_boxes", "--out", "data/lines", "--split", "train=1", "--json")
    assert done.code == 0, done.err
    assert "a.lines" not in (tmp_path / "data/lines/prepared.json").read_text()
    assert json.loads((tmp_path / "data/lines/info.json").read_text())["declared"] == {"axis": {}}


class Axis:
    """As much of a field as tells what an annotation has."""

    @classmethod
    def labelled(cls, annotations):
        return any("axis" in one for one in annotations)


@pytest.mark.parametrize(
    ("row", "says"), [("p/a.png,10,x,60,50,leaf", "a corner is no number"), ("../c.png,1,2,3,4,leaf", "../c.png")]
)
def test_bad_rows_are_named(segcli, register, boxes, tmp_path, row, says):
    register("format:csv_boxes")
    Image.new("RGB", (64, 56)).save(tmp_path / "c.png")
    assert says in segcli("prepare", boxes([*ROWS, row]), "--out", "data/leaves").error


@pytest.mark.parametrize(("name", "hint"), [("formt:csv_boxes", "did you mean 'format'?"), ("csv_boxes", "format")])
def test_an_unknown_kind_of_plugin_is_an_error(segcli, register, boxes, name, hint):
    register(name)
    result = segcli("prepare", boxes(ROWS), "--out", "data/leaves")
    assert result.code == 2
    assert f"segcli-csv-boxes registers {name!r} (segcli_csv_boxes), and a plugin is called KIND:NAME" in result.error
    assert hint in result.err
