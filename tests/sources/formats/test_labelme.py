"""LabelMe's json in the encodings of people's systems, lines as masks, and two files of one image."""

import json

import numpy as np
import pytest
from sources import masks_of, photo

from segcli.commands.prepare import describe, prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError

TRIANGLE = [[2, 2], [20, 2], [20, 16]]


def write(folder, name, label, encoding="utf-8", image=None, points=TRIANGLE, kind="polygon"):
    """An image, and its json as LabelMe before 4.5 wrote it on Windows."""
    photo(folder / f"{image or name}.png")
    shape = {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}
    content = {"version": "4.2.9", "shapes": [shape], "imagePath": f"..\\画\\{image or name}.png", "imageData": None}
    text = json.dumps({**content, "imageHeight": 24, "imageWidth": 32}, ensure_ascii=False)
    (folder / f"{name}.json").write_bytes(text.encode(encoding, "replace"))
    return folder


@pytest.mark.parametrize(
    ("label", "image", "encoding", "python"),
    [
        ("고양이", "사진", "cp949", "cp949"),
        ("猫", "图片", "gb2312", "gb18030"),
        ("ネコ", "写真", "shift-jis", "cp932"),
        ("Katze", "Bär", "cp1252", "cp1252"),
    ],
)
def test_an_encoding_is_known_by_the_name_of_an_image_that_is_there(tmp_path, label, image, encoding, python):
    for number in range(4):
        write(tmp_path / "in", f"{image}{number}", label, encoding)
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert DatasetInfo.load(root).names == [label]
    assert any(f"4 json files are not UTF-8 and read as {python}" in note for note in describe(root)["notes"])


def test_an_encoding_is_known_by_declared_classes(tmp_path):
    for number in range(4):
        write(tmp_path / "in", f"{number}", "猫", "gb2312")
    (tmp_path / "in" / "labels.txt").write_text("猫\n", encoding="utf-8")
    assert DatasetInfo.load(prepare(str(tmp_path / "in"), tmp_path / "out")).names == ["猫"]


def test_labels_that_read_alike_in_all_encodings_are_read(tmp_path):
    for number in range(4):
        write(tmp_path / "in", f"{number}", "cat", "gb2312")  # the folder in imagePath is all that differs
    assert DatasetInfo.load(prepare(str(tmp_path / "in"), tmp_path / "out")).names == ["cat"]


def test_where_a_backslash_would_be_half_of_a_letter_is_not_the_encoding(tmp_path):
    for number in range(4):
        file = write(tmp_path / "in", f"{number}", "cat") / f"{number}.json"
        file.write_bytes(file.read_text("utf-8").replace("画", "경").encode("cp949"))
    with pytest.raises(ValueError, match="escape"):
        json.loads(file.read_bytes().decode("cp932"))
    assert DatasetInfo.load(prepare(str(tmp_path / "in"), tmp_path / "out")).names == ["cat"]


def test_what_could_be_two_encodings_is_refused_with_both_and_read_as_said(tmp_path):
    for number in range(4):
        write(tmp_path / "in", f"{number}", "고양이", "cp949")
    with pytest.raises(
        DataError, match=r"0\.json: is not UTF-8, and could be cp949 \(Korean, '고양이'\) or gb"
    ) as caught:
        prepare(str(tmp_path / "in"), tmp_path / "out")
    assert "--set encoding=NAME" in caught.value.hint
    root = prepare(str(tmp_path / "in"), tmp_path / "out", settings={"encoding": "cp949"})
    assert DatasetInfo.load(root).names == ["고양이"]


def test_a_damaged_byte_is_no_encoding(tmp_path):
    for number in range(4):
        write(tmp_path / "in", f"{number}", "katze", image=f"a{number}")
    file = tmp_path / "in" / "3.json"
    file.write_bytes(file.read_bytes().replace(b"katze", b"katz\xff"))
    with pytest.raises(DataError, match=r"3\.json: is neither"):
        prepare(str(tmp_path / "in"), tmp_path / "out")
    with pytest.raises(DataError, match=r"3\.json: is neither UTF-8 nor cp949"):
        prepare(str(tmp_path / "in"), tmp_path / "out", settings={"encoding": "cp949"})
    with pytest.raises(UsageError, match="no encoding of text is called 'klingon'"):
        prepare(str(tmp_path / "in"), tmp_path / "out", settings={"encoding": "klingon"})


def test_lines_are_masks_of_the_width_that_is_said(tmp_path):
    line = [[4, 12], [16, 12], [16, 4]]
    for number in range(4):
        write(tmp_path / "in", f"{number}", "crack", points=line, kind="linestrip")
    with pytest.raises(DataError, match="all of its shapes are points or lines") as caught:
        prepare(str(tmp_path / "in"), tmp_path / "out")
    assert "--set line_width=3" in caught.value.hint
    root = prepare(str(tmp_path / "in"), tmp_path / "out", settings={"line_width": 4})
    for ((name, mask),) in masks_of(root).values():
        assert name == "crack"
        assert mask[10:14, 4:16].all()  # both pieces, as wide as said
        assert mask[4:12, 14:18].all()
        assert np.count_nonzero(mask) <= 12 * 4 + 8 * 4 + 8


def test_of_two_files_that_say_the_same_one_is_read(tmp_path):
    for number in range(4):
        write(tmp_path / "in", f"{number}", "leaf")
    write(tmp_path / "in", "0 - Copy", "leaf", image="0")
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert sum(DatasetInfo.load(root).splits.values()) == 4
    assert any("1 json files say of their image what another one says" in note for note in describe(root)["notes"])
