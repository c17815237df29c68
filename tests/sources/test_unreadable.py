"""Images and labels that can't be read: the doctor lists all, --fix leaves them out, prepare names the first."""

from pathlib import Path

import pytest
from sources import FORMATS

from segcli.commands.prepare import diagnose, prepare
from segcli.core.errors import DataError
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset
from segcli.doctor.check import check

WITHOUT_SPLITS = ("label_studio", "pix3d", "run_lengths", "darwin")


def images(root: Path, name: str) -> list[Path]:
    """Photographs a and c of the scene."""
    found = [p for p in sorted(root.rglob("*.png")) if p.stem.endswith(("_leftImg8bit", "a", "c"))]
    found = [p for p in found if not {"masks", "SegmentationClass", "SegmentationObject"} & {*p.parts}]
    found = [p for p in found if not any("annot" in part or part == "gtFine" for part in p.relative_to(root).parts)]
    found = [p for p in found if (name != "pix3d" or "mask" not in p.parts) and not p.stem.startswith("instance_")]
    return [found[0], found[-1]] if name == "cityscapes" else found


@pytest.mark.parametrize("name", FORMATS)
def test_broken_images_are_all_listed_and_left_out(tmp_path, name):
    FORMATS[name](tmp_path / "s")
    whole = images(tmp_path / "s", name)[-1].read_bytes()
    first, last = images(tmp_path / "s", name)
    first.write_bytes(b"no image")
    last.write_bytes(b"")
    found = {f.code: f.items for f in diagnose(str(tmp_path / "s")).findings if f.severity == "error"}
    listed = [(item.split, Path(item.file_name).name) for item in found.pop("image_unreadable")]
    splits = ("all", "all") if name in WITHOUT_SPLITS else ("train", "val")
    assert (listed, found) == (list(zip(splits, (first.name, last.name), strict=True)), {})
    last.write_bytes(whole)
    out = prepare(str(tmp_path / "s"), tmp_path / "out", fix=True, drop=True)
    assert [r["code"] for r in prepared(out)["repairs"]] == ["image_unreadable"]
    if name in WITHOUT_SPLITS:
        assert len(Dataset(out, task="detection")) == 2
    else:
        assert {s: len(Dataset(out, s, task="detection")) for s in ("train", "val")} == {"train": 1, "val": 1}
    assert check(out).ok


@pytest.mark.parametrize(
    ("name", "file", "change", "detail"),
    [
        ("yolo", "labels/train/a.txt", ("0 ", "0 x "), "a.txt, line 1"),
        ("via", "train/via_region_data.json", ('"name": "rect"', '"name": "blob"'), "no shape is called 'blob'"),
        ("semantic", "legend.csv", ("9,dog,stuff\n", ""), "the value 9 is not in"),
        ("labelme", "train/b.json", ('"points": [[0', '"points": [], "p": [[0'), "needs the two corners"),
    ],
)
def test_labels_that_cant_be_read_are_listed_by_image(tmp_path, name, file, change, detail):
    FORMATS[name](tmp_path / "s")
    path = tmp_path / "s" / file
    text = path.read_text("utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change), "utf-8")
    with pytest.raises(DataError, match=detail):
        prepare(str(tmp_path / "s"), tmp_path / "out")
    report = diagnose(str(tmp_path / "s"))
    (finding,) = [f for f in report.findings if f.severity == "error"]
    assert finding.code == "labels_unreadable"
    assert all(item.split and item.file_name and detail in item.detail for item in finding.items)
    if name != "semantic":  # where nothing can be read there is nothing to write
        repairs = prepared(prepare(str(tmp_path / "s"), tmp_path / "out", fix=True, drop=True))["repairs"]
        assert {r["code"] for r in repairs} == {"labels_unreadable"}
        assert detail in repairs[0]["action"]
