"""A change of labels, maps, images or classes is told; a copy elsewhere, or a file's new time alone, is none."""

import json
import os
import shutil

import numpy as np
import pytest
from tiny import write_image

from segcli.core.dataset_info import DatasetInfo
from segcli.core.trust import grant
from segcli.data import fingerprint
from segcli.data.fingerprint import changes, current, former
from segcli.doctor.report_cache import checked


@pytest.fixture
def root(tiny_copy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for split, name in [("train", "one image"), ("val", "five")]:
        write_image(tiny_copy / "semantic" / split / f"{name}.png", np.zeros((48, 64, 3), np.uint8))
    return tiny_copy


def edit_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def same_length(root):
    file = root / "annotations" / "val.json"
    text, facts = file.read_text(encoding="utf-8"), file.stat()
    assert '"iscrowd": 0' in text
    file.write_text(text.replace('"iscrowd": 0', '"iscrowd": 1', 1), encoding="utf-8")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def swapped(root):
    one, two = root / "images" / "one image.png", root / "images" / "three.png"
    one.rename(root / "x")
    two.rename(one)
    (root / "x").rename(two)


def exchange(key):
    def change(info):
        a, b = info["categories"]
        a[key], b[key] = b[key], a[key]

    return lambda root: edit_json(root / "info.json", change)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (same_length, ["labels"]),
        (
            lambda root: (root / "annotations" / "extra.json").write_text('{"images": [], "annotations": []}'),
            ["labels"],
        ),
        (lambda root: write_image(root / "semantic/val/five.png", np.ones((48, 64, 3), np.uint8)), ["label maps"]),
        (lambda root: (root / "semantic" / "train" / "one image.png").unlink(), ["label maps"]),
        (swapped, ["images"]),
        (lambda root: (root / "images" / "five.png").write_bytes(b"another"), ["images"]),
        (exchange("name"), ["classes"]),
        (exchange("source_id"), ["classes"]),
        (lambda root: (root / "images" / "Thumbs.db").write_text("x"), []),
        (lambda root: edit_json(root / "info.json", lambda info: info.update(licence="CC-BY")), []),
        (lambda root: os.utime(root / "images" / "five.png"), []),
    ],
)
def test_what_has_changed_is_named(root, change, told):
    before = current(root)
    change(root)
    assert changes(before, root) == told


def test_a_copy_has_the_same_fingerprint_linked_or_not(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    shutil.move(copy / "images", tmp_path / "photos")
    edit_json(copy / "info.json", lambda info: info.update(image_root=str(tmp_path / "photos")))
    grant(copy, str(tmp_path / "photos"), tmp_path / "photos", trusted=False)
    assert changes(current(root), copy) == []
    (tmp_path / "photos" / "four.jpg").unlink()
    assert changes(current(root), copy) == ["images"]


def test_files_are_read_again_only_after_a_change(root, monkeypatch):
    first, calls = current(root), []
    compute = fingerprint._compute
    monkeypatch.setattr(fingerprint, "_compute", lambda *args: calls.append(1) or compute(*args))
    checked(root)
    assert current(root) == first
    assert not calls
    (root / "images" / "five.png").write_bytes(b"another")
    assert current(root) == current(root) != first
    assert len(calls) == 1


def test_nothing_is_written_into_the_folder_and_a_user_without_a_place_gets_it_too(root, tmp_path, monkeypatch):
    before = sorted(root.rglob("*"))
    first = current(root)
    assert sorted(root.rglob("*")) == before
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert current(root) == first


@pytest.mark.parametrize(
    "content", ["", "[]", '{"state": 1}', "\udcff".encode("utf-8", "surrogateescape").decode("latin1")]
)
def test_a_kept_fingerprint_that_is_none_is_made_again(root, tmp_path, content):
    first = current(root)
    (kept,) = (tmp_path / "state" / "segcli" / fingerprint.KEPT).iterdir()
    kept.write_text(content, encoding="utf-8")
    assert current(root) == first


def test_a_large_set_is_sampled(root, monkeypatch):
    monkeypatch.setattr(fingerprint, "LARGE", 100)
    before = current(root)
    (root / "images" / "five.png").write_bytes((root / "images" / "five.png").read_bytes()[:-1] + b"x")
    assert changes(before, root) == ["images"]


def test_fingerprints_of_earlier_versions_tell_of_labels_alone(root):
    before = former(root)
    swapped(root)
    assert changes(before, root) == []
    same_length(root)
    assert changes(before, root) == ["labels"]
    assert changes("", root) is None
    assert changes("3:a.b", root) is None


def test_prepare_writes_it(root, tmp_path):
    from segcli.commands.prepare import prepare

    out = prepare(str(root), tmp_path / "out", fix=True)
    info = DatasetInfo.load(out)
    assert info.fingerprint == current(out)
    assert changes(info.fingerprint, out) == []
