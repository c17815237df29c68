"""What no reader looks at is counted by reason in one note, in every format, by prepare and by the doctor."""

import pytest
from sources import FORMATS

from segcli.commands.prepare import diagnose, prepare
from segcli.data.canonical import prepared
from segcli.sources import unread


def litter(root):
    """Files of each kind that is left aside, and one of each that is not worth a word."""
    (root / ".hidden.jpg").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".git" / "deep.jpg").write_bytes(b"x")
    (root / "notes.psd").write_bytes(b"x")
    (root / "weights").write_bytes(b"x")
    (root / "README.md").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")


EXPECTED = "left aside: 2 hidden files (.git/, .hidden.jpg); 2 files of kinds that are not read (notes.psd, weights)"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_leaves_aside(tmp_path, name):
    FORMATS[name](tmp_path / "source")
    litter(tmp_path / "source")
    notes = prepared(prepare(str(tmp_path / "source"), tmp_path / "out", samples=False))["notes"]
    assert EXPECTED in notes
    assert not any(note.startswith("left aside: ") and ".DS_Store" in note for note in notes)


def test_the_doctor_says_it_too(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    litter(tmp_path / "source")
    (left,) = [finding for finding in diagnose(str(tmp_path / "source")).findings if finding.code == "left_out"]
    assert EXPECTED in [item.detail for item in left.items]


@pytest.mark.parametrize("name", FORMATS)
def test_a_clean_source_has_no_such_note(tmp_path, name):
    FORMATS[name](tmp_path / "source")
    notes = prepared(prepare(str(tmp_path / "source"), tmp_path / "out", samples=False))["notes"]
    assert not any("hidden" in note or "of kinds" in note or "that are none" in note for note in notes)


def test_photographs_of_phones_are_counted_without_the_plugin(tmp_path, monkeypatch):
    FORMATS["coco"](tmp_path / "source")
    for number in range(5):
        (tmp_path / "source" / f"{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setattr(unread, "SUFFIXES", unread.SUFFIXES - unread.PHONES)
    (note,) = [n for n in prepared(prepare(str(tmp_path / "source"), tmp_path / "out"))["notes"] if "HEIC" in n]
    assert "5 HEIC photographs (0.HEIC, 1.HEIC, 2.HEIC and 2 more: pip install 'segcli[heic]' reads them)" in note


def test_what_is_only_called_like_an_image_is_named(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    (tmp_path / "source" / "page.jpg").write_text("<html><body>404 not found</body></html>" * 9, encoding="utf-8")
    (tmp_path / "source" / "empty.png").write_bytes(b"")
    notes = prepared(prepare(str(tmp_path / "source"), tmp_path / "out"))["notes"]
    assert "left aside: 2 files called like images that are none (empty.png, page.jpg)" in notes


def test_of_a_file_what_lies_beside_its_images_counts_and_no_more(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    file = next((tmp_path / "source" / "annotations").glob("instances_train*.json"))
    (tmp_path / "source" / "train" / "beside.psd").write_bytes(b"x")
    (tmp_path / "source" / "elsewhere").mkdir()
    (tmp_path / "source" / "elsewhere" / "far.psd").write_bytes(b"x")
    notes = prepared(prepare(str(file), tmp_path / "out", split="train=0.5,val=0.5"))["notes"]
    assert "left aside: 1 file of kinds that are not read (beside.psd)" in notes
