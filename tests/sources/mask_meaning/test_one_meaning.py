"""What has one meaning is read so by prepare, and noted: ids as text, masks of one colour."""

import json

import numpy as np
import pytest
from sources import FORMATS, photo, picture

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset


def change(root, edit, split="val"):
    file = root / "annotations" / f"instances_{split}.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    edit(data)
    file.write_text(json.dumps(data), encoding="utf-8")


def written(root, split):
    return json.loads((root / "annotations" / f"{split}.json").read_text(encoding="utf-8"))["annotations"]


@pytest.mark.parametrize("declared", [True, False])
def test_category_ids_as_text_in_one_of_the_files(tmp_path, declared):
    def edit(data):
        for annotation in data["annotations"]:
            annotation["category_id"] = str(annotation["category_id"])
        for category in data["categories"] if declared else ():
            category["id"] = str(category["id"])

    FORMATS["coco"](tmp_path / "in")
    change(tmp_path / "in", edit)
    out = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert [a["category_id"] for a in written(out, "val")] == [3, 7]
    assert any(
        "instances_val.json: category ids that annotations give as text (3, 7)" in n for n in prepared(out)["notes"]
    )


def test_a_category_that_is_no_number_stays_an_error(tmp_path):
    FORMATS["coco"](tmp_path / "in")
    change(tmp_path / "in", lambda data: data["annotations"][0].update(category_id="cat"))
    with pytest.raises(DataError, match="cat"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def red_masks(root, second=None):
    for number in range(4):
        photo(root / "images" / f"{number}.png")
        mask = np.zeros((24, 32, 3), np.uint8)
        mask[4:12, 3 + number : 14] = (255, 0, 0)
        if second is not None:
            mask[16:20, 2:9] = second
        picture(root / "masks" / f"{number}.png", mask)


def test_one_colour_on_black_is_binary_where_it_is_said_to_be(tmp_path):
    red_masks(tmp_path / "in")
    out = prepare(str(tmp_path / "in"), tmp_path / "out", settings={"masks": "binary"})
    labels = Dataset(out, "val", task="semantic").read(0).target.semantic
    assert sorted(np.unique(np.asarray(labels)).tolist()) == [0, 1]


def test_two_colours_are_not_two_classes(tmp_path):
    red_masks(tmp_path / "in", (0, 255, 0))
    with pytest.raises(DataError, match="holds 2 colours besides black"):
        prepare(str(tmp_path / "in"), tmp_path / "out", settings={"masks": "binary"})


def test_a_colour_without_a_word_is_refused_with_the_flag(tmp_path):
    red_masks(tmp_path / "in")
    with pytest.raises(DataError, match="colour picture") as caught:
        prepare(str(tmp_path / "in"), tmp_path / "out")
    assert "--masks binary" in caught.value.hint
