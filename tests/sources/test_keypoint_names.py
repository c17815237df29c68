"""Which keypoints change places in a mirror image, and skeletons that are none."""

import json

import pytest
from sources import FORMATS

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.sources.formats._coco_head import flip_pairs


def with_category(root, **more):
    FORMATS["coco"](root)
    for file in root.glob("annotations/*.json"):
        content = json.loads(file.read_text("utf-8"))
        content["categories"][0] |= more
        for one in content["annotations"]:
            one.pop("keypoints", None)
        file.write_text(json.dumps(content), "utf-8")
    return root


@pytest.mark.parametrize(
    ("left", "right"),
    [
        *(("left_eye", "right_eye"), ("LeftEye", "RightEye"), ("Left Eye", "Right Eye"), ("LEFT_EYE", "RIGHT_EYE")),
        *(("l_eye", "r_eye"), ("L-eye", "R-eye"), ("eye_l", "eye_r"), ("eye.L", "eye.R"), ("eyeLeft", "eyeRight")),
    ],
)
def test_left_and_right_in_any_spelling(left, right):
    assert flip_pairs(["nose", left, "tail", right]) == ((1, 3),)


def test_letters_inside_words_are_no_sides():
    assert flip_pairs(["ear", "eal", "collar", "corrar", "l", "x"]) == ()


def test_keypoints_without_a_pair_are_noted(tmp_path):
    root = prepare(str(with_category(tmp_path / "c", keypoints=["front", "back"])), tmp_path / "out")
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert any(note.startswith("cat: none of its 2 keypoints is called as the left or right") for note in notes)
    root = prepare(str(with_category(tmp_path / "d", keypoints=["LeftEar", "RightEar"])), tmp_path / "out2")
    assert DatasetInfo.load(root).categories[0].flip_pairs == ((0, 1),)
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert not any("keypoints" in note for note in notes)


@pytest.mark.parametrize("skeleton", [[[1, 2, 3]], [["nose", "ear"]], [1], 5, [[1.5, 2]]])
def test_a_malformed_skeleton_names_file_and_class(tmp_path, skeleton):
    source = with_category(tmp_path / "c", keypoints=["nose", "ear"], skeleton=skeleton)
    with pytest.raises(DataError, match=r"instances_\w+\.json: the skeleton of 'cat' must be pairs of whole numbers"):
        prepare(str(source), tmp_path / "out")
