"""Names of classes and images on their way out and back: they are the same, or refused by name."""

import json

import pytest
from sources import photo, text

from segcli.commands.prepare import export, prepare
from segcli.core.errors import DataError
from segcli.data.dataset import DatasetInfo

PLAIN = [
    "</script>",
    '=cmd|"/c calc"!A1',
    "a/b",
    "x: y",
    "# no",
    "null",
    "yes",
    "1",
    "-",
    "~",
    "'q\"",
    "a\\nb",
    "{}",
    "=",
    "나무",
]
LINES = ["a\nb\tc", "a\u2028b", "a\x85b", "a\rb", "a\x0bb"]


def prepared(tmp_path, names, file_name="a b'.png"):
    photo(tmp_path / "source" / "images" / "x.png").rename(tmp_path / "x.png")
    target = tmp_path / "source" / "images" / file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "x.png").rename(target)
    one = {"image_id": 1, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}
    content = {
        "images": [{"id": 1, "file_name": file_name, "width": 32, "height": 24}],
        "annotations": [{**one, "id": k, "category_id": k} for k in range(1, len(names) + 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
    }
    text(tmp_path / "source" / "all.json", content)
    return prepare(str(tmp_path / "source"), tmp_path / "prepared", split="train=1")


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
def test_names_come_back_as_they_went(tmp_path, kind):
    root = prepared(tmp_path, PLAIN)
    export(str(root), kind, tmp_path / "out")
    back = prepare(str(tmp_path / "out"), tmp_path / "back", split="train=1")
    assert list(DatasetInfo.load(back).names) == PLAIN
    listed = json.loads((back / "annotations" / "train.json").read_text(encoding="utf-8"))["annotations"]
    assert len(listed) == len(PLAIN)


@pytest.mark.parametrize("name", [*LINES, "__ignore__", "_background_"])
def test_what_a_list_of_lines_can_not_hold_is_refused_by_name(tmp_path, name):
    root = prepared(tmp_path, ["leaf", name])
    with pytest.raises(DataError) as caught:
        export(str(root), "labelme", tmp_path / "out")
    assert f"labels.txt: the class {name!r}" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", LINES)
def test_yaml_holds_every_name(tmp_path, name):
    root = prepared(tmp_path, ["leaf", name])
    export(str(root), "yolo", tmp_path / "out")
    back = prepare(str(tmp_path / "out"), tmp_path / "back", split="train=1")
    assert list(DatasetInfo.load(back).names) == ["leaf", name]


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
@pytest.mark.parametrize("file_name", [".hidden.png", "a.data"])
def test_an_image_that_would_not_be_found_again_is_refused_by_name(tmp_path, kind, file_name):
    root = prepared(tmp_path, ["leaf"], file_name)
    with pytest.raises(DataError, match="would not be found again") as caught:
        export(str(root), kind, tmp_path / "out")
    assert file_name in str(caught.value)


def test_an_image_whose_id_is_no_number_is_named(tiny_copy, tmp_path):
    file = tiny_copy / "annotations" / "train.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["images"][0]["id"] = {"a": 1}
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.json"):
        export(str(tiny_copy), "yolo", tmp_path / "out")
