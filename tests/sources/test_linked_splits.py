"""A link called after a split is that split: what it leads to is not read once more as images without one."""

import os

import pytest
from sources import FORMATS

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.sources.folders import listed_once, walk


@pytest.mark.parametrize(
    ("name", "above"), [("masks", "."), ("labelme", "."), ("voc_boxes", "."), ("yolo", "images"), ("via", ".")]
)
@pytest.mark.parametrize("place", ["real", "a store/real"])
def test_a_folder_that_a_split_is_linked_to_counts_once(tmp_path, name, above, place):
    FORMATS[name](tmp_path / "source")
    folder = tmp_path / "source" / above
    if not (folder / "val").is_dir():
        pytest.skip("has no folders of splits")
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / "val").rename(folder / place)
    (folder / "val").symlink_to(place)
    info = DatasetInfo.load(prepare(str(tmp_path / "source"), tmp_path / "out", samples=False))
    assert info.splits == {"train": 2, "val": 1}


def test_links_between_splits_and_to_files_elsewhere_stay_as_they_are(tmp_path):
    for name in ("val", "real", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "test").symlink_to("val")
    (tmp_path / "more").symlink_to("other")
    assert {folder.name for folder, _, names in walk(tmp_path) if names} == {"val", "test", "real", "other", "more"}


def test_what_is_met_before_the_link_that_stands_for_it_counts_once_too(tmp_path):
    for folder in ("pool", "splits"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pool" / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "splits" / "val").symlink_to("../pool")
    assert [folder.name for folder, _, names in walk(tmp_path) if names] == ["val"]


def test_a_source_is_read_once_while_it_is_looked_at(tmp_path, monkeypatch):
    for folder in ("train", "val/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text("a", encoding="utf-8")
    real, read = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: read.append(os.fspath(path)) or real(path))
    with listed_once():
        first = list(walk(tmp_path))
        with listed_once():  # a plan within a plan
            for folder, inner, _ in walk(tmp_path):
                inner.clear() if folder != tmp_path else None  # what a caller leaves out stays for the next one
        assert list(walk(tmp_path)) == first
    assert len(read) == len(set(read)) == len(first) == 4
    (tmp_path / "test").mkdir()
    assert len(list(walk(tmp_path))) == 5
