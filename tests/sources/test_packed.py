"""An archive as a tool exported it is a source: unpacked for as long as it is read, and nowhere else."""

import gc
import os
import shutil
from pathlib import Path

import pytest
from sources import FORMATS, SCENE, masks_of

from segcli.commands.prepare import diagnose, export, prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def packed(tmp_path: Path, kind: str, inner: str = ".") -> Path:
    FORMATS["coco"](tmp_path / "source" / inner)
    return Path(shutil.make_archive(str(tmp_path / "My Export v1.2"), kind, tmp_path / "source"))


@pytest.mark.parametrize(("kind", "inner"), [("zip", "."), ("gztar", "project/export"), ("xztar", ".")])
def test_what_is_in_it_is_read_and_gone_at_the_end(tmp_path, cache, kind, inner):
    archive = packed(tmp_path, kind, inner)
    root = prepare(str(archive), tmp_path / "out")
    data = Dataset(root)
    assert (data.info.name, data.info.splits) == ("My Export v1.2", {"train": 2, "val": 1})
    assert {name: len(found) for name, found in masks_of(root).items()} == dict.fromkeys(SCENE, 2)
    assert not (root / "images").is_symlink()
    assert not [*(cache / "unpacked").iterdir()]
    before = os.stat(root / "info.json").st_mtime_ns
    assert prepare(str(archive), tmp_path / "out") == root  # the same again
    assert os.stat(root / "info.json").st_mtime_ns == before


def test_it_is_checked_and_goes_out_again(tmp_path, cache):
    archive = packed(tmp_path, "zip")
    assert diagnose(str(archive)).ok
    export(str(archive), "yolo", tmp_path / "yolo")
    assert len([*(tmp_path / "yolo/labels").rglob("*.txt")]) == 3
    assert not [*(cache / "unpacked").iterdir()]


def test_several_are_merged(tmp_path, cache):
    archives = []
    for name, kind in (("labelme", "zip"), ("cvat", "tar")):
        FORMATS[name](tmp_path / name)
        archives.append(shutil.make_archive(str(tmp_path / name), kind, tmp_path / name))
    assert sorted(Dataset(prepare(archives, tmp_path / "out")).info.names) == ["cat", "dog"]
    assert not [*(cache / "unpacked").iterdir()]


def test_errors_name_the_archive_and_leave_nothing(tmp_path, cache):
    FORMATS["cvat"](tmp_path / "source")
    file = tmp_path / "source/annotations.xml"
    file.write_text(file.read_text("utf-8").replace('label="cat"', ""), encoding="utf-8")
    archive = shutil.make_archive(str(tmp_path / "cats"), "zip", tmp_path / "source")
    with pytest.raises(DataError, match=r"cats\.zip.annotations\.xml: a\.png: shape 1 \(mask\) has no label"):
        prepare(archive, tmp_path / "out")
    gc.collect()  # the error's traceback holds on to what it was raised in
    assert not [*(cache / "unpacked").iterdir()]
    Path(archive).write_bytes(Path(archive).read_bytes()[:700])
    with pytest.raises(DataError, match="can't be unpacked"):
        prepare(archive, tmp_path / "out")
    assert not [*(cache / "unpacked").iterdir()]


def test_nothing_can_be_linked_to(tmp_path):
    with pytest.raises(UsageError, match="--link") as caught:
        prepare(str(packed(tmp_path, "zip")), tmp_path / "out", link=True)
    assert caught.value.hint


def test_a_folder_around_everything_is_no_layout_of_its_own(tmp_path):
    FORMATS["masks"](tmp_path / "source/project")  # read from outside it is one of `pairs`, too
    archive = shutil.make_archive(str(tmp_path / "cells"), "zip", tmp_path / "source")
    root = prepare("mine", tmp_path / "out", source_path=archive)
    assert {name: len(found) for name, found in masks_of(root).items()} == dict.fromkeys(SCENE, 2)
    assert Dataset(root).info.name == "mine"
