"""Folders that segcli writes whole: a user's files in them are never deleted."""

import os

import pytest

from segcli.core import folders
from segcli.core.errors import DataError, UsageError


@pytest.fixture
def made(tmp_path):
    """A finished folder of two files, and one that is to take its place."""
    for name in ("out", "building"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "info.json").write_text(name, encoding="utf-8")
        (tmp_path / name / "images/a.png").write_bytes(name.encode() * 100_000)
        folders.list_files(tmp_path / name)
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["notes.txt", "images/b.png", "runs/a/log.jsonl", "info.json", "images/a.png"])
def test_what_the_user_added_or_changed_is_named(made, name):
    (made / name).parent.mkdir(parents=True, exist_ok=True)
    (made / name).write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=name):
        folders.refuse_foreign(made)
    assert (made / name).read_text(encoding="utf-8") == "mine"


def test_links_are_not_ours_and_not_followed(made, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/p.jpg").write_text("p", encoding="utf-8")
    (made / "linked").symlink_to(tmp_path / "photos")
    assert folders.foreign(made) == ["linked"]


def test_files_that_were_only_touched_or_copied_are_ours(made):
    for path in (made / "info.json", made / "images/a.png"):
        os.utime(path, (1, 1))
    (made / ".DS_Store").write_text("x", encoding="utf-8")
    assert folders.foreign(made) == []


def test_a_replacement_keeps_what_came_in_meanwhile(made, tmp_path):
    (made / "notes.txt").write_text("mine", encoding="utf-8")
    kept = folders.publish(tmp_path / "building", made)
    assert kept == str(tmp_path / "out.old-1")
    assert [p.name for p in (tmp_path / "out.old-1").iterdir()] == ["notes.txt"]
    assert (made / "info.json").read_text(encoding="utf-8") == "building"


def test_a_link_keeps_pointing_where_it_did(made, tmp_path):
    (tmp_path / "link").symlink_to(made)
    assert folders.publish(tmp_path / "building", tmp_path / "link") is None
    assert (tmp_path / "link").is_symlink()
    assert (made / "info.json").read_text(encoding="utf-8") == "building"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "out"]


def test_what_is_written_beside_others_files_is_claimed_first(tmp_path):
    out = tmp_path / "out"
    folders.claim(out, ["a.jpg"])
    out.mkdir()
    (out / "a.jpg").write_text("ours", encoding="utf-8")
    folders.claim(out, ["a.jpg"])  # of a call that was killed
    folders.note_written(out)
    folders.claim(out, ["a.jpg", "b.jpg"])
    folders.note_written(out)
    (out / "b.jpg").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.jpg: is there already and was not written by segcli"):
        folders.claim(out, ["b.jpg"])
    (out / "a.jpg").write_text("changed", encoding="utf-8")
    with pytest.raises(DataError, match="was changed since"):
        folders.claim(out, ["a.jpg"])
    with pytest.raises(DataError, match="over the input"):
        folders.claim(out, ["b.jpg"], inputs=[out / "b.jpg"])


@pytest.mark.parametrize("target", ["loop", "other"])
def test_a_link_that_leads_back_to_itself_is_named(tmp_path, target):
    (tmp_path / "loop").symlink_to(tmp_path / target)
    (tmp_path / "other").symlink_to(tmp_path / "loop")
    for ask in (folders.real, folders.is_empty):
        with pytest.raises(UsageError, match="loop: is a link that leads back to itself"):
            ask(tmp_path / "loop")
