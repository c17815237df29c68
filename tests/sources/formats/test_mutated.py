"""What damaged datasets of tests/fuzz brought to light: each case with its neighbours."""

import json
from pathlib import Path

import pytest
from public_sets import ade20k, ade20k_2016, bdd100k, mapillary, sa1b
from scene import H, W, ids, photo, picture, text
from sources import FORMATS

from segcli.commands.prepare import describe, prepare
from segcli.core.errors import DataError

ENDLESS = "é" * 300 + ".png"  # no file system has such a name


def notes(source: Path, out: Path) -> str:
    return " | ".join(describe(prepare(str(source), out, samples=False))["notes"])


def edit(file: Path, old: str, new: str) -> None:
    content = file.read_text("utf-8")
    assert old in content
    file.write_text(content.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("value", ["[[1, 2], [3]]", "2", '"yes"'])
def test_things_are_told_from_stuff_by_0_and_1(tmp_path, value):
    FORMATS["panoptic"](tmp_path / "in")
    edit(tmp_path / "in/annotations/panoptic_val.json", '"sky", "isthing": 0', f'"sky", "isthing": {value}')
    with pytest.raises(DataError, match=r"panoptic_val\.json: isthing of 'sky' must be 0 or 1"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize(("name", "value"), [("sky", 0), ("cat", 1), ("dog", 1)])
def test_what_is_a_thing_in_one_split_is_none_in_another(tmp_path, name, value):
    """Objects of val would be lost, or those of train be none of the things."""
    FORMATS["panoptic"](tmp_path / "in")
    old = f'"{name}", "isthing": {value}'
    edit(tmp_path / "in/annotations/panoptic_val.json", old, f'"{name}", "isthing": {1 - value}')
    with pytest.raises(DataError, match=rf"'{name}' is .* in another of the files \(isthing\)"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize(
    ("write", "image", "said"),
    [
        (ade20k, "images/ADE/training/street/b.png", "1 pictures of labels have no image and are left out: b_seg.png"),
        (ade20k_2016, "images/training/s/street/b.png", "1 pictures of labels have no image and are left out: b_seg"),
        (bdd100k, "images/10k/train/b.png", "1 label pictures have no image: b.png"),
    ],
)
def test_labels_whose_image_is_gone_are_named(tmp_path, write, image, said):
    write(tmp_path / "in")
    (tmp_path / "in" / image).unlink()
    assert said in notes(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("split", ["training", "validation"])
def test_labels_that_one_split_lacks_are_named(tmp_path, split):
    mapillary(tmp_path / "in")
    for file in (tmp_path / "in" / split / "v2.0/instances").iterdir():
        file.unlink()
    said = notes(tmp_path / "in", tmp_path / "out")
    assert "1 kinds of labels are not there in every split, and are left aside: instances" in said


def test_numbered_objects_of_a_class_that_has_none_are_named(tmp_path):
    """A class is missing in the list of classes: the next one has its number."""
    mapillary(tmp_path / "in")
    config = json.loads((tmp_path / "in/config_v2.0.json").read_text("utf-8"))
    assert "numbered objects" not in notes(tmp_path / "in", tmp_path / "whole")
    del config["labels"][1]
    text(tmp_path / "in/config_v2.0.json", config)
    assert "numbered objects in the pictures, and none by the list of classes: Sky" in notes(
        tmp_path / "in", tmp_path / "out"
    )


@pytest.mark.parametrize(
    ("name", "file", "old"),
    [
        ("darwin", "a.json", '"name": "a.png"'),
        ("pix3d", "pix3d.json", "img/a.png"),
        ("pix3d", "pix3d.json", "model/cat/model.obj"),
        ("coco", "annotations/instances_train.json", "a.png"),
        ("sa1b", "train/a.json", "a.png"),
        ("labelme", "train/a.json", "a.png"),
        ("open_images", "train-annotations-object-segmentation.csv", "a_m0cat_1.png"),
        ("run_lengths", "train.csv", "a.png"),
        ("cvat", "annotations.xml", "a.png"),
        ("label_studio", "project-1-at-2024-05-01.json", "train/a.png"),
    ],
)
@pytest.mark.parametrize("fix", [False, True])
def test_names_that_no_disk_can_hold_are_missing_files(tmp_path, monkeypatch, name, file, old, fix):
    monkeypatch.chdir(tmp_path)
    FORMATS[name](tmp_path / "in")
    edit(tmp_path / "in" / file, old, old.replace(old.strip('"').split('"')[-1], ENDLESS))
    try:
        prepare("in", "out", fix=fix)
        said = "éé"  # a row, a mask or an image less, which the notes say
    except DataError as error:  # any other error is the system's own
        said = str(error)
    assert "éé" in said


@pytest.mark.parametrize("key", [[], {}, [1], "x", 1.5, True])
def test_annotations_are_numbered_where_their_ids_can_be_none(tmp_path, key):
    sa1b(tmp_path / "in")
    content = json.loads((tmp_path / "in/train/a.json").read_text("utf-8"))
    content["annotations"][0]["id"] = key
    text(tmp_path / "in/train/a.json", content)
    root = prepare(str(tmp_path / "in"), tmp_path / "out", samples=False)
    found = [a for f in (root / "annotations").glob("*.json") for a in json.loads(f.read_text("utf-8"))["annotations"]]
    assert len({a["id"] for a in found if type(a["id"]) is int}) == len(found) == 6


@pytest.mark.parametrize("box", [[40, 30, 5, 5], [W, 0, 4, 4], [0, H, 4, 4]])
def test_objects_that_all_lie_outside_are_described(tmp_path, box):
    """No size can be advised where no object has a pixel."""
    photo(tmp_path / "in/a.png")
    x, y, w, h = box
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    one = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box, "segmentation": outline, "area": 0}
    image = {"id": 1, "file_name": "a.png", "width": W, "height": H}
    content = {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "cat"}]}
    text(tmp_path / "in/annotations.json", content)
    root = prepare(str(tmp_path / "in"), tmp_path / "out", split="train=1.0", samples=False)
    assert describe(root)["advice"] == []


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("val/copy.csv", "# CSV_HEADER = metadata_id , file_list\n"),
        ("train/copy.csv", "filename;file_size\n"),
        ("val/empty.csv", ""),
    ],
)
def test_tables_beside_those_of_via_are_named(tmp_path, place, content):
    FORMATS["via_csv"](tmp_path / "in")
    text(tmp_path / "in" / place, content)
    assert f"left aside: {place}" in notes(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("via", "via_region_data.json", "Zvia_region_data.json"),
        ("via", "via_region_data.json", "export.json"),
        ("via_csv", "via_export.csv", "labels.csv"),
    ],
)
def test_files_of_a_split_that_are_none_of_via_are_named(tmp_path, name, old, new):
    FORMATS[name](tmp_path / "in")
    (tmp_path / "in/val" / old).unlink()
    text(tmp_path / "in/val" / new, "{}")
    assert f"left aside: val/{new}" in notes(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("over", "hidden"),
    [("sky", 2), ("car", 2), ("static", 2)],
)
def test_polygons_that_others_cover_are_counted(tmp_path, over, hidden):
    FORMATS["cityscapes"](tmp_path / "in")
    file = next((tmp_path / "in/gtFine/train").rglob("*000001_000019*.json"))
    content = json.loads(file.read_text("utf-8"))
    content["objects"].append({"label": over, "polygon": [[-1, -1], [W, -1], [W, H], [-1, H]]})
    text(file, content)
    said = notes(tmp_path / "in", tmp_path / "out")
    assert f"{hidden} objects lie wholly under those drawn after them, and are left out: {file.name}#2" in said


def test_a_hole_in_nothing_is_no_hidden_object(tmp_path):
    FORMATS["cityscapes"](tmp_path / "in")
    picture(tmp_path / "in/leftImg8bit/x.png", ids("a", 1, 2))
    assert "wholly under" not in notes(tmp_path / "in", tmp_path / "out")
