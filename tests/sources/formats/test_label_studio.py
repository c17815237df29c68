"""What Label Studio exports beside polygons and brush masks, in the form in which it writes it."""

import json
from pathlib import Path

import pytest
from sources import FORMATS, SCENE, H, W, photo, text

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset


def region(value: dict, kind: str = "rectanglelabels", **more) -> dict:
    return {"id": "x1", "type": kind, "original_width": W, "original_height": H, "value": value, **more}


def box(**more) -> dict:
    return {"x": 25.0, "y": 50.0, "width": 25.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["cat"], **more}


def write(root: Path, *results: dict, image: str = "/data/upload/1/0a1b2c3d-a.png", **more) -> Path:
    for name in "ab":
        photo(root / f"{name}.png")
    first = {"data": {"image": image}, "annotations": [{"result": [*results]}], **more}
    second = {"data": {"image": "http://h/b.png?token=1"}, "annotations": [{"result": [region(box())]}]}
    text(root / "export.json", [first, second])
    return root


def found(tmp_path: Path, *results: dict, **more) -> tuple[list[dict], str]:
    """The annotations of the image a.png, and all notes."""
    root = prepare(str(write(tmp_path / "in", *results, **more)), tmp_path / "out")
    data = [Dataset(root, split, task="detection") for split in ("train", "val")]
    listed = {name: one.annotations(i) for one in data for i, name in enumerate(one.file_names)}
    return listed["a.png"], " | ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])


def test_boxes_turned_ones_and_ellipses(tmp_path):
    ellipse = {"x": 50.0, "y": 50.0, "radiusX": 25.0, "radiusY": 25.0, "ellipselabels": ["dog"]}
    listed, _ = found(tmp_path, region(box()), region(box(rotation=90)), region(ellipse, "ellipselabels"))
    assert listed[0]["bbox"] == [8, 12, 8, 6]
    assert "segmentation" not in listed[0]
    assert listed[1]["bbox"] == [2, 12, 6, 8]  # about its upper left corner, clockwise
    assert listed[2]["bbox"][2:] == pytest.approx([16, 12], abs=1)


def test_what_is_no_object_is_counted(tmp_path):
    point = region({"x": 1, "y": 1, "width": 0.3, "keypointlabels": ["cat"]}, "keypointlabels")
    bare = region({k: v for k, v in box().items() if k != "rectanglelabels"}, "rectangle", id="lone")
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    listed, notes = found(tmp_path, region(box()), point, bare, choice)
    assert len(listed) == 1
    assert "1 key points stand alone and are left out: a.png" in notes
    assert "1 regions have no label and are left out: a.png" in notes
    assert "choices" in notes


def test_cancelled_and_repeated_work(tmp_path):
    works = [{"result": [], "was_cancelled": True}, {"result": [region(box())]}, {"result": []}]
    listed, notes = found(tmp_path, annotations=works)
    assert len(listed) == 1
    assert "1 tasks have several annotations, of which the first is read: /data/upload/1/0a1b2c3d-a.png" in notes


def test_the_short_export(tmp_path):
    tasks = []
    for name in "ab":
        photo(tmp_path / "in" / f"{name}.png")
        own = {"original_width": W, "original_height": H}
        about = {"id": 1, "annotator": 1, "annotation_id": 1, "lead_time": 2.5}
        tasks.append({"image": f"/data/local-files/?d=my%20data/{name}.png", "tag": [{**box(), **own}], **about})
    text(tmp_path / "in/min.json", tasks)
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert Dataset(root, "train", task="detection").annotations(0)[0]["bbox"] == [8, 12, 8, 6]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (region(box(rectanglelabels=["cat", "dog"])), "has the labels cat, dog"),
        (region({"points": [[1, 1], [2, 2]], "polygonlabels": ["cat"]}), "a polygon of 2 points"),
        (region({"x": "left", "rectanglelabels": ["cat"]}), "value.x"),
        (
            region({"rle": [0, 0, 0, 4, 1, 1, 1], "format": "rle", "brushlabels": ["cat"]}),
            "its brush mask has 4 values",
        ),
        (region({"rle": [300], "format": "rle", "brushlabels": ["cat"]}), "its brush mask can't be read"),
    ],
)
def test_broken_regions_are_named(tmp_path, result, said):
    with pytest.raises(DataError) as caught:
        prepare(str(write(tmp_path / "in", result)), tmp_path / "out")
    assert said in str(caught.value)
    assert "export.json" in str(caught.value)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle"])
def test_rectangles_of_four_corners_in_labelme_files(tmp_path, kind):
    FORMATS["labelme"](tmp_path / "in")
    file = tmp_path / "in/train/a.json"
    content = json.loads(file.read_text("utf-8"))
    (x1, y1, x2, y2) = SCENE["a"]["cat"]
    corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    text(file, {**content, "shapes": [{"label": "cat", "shape_type": kind, "points": corners, "direction": 0.0}]})
    first = Dataset(prepare(str(tmp_path / "in"), tmp_path / "out")).annotations(0)[0]
    assert first["bbox"] == [x1, y1, x2 - x1, y2 - y1]


def test_labels_that_are_no_list_are_none(tmp_path):
    listed, notes = found(tmp_path, region(box()), region({**box(), "rectanglelabels": 5}, id="lone"))
    assert len(listed) == 1
    assert "1 regions have no label" in notes


def test_a_brush_mask_of_another_size_is_named_once(tmp_path):
    value = {"rle": [0, 0, 0, 4, 1, 1, 1], "format": "rle", "brushlabels": ["cat"]}
    with pytest.raises(DataError) as caught:
        prepare(str(write(tmp_path / "in", region(value))), tmp_path / "out")
    assert str(caught.value).count("brush mask") == 1
