"""What CVAT's "CVAT for images 1.1" export holds beside polygons and masks, in the form in which it writes it."""

import json
from pathlib import Path

import pytest
from sources import H, W, photo, text

from segcli.commands.prepare import export, prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset

SVG = (
    '&lt;line x1="1" y1="1" x2="2" y2="2" data-type="edge" data-node-from="1" stroke-width="0.5" '
    'data-node-to="2"&gt;&lt;/line&gt;&lt;circle r="1.5" data-node-id="1" data-label-name="left_eye"&gt;&lt;/circle&gt;'
    '&lt;circle r="1.5" data-node-id="2" data-label-name="right_eye"&gt;&lt;/circle&gt;'
)
HEAD = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <labels>
        <label><name>cat</name><color>#33ddff</color><type>any</type><attributes><attribute><name>pose</name>
          <mutable>False</mutable><input_type>select</input_type><default_value>sits</default_value>
          <values>sits\nlies</values></attribute></attributes></label>
        <label><name>face</name><color>#fa3253</color><type>skeleton</type><attributes></attributes>
          <svg>{SVG}</svg></label>
        <label><name>left_eye</name><type>points</type><attributes></attributes><parent>face</parent></label>
        <label><name>right_eye</name><type>points</type><attributes></attributes><parent>face</parent></label>
      </labels>
    </task>
  </meta>
"""
POLYGON = '<polygon label="cat" occluded="0" points="1.00,1.00;9.00,1.00;9.00,9.00" z_order="0"></polygon>'


def source(root: Path, shapes: str, images: str = "images") -> Path:
    """An export of one image with `shapes`, for training, and of one without, for validation."""
    listed = ""
    for number, (subset, inner) in enumerate((("Train", shapes), ("Validation", ""))):
        photo(root / images / f"frame_00000{number}.png")
        size = f'width="{W}" height="{H}"'
        listed += f'  <image id="{number}" name="frame_00000{number}.png" subset="{subset}" {size}>{inner}</image>\n'
    return text(root / "annotations.xml", f"{HEAD}{listed}</annotations>\n")


def objects(tmp_path: Path, shapes: str) -> list[dict]:
    source(tmp_path / "export", shapes)
    root = prepare(str(tmp_path / "export"), tmp_path / "out")
    return Dataset(root, "train", task="detection").annotations(0)


def test_a_skeleton_is_an_object_with_keypoints(tmp_path):
    found = objects(
        tmp_path,
        '<skeleton label="face" source="manual" z_order="0">'
        '<points label="right_eye" source="manual" outside="0" occluded="1" points="20.00,8.00"></points>'
        '<points label="left_eye" source="manual" outside="0" occluded="0" points="4.50,6.00"></points></skeleton>'
        '<skeleton label="face" source="manual" z_order="0">'
        '<points label="left_eye" source="manual" outside="1" occluded="0" points="1.00,1.00"></points>'
        '<points label="right_eye" source="manual" outside="0" occluded="0" points="9.00,9.00"></points></skeleton>'
        + POLYGON,
    )
    assert [one.get("keypoints") for one in found] == [[4.5, 6, 2, 20, 8, 1], [0, 0, 0, 9, 9, 2], None]
    assert found[0]["bbox"] == [4.5, 6, 15.5, 2]
    face = Dataset(tmp_path / "out", task="detection").info.categories[1]
    assert (face.keypoints, face.skeleton, face.flip_pairs) == (("left_eye", "right_eye"), ((0, 1),), ((0, 1),))


def test_boxes_stay_boxes_and_turned_ones_are_outlines(tmp_path):
    plain, turned, ellipse = objects(
        tmp_path,
        '<box label="cat" occluded="1" xtl="2.00" ytl="3.00" xbr="12.00" ybr="7.00" z_order="0">'
        '<attribute name="pose">lies</attribute></box>'
        '<box label="cat" occluded="0" xtl="2.00" ytl="8.00" xbr="12.00" ybr="12.00" rotation="90.00" z_order="0">'
        "</box>"
        '<ellipse label="cat" occluded="0" cx="20.00" cy="12.00" rx="8.00" ry="2.00" rotation="90.00" z_order="0">'
        "</ellipse>",
    )
    assert plain["bbox"] == [2, 3, 10, 4]
    assert "segmentation" not in plain
    assert (plain["attributes"], plain["occluded"]) == ({"pose": "lies"}, 1)
    assert turned["bbox"] == [5, 5, 4, 10]
    assert ellipse["bbox"][2] < 6 < 14 < ellipse["bbox"][3]


def test_subsets_are_splits_and_images_may_lie_beside(tmp_path):
    for split in ("Train", "Validation"):
        photo(tmp_path / "export/images" / split / "a.png")
    listed = "".join(
        f'<image id="{i}" name="a.png" subset="{split}" task_id="7" width="{W}" height="{H}">{POLYGON}</image>'
        for i, split in enumerate(("Train", "Validation"))
    )
    text(tmp_path / "export/annotations.xml", f"{HEAD}{listed}</annotations>")
    assert Dataset(prepare(str(tmp_path / "export"), tmp_path / "out")).info.splits == {"train": 1, "val": 1}
    source(tmp_path / "flat", POLYGON, images=".")
    root = prepare(str(tmp_path / "flat/annotations.xml"), tmp_path / "flat_out")
    assert len(Dataset(root, "train").annotations(0)) == 1


def test_crowds_and_names_come_back(tmp_path):
    crowd = '><attribute name="is_crowd">true</attribute></polygon>'
    source(tmp_path / "export", POLYGON + POLYGON.replace("></polygon>", crowd))
    root = prepare(str(tmp_path / "export"), tmp_path / "out")
    assert Dataset(root, "train").annotations(0)[1]["iscrowd"] == 1
    export(str(root), "cvat", tmp_path / "again")
    back = prepare(str(tmp_path / "again"), tmp_path / "back")
    assert Dataset(back, "train").annotations(0)[1]["iscrowd"] == 1
    assert "attributes" not in Dataset(back, "train").annotations(0)[1]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (POLYGON.replace("9.00,9.00", "9.00,oben"), "shape 1 (polygon, cat): its points are"),
        (POLYGON.replace('label="cat" ', ""), "shape 1 (polygon) has no label"),
        ('<mask label="cat" rle="0, 5" left="1" top="1" width="2" height="2" z_order="0"></mask>', "5 pixels"),
        ('<mask label="cat" rle="0, 9000000000" left="1" top="1" width="9000000000" height="1"></mask>', "9000000000"),
        ('<box label="cat" xtl="nan" ytl="1" xbr="3" ybr="4" z_order="0"></box>', "its xtl is 'nan'"),
        ('<skeleton label="face"><points label="nose" outside="0" points="1,1"></points></skeleton>', "'nose'"),
        ("<blob/>", "no shape of CVAT is called 'blob'"),
    ],
)
def test_broken_shapes_are_named(tmp_path, shapes, said):
    source(tmp_path / "export", shapes)
    with pytest.raises(DataError, match=r"frame_000000\.png") as caught:
        prepare(str(tmp_path / "export"), tmp_path / "out")
    assert said in str(caught.value)


def test_tracks_of_a_video_are_refused(tmp_path):
    file = source(tmp_path / "export", "")
    file.write_text(
        file.read_text("utf-8").replace("</annotations>", '<track id="0" label="cat"></track></annotations>')
    )
    with pytest.raises(DataError, match="CVAT for video") as caught:
        prepare(str(tmp_path / "export"), tmp_path / "out")
    assert "CVAT for images 1.1" in caught.value.hint


def test_labels_without_a_declaration_are_noted(tmp_path):
    source(tmp_path / "export", POLYGON.replace("cat", "bird"))
    root = prepare(str(tmp_path / "export"), tmp_path / "out")
    assert Dataset(root).info.names == ["cat", "face", "bird"]
    assert "does not declare: bird" in " ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])
