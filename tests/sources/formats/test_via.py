"""What VIA 3 and VIA's tables have beside rectangles and polygons, and what is wrong with them."""

import json
from pathlib import Path

import pytest
from scene import photo, text
from tool_exports import EXPORTS

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset


def project(root: Path, *regions: dict, kind: int = 2) -> Path:
    """One image, and one without regions."""
    content: dict = {"project": {"vid_list": ["1", "2"]}, "attribute": {}, "view": {}, "file": {}, "metadata": {}}
    for key, name in (("1", "a"), ("2", "b")):
        photo(root / f"{name}.png")
        source = f"https://example.org/in/{name}.png"
        content["file"][key] = {"fid": key, "fname": "x", "type": kind, "loc": 2, "src": source}
        content["view"][key] = {"fid_list": [key]}
    content["attribute"]["1"] = {"aname": "class", "type": 2, "options": {"0": "cat", "1": "dog"}}
    content["metadata"] = {f"m{i}": {"vid": "1", "z": [], "av": {"1": "1"}, **one} for i, one in enumerate(regions)}
    text(root / "via_project.json", content)
    return root


def read(source: Path, out: Path) -> tuple[list[tuple[str, list[float]]], str]:
    """Class and box of the objects of a.png, and all notes."""
    root = prepare(str(source), out)
    data = {split: Dataset(root, split, task="detection") for split in ("train", "val")}
    for one in data.values():
        for i, name in enumerate(one.file_names):
            if name == "a.png":
                found = [(one.info.names[0], a["bbox"]) for a in one.annotations(i)]
    return found, " | ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])


def test_shapes_of_via_3(tmp_path):
    shapes = [[4, 10, 12, 6, 3], [8, 4, 10, 10, 4, 16, 9, 9, 18], [9, 20, 7, 15, 12, 10, 7], [5, 1, 1, 9, 9], [1, 3, 3]]
    found, notes = read(project(tmp_path / "in", *({"xy": xy} for xy in shapes)), tmp_path / "out")
    assert found[0] == ("dog", [4, 9, 12, 6])
    assert found[1] == ("dog", [4, 4, 12, 14])
    assert found[2][1] == pytest.approx([10, 2, 10, 10], abs=0.01)
    assert len(found) == 3
    assert "1 lines have no area and are left out: https://example.org/in/a.png m3" in notes
    assert "1 points have no area" in notes


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"xy": [2, 1, 1, 5]}, "region m0: the rect has 3 numbers, not 4"),
        ({"xy": [12, 1, 1]}, "region m0: no shape has the number 12"),
        ({"xy": [9, 1, 1, 2, 2, 3, 3]}, "region m0: no circle goes through its 3 points"),
        ({"xy": [2, 1, 1, 5, 5], "vid": "7"}, "region m0: no view has the number '7'"),
        ({"xy": [2, 1, 1, 5, 5], "av": {"1": "0,1"}}, "names no class"),
        ({"xy": [2, "left", 1, 5, 5]}, "metadata.m0.xy.1"),
    ],
)
def test_broken_regions_of_via_3(tmp_path, region, said):
    with pytest.raises(DataError) as caught:
        prepare(str(project(tmp_path / "in", region)), tmp_path / "out")
    assert said in str(caught.value)
    assert "via_project.json" in str(caught.value)


def test_videos_are_refused(tmp_path):
    with pytest.raises(DataError, match="is a video"):
        prepare(str(project(tmp_path / "in", kind=4)), tmp_path / "out")


HEADING = "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
RECT = '"{""name"":""rect"",""x"":2,""y"":3,""width"":10,""height"":9}"'


def test_a_table_with_an_image_without_regions(tmp_path):
    for name in "ab":
        photo(tmp_path / f"in/{name}.png")
    rows = [HEADING, f'a.png,1,"{{}}",1,0,{RECT},"{{}}"', 'b.png,1,"{}",0,0,"{}","{}"']
    text(tmp_path / "in/via.csv", "\n".join(rows))
    found, notes = read(tmp_path / "in", tmp_path / "out")
    assert found == [("object", [2, 3, 10, 9])]
    assert "all are called object (--set category=NAME" in notes


def test_a_table_without_its_heading_is_named(tmp_path):
    EXPORTS["via_csv"](tmp_path / "in")
    file = tmp_path / "in/val/via_export.csv"
    text(file, file.read_text("utf-8").replace("metadata_id", "id"))
    notes = json.loads((prepare(str(tmp_path / "in"), tmp_path / "out") / "prepared.json").read_text("utf-8"))["notes"]
    assert "left aside: val/via_export.csv" in notes


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f'a.png,1,"{{}}",1,0,{RECT}', "line 2: has 6 cells"),
        ('a.png,1,"{}",1,0,"{""name""","{}"', "line 2: not valid JSON"),
        ('a.png,1,"{}",1,0,"{""name"":""rect""}","{}"', "the rect has no x"),
    ],
)
def test_broken_tables(tmp_path, row, said):
    for name in "ab":
        photo(tmp_path / f"in/{name}.png")
    text(tmp_path / "in/via.csv", f'{HEADING}\n{row}\nb.png,1,"{{}}",0,0,"{{}}","{{}}"\n')
    with pytest.raises(DataError) as caught:
        prepare(str(tmp_path / "in"), tmp_path / "out")
    assert said in str(caught.value)
    assert "via.csv" in str(caught.value)
