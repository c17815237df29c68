"""The report is made once for a state of the files, and holds a recipe's limits against the fullest images."""

import json
import os

import pytest

from segcli.core.errors import DataError
from segcli.core.files import PART
from segcli.core.recipe.recipe import Recipe
from segcli.core.state import state_dir
from segcli.doctor import report_cache as module
from segcli.doctor.report_cache import FILE, KIND, admit, checked, listing


@pytest.fixture
def made(monkeypatch):
    """A list that grows by one with each report that is really made."""
    made = []
    check = module.check
    monkeypatch.setattr(module, "check", lambda root: made.append(root) or check(root))
    return made


def recipe(root, **evaluation):
    return Recipe.parse(
        {"name": "r", "task": "instance", "data": {"root": str(root)}, "model": {"name": "rcnn"}, "eval": evaluation},
        "r",
    )


def test_a_report_holds_until_a_file_changes(tiny_copy, made):
    first = checked(tiny_copy)
    assert checked(tiny_copy) == first
    assert len(made) == 1
    assert not [p.name for p in tiny_copy.iterdir() if p.name.endswith(PART)]
    os.utime(tiny_copy / "images/three.png", (1, 1))
    checked(tiny_copy)
    assert len(made) == 2
    (tiny_copy / "images/five.png").unlink()
    assert not checked(tiny_copy).ok
    assert not checked(tiny_copy).ok
    assert len(made) == 3
    checked(tiny_copy, fresh=True)
    assert len(made) == 4


def test_a_kept_report_that_is_broken_or_of_other_rules_is_made_anew(tiny_copy, made, capsys):
    checked(tiny_copy)
    (file,) = [f for f in (state_dir() / KIND).iterdir() if str(tiny_copy.resolve()) in f.read_text(encoding="utf-8")]
    file.write_text("{", encoding="utf-8")
    checked(tiny_copy)
    assert "checking again" in capsys.readouterr().err
    kept = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**kept, "state": "0 " + kept["state"]}), encoding="utf-8")
    checked(tiny_copy)
    assert len(made) == 3


def test_a_report_that_came_with_the_dataset_says_nothing(tiny_copy, made):
    good = checked(tiny_copy)
    (tiny_copy / "images/five.png").unlink()
    for state in ("", listing([tiny_copy]), f"1 {listing([tiny_copy])}"):
        (tiny_copy / FILE).write_text(json.dumps({"state": state, "report": good.to_json()}), encoding="utf-8")
        assert not checked(tiny_copy).ok


def test_nothing_is_written_into_the_dataset_and_a_report_that_cannot_be_kept_is_a_note(
    tiny_copy, made, capsys, monkeypatch, tmp_path
):
    before = sorted(tiny_copy.rglob("*"))
    (tmp_path / "state").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert checked(tiny_copy).ok
    assert "the next training checks again" in capsys.readouterr().err
    assert sorted(tiny_copy.rglob("*")) == before


def test_listing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.txt").write_text("1", encoding="utf-8")
    before = listing([tmp_path], tmp_path / "in")
    (tmp_path / "in/b.txt").write_text("2", encoding="utf-8")
    assert listing([tmp_path], tmp_path / "in") == before
    assert listing([tmp_path]) != before
    (tmp_path / "a.txt").write_text("12", encoding="utf-8")
    assert listing([tmp_path], tmp_path / "in") != before


def test_images_beyond_a_recipes_limits_are_named(tiny_copy, capsys):
    admit(recipe(tiny_copy), queries=2)
    assert capsys.readouterr().err == ""
    admit(recipe(tiny_copy, max_detections=2), queries=1)
    said = capsys.readouterr().err
    assert "up to 2 objects, but model.queries is 1: raise it" in said
    assert " and 2 more" in said
    assert "max_detections" not in said
    admit(recipe(tiny_copy), queries=1, quiet=True)
    assert capsys.readouterr().err == ""


def test_errors_are_told_with_their_places(tiny_copy):
    (tiny_copy / "images/five.png").unlink()
    with pytest.raises(DataError, match=r"1 image files are missing \(.*five\.png") as caught:
        admit(recipe(tiny_copy))
    assert "--fix" in caught.value.hint
