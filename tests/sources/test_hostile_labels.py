"""Label files that are made to exhaust their reader: XML that multiplies or nests, images of claimed gigapixels."""

import json

import pytest
from sources import photo, text

from segcli.core.errors import DataError
from segcli.core.files import DEEPEST
from segcli.core.xml_tree import read_xml

BOX = "<object><name>a</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
HEAD = '<?xml version="1.0" encoding="{}"?>'
HOSTILE = {
    "entities": f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{LAUGHS}]><annotation>{{0}}<folder>&l9;</folder></annotation>',
    "a file": '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>{0}&x;</annotation>',
    "a document type alone": '<!DOCTYPE annotation SYSTEM "x.dtd"><annotation>{0}</annotation>',
    "depth": "<annotation>{0}" + "<a>" * DEEPEST + "</a>" * DEEPEST + "</annotation>",
    "a million deep": "<annotation>{0}" + "<a>" * 10**6,
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_xml_that_multiplies_or_nests_is_refused_in_one_line(segcli, tmp_path, content, encoding):
    photo(tmp_path / "v" / "0.jpg")
    (tmp_path / "v" / "0.xml").write_bytes((HEAD.format(encoding) + content.replace("{0}", BOX)).encode(encoding))
    result = segcli("prepare", tmp_path / "v", "--out", tmp_path / "out")
    assert result.code == 3
    assert "0.xml: " in result.error
    assert len(result.err.splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_xml_of_other_encodings_is_read(segcli, tmp_path):
    for number, encoding in enumerate(("utf-8", "utf-16", "iso-8859-1", "utf-8-sig")):
        photo(tmp_path / "v" / f"{number}.jpg")
        said = HEAD.format(encoding.removesuffix("-sig")) + f"<!-- by hand --><annotation>{BOX}</annotation>"
        (tmp_path / "v" / f"{number}.xml").write_bytes(said.encode(encoding))
    result = segcli("prepare", tmp_path / "v", "--out", tmp_path / "out", "--split", "train=1")
    assert result.code == 0
    found = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text(encoding="utf-8"))
    assert [a["bbox"] for a in found["annotations"]] == [[1, 1, 8, 8]] * 4


def test_xml_that_is_none_names_its_file(tmp_path):
    for content in (b"", b"<a>", b"<a></b>", b"\x00\xff", b'<?xml version="1.0" encoding="no-such"?><a/>'):
        (tmp_path / "a.xml").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.xml: not valid XML"):
            read_xml(tmp_path / "a.xml")


def labelme(root, height, width, shape):
    text(
        root / "0.json",
        {"imagePath": "0.jpg", "imageHeight": height, "imageWidth": width, "shapes": [{"label": "a", **shape}]},
    )


def coco(root, height, width, shape):
    polygon = [v for point in shape["points"] for v in point]
    image = {"id": 1, "file_name": "0.jpg", "height": height, "width": width}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": 0}
    annotation["segmentation"] = [polygon]
    text(
        root / "all.json",
        {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "a"}]},
    )


def voc(root, height, width, shape):
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    text(root / "0.xml", f"<annotation>{size}{BOX}</annotation>")


POLYGON = {"shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 9], [1, 9]]}


@pytest.mark.parametrize("size", [(32768, 32768), (1, 2**30), (20000, 20000)])
@pytest.mark.parametrize("write", [labelme, coco, voc])
def test_an_image_of_claimed_gigapixels_is_looked_at_before_masks_are_drawn(segcli, tmp_path, write, size):
    photo(tmp_path / "in" / "0.jpg")
    write(tmp_path / "in", *size, POLYGON)
    if write is voc and max(size) > 999_999:
        pytest.skip("VOC's reader takes no such number")
    result = segcli("prepare", tmp_path / "in", "--out", tmp_path / "out", "--split", "train=1")
    assert result.code == 3
    assert f"{size[1]} x {size[0]} pixels" in result.error
    assert "32 x 24" in result.error
    checked = segcli("prepare", tmp_path / "in", "--check")
    assert checked.code == 3
    assert f"{size[1]} x {size[0]} pixels" in checked.out


def test_labels_of_an_image_that_was_reduced_after_them_are_left_to_the_doctor(segcli, tmp_path):
    photo(tmp_path / "in" / "0.jpg")
    labelme(tmp_path / "in", 24 * 8, 32 * 8, {"shape_type": "polygon", "points": [[8, 8], [80, 8], [80, 80]]})
    assert segcli("prepare", tmp_path / "in", "--out", tmp_path / "out", "--split", "train=1").code == 0
    assert "image_size" in json.dumps(segcli("prepare", tmp_path / "in", "--check", "--json").json)


def test_a_size_below_zero_is_refused_by_name(segcli, tmp_path):
    photo(tmp_path / "in" / "0.jpg")
    labelme(tmp_path / "in", -24, 32, POLYGON)
    result = segcli("prepare", tmp_path / "in", "--out", tmp_path / "out")
    assert result.code == 3
    assert "0.json: imageHeight" in result.error
