"""Nothing of a source vanishes without a word: links, empty parts, names, and labels that are none."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import describe, prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.sources.folders import names_in, walk
from segcli.sources.formats._yolo_rows import load

RNG = np.random.default_rng(3)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (24, 32, 3)).astype(np.uint8)).save(path)


def labelme(folder, numbers, label="leaf", kind="polygon"):
    """Images with a json each, of one shape."""
    for number in numbers:
        picture(folder / f"{number}.jpg")
        shape = {"label": label, "points": [[2, 2], [12, 2], [12, 12]], "shape_type": kind}
        content = {"imagePath": f"{number}.jpg", "imageHeight": 24, "imageWidth": 32, "shapes": [shape]}
        (folder / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def yolo(root, rows, yaml=None, splits=("train", "val")):
    """Images of one label file each; rows: the text of every file."""
    for number, text in enumerate(rows):
        split = splits[number % len(splits)]
        picture(root / "images" / split / f"{number}.jpg")
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"{number}.txt").write_text(text, encoding="utf-8")
    (root / ("data.yaml" if yaml else "classes.txt")).write_text(yaml or "leaf\n", encoding="utf-8")
    return root


def test_linked_folders_inside_a_source_are_followed(tmp_path):
    root = tmp_path / "in"
    labelme(root / "train", range(4))
    labelme(root / "val", range(4, 6))
    (root / "test").symlink_to("val")
    (root / "train" / "again").symlink_to(root)  # round in a circle
    found = [name for _, _, names in walk(root) for name in names if name.endswith(".json")]
    assert sorted(found) == ["0.json", "1.json", "2.json", "3.json", "4.json", "4.json", "5.json", "5.json"]
    info = DatasetInfo.load(prepare(str(root), tmp_path / "out"))
    assert info.splits == {"test": 2, "train": 4, "val": 2}


@pytest.mark.parametrize("what", ["folder", "image"])
def test_links_that_lead_out_are_named_and_followed_only_if_trusted(tmp_path, what):
    root = labelme(tmp_path / "in" / "train", range(4)).parent
    other = labelme(tmp_path / "elsewhere", range(4, 6))
    if what == "folder":
        (root / "val").symlink_to(other)
    else:
        os.replace(root / "train" / "1.jpg", other / "1.jpg")
        (root / "train" / "1.jpg").symlink_to(other / "1.jpg")
    with pytest.raises(DataError, match="is a link that leads out of") as caught:
        prepare(str(root), tmp_path / "out")
    assert "--trust-paths" in caught.value.hint
    info = DatasetInfo.load(prepare(str(root), tmp_path / "out", trusted=True))
    assert info.splits["val" if what == "folder" else "train"] >= 2


def test_linked_folders_of_masks_are_seen(tmp_path):
    root = tmp_path / "in"
    for number in range(6):
        for kind in ("images", "masks"):
            place = root / ("more" if number > 3 else kind) / ("x_" + kind if number > 3 else "near")
            picture(place / f"{number}.png")
            if kind == "masks":
                ids = np.zeros((24, 32), np.uint8)
                ids[2:9, 2 + number : 9 + number], ids[12:20, 12 + number : 20 + number] = 1, 2
                Image.fromarray(ids).save(place / f"{number}.png")
    for kind in ("images", "masks"):
        (root / kind / "far").symlink_to(root / "more" / f"x_{kind}")
    assert (
        sum(DatasetInfo.load(prepare(str(root), tmp_path / "out", settings={"masks": "instances"})).splits.values())
        == 6
    )


def test_links_to_what_is_not_read_are_nobodys_business(tmp_path):
    root = labelme(tmp_path / "in", range(4))
    (root / "python").symlink_to("/usr/bin/env")
    (root / ".cache").symlink_to("/usr")
    prepare(str(root), tmp_path / "out")


def test_an_empty_part_is_noted_also_where_it_is_train(tmp_path):
    yaml = "train: images/train\nval: images/val\ntest: images/test\nnames: [leaf]\n"
    root = yolo(tmp_path / "in", ["0 .5 .5 .2 .2\n"] * 4, yaml)
    (root / "images" / "test").mkdir()
    out = prepare(str(root), tmp_path / "out")
    assert any("test" in note and "holds no image" in note for note in describe(out)["notes"])
    empty = yolo(tmp_path / "empty", ["0 .5 .5 .2 .2\n"] * 4, yaml.replace("images/train", "images/none"))
    (empty / "images" / "none").mkdir()
    out = prepare(str(empty), tmp_path / "out2")
    assert any("none holds no image: the split train is empty" in note for note in describe(out)["notes"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [("[no, yes, y]", ["no", "yes", "y"]), ("{0: on, 1: null, 2: 1.0, 3: 7}", ["on", "null", "1.0", "7"])],
)
def test_words_of_a_yaml_stay_words(tmp_path, names, expected):
    root = yolo(tmp_path / "in", ["0 .5 .5 .2 .2\n"] * 4, f"train: images/train\nval: images/val\nnames: {names}\n")
    assert DatasetInfo.load(prepare(str(root), tmp_path / "out")).names == expected
    (root / "data.yaml").write_text("train: a\nval:\ntest: null\nkpt_shape: ~\nnames: [a]\n", encoding="utf-8")
    assert load(root / "data.yaml") == {"train": "a", "val": None, "test": None, "kpt_shape": None, "names": ["a"]}


def rows_of(count, row):
    return [
        "".join(row(*RNG.uniform(0.25, 0.75, 2), *RNG.uniform(0.05, 0.4, 2)) for _ in range(2)) for _ in range(count)
    ]


def box(x, y, w, h):
    return f"0 {x:.4f} {y:.4f} {w:.4f} {h:.4f}"


@pytest.mark.parametrize(
    ("row", "how"),
    [
        (lambda x, y, w, h: f"{box(x, y, w, h)} .3 .4 .5 .6\n", "2 keypoints of two"),
        (lambda x, y, w, h: f"{box(x, y, w, h)} {x} {y} {x + w / 4} {y} {x} {y + h / 4}\n", "3 keypoints of two"),
        (lambda x, y, w, h: f"{box(x, y, w, h)} {x} {y} 2 0 0 0\n", "2 keypoints of three"),
    ],
)
def test_keypoints_without_a_word_of_them_are_no_polygons(tmp_path, row, how):
    with pytest.raises(DataError, match=how) as caught:
        prepare(str(yolo(tmp_path / "in", rows_of(6, row))), tmp_path / "out")
    assert "kpt_shape" in caught.value.hint


def corner(x, y, w, h, angle=0.0):
    points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (w / 4, h / 4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return "0 " + " ".join(f"{v:.4f}" for v in (points @ turn + (x, y)).ravel()) + "\n"


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_quadrangles_anywhere_stay_polygons(tmp_path, angle):
    out = prepare(str(yolo(tmp_path / "in", rows_of(8, lambda *a: corner(*a, angle)))), tmp_path / "out")
    annotations = json.loads((out / "annotations" / "train.json").read_text())["annotations"]
    assert annotations
    assert all(len(a["segmentation"][0]) == 8 for a in annotations)


def test_a_mark_at_the_beginning_of_label_files_is_no_number(tmp_path):
    out = prepare(str(yolo(tmp_path / "in", ["\ufeff0 .5 .5 .2 .2\n"] * 4)), tmp_path / "out")
    assert DatasetInfo.load(out).splits == {"train": 2, "val": 2}


def test_blanks_around_a_name_make_no_class_and_case_is_warned_of(tmp_path):
    from segcli.doctor.check import check

    root = tmp_path / "in"
    for number, label in enumerate(("leaf", "leaf ", "Leaf", " leaf")):
        labelme(root, [number], label)
    out = prepare(str(root), tmp_path / "out")
    assert DatasetInfo.load(out).names == ["leaf", "Leaf"] or DatasetInfo.load(out).names == ["Leaf", "leaf"]
    assert any("'leaf '" in note and "2 of them" in note for note in describe(out)["notes"])
    assert any(f.code == "names_alike" for f in check(out).findings)


@pytest.mark.parametrize("kind", ["linestrip", "point", "line"])
def test_lines_alone_are_nothing_to_learn(tmp_path, kind):
    with pytest.raises(DataError, match=f"4 of type {kind}"):
        prepare(str(labelme(tmp_path / "in", range(4), kind=kind)), tmp_path / "out")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    closed = tmp_path / "in" / "closed"
    closed.mkdir(parents=True)
    real = os.scandir

    def scandir(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="closed: the folder can't be read: Permission denied"):
        list(walk(tmp_path / "in"))
    with pytest.raises(DataError, match="closed: the folder can't be read: Permission denied"):
        names_in(closed)
    assert list(walk(tmp_path / "nowhere")) == names_in(tmp_path / "nowhere") == []
