"""A prepared folder appears whole or not at all, holds the images byte by byte, and is never overwritten unasked."""

import dataclasses
import gc
import json
import multiprocessing
import os
import warnings

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS

from segcli.commands.prepare import prepare
from segcli.core import folders, plugins
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.files import PART
from segcli.core.trust import grant
from segcli.data import canonical, fingerprint
from segcli.data.canonical import Record
from segcli.data.dataset import Dataset
from segcli.data.write_folder import write_folder
from segcli.sources import export_files

INFO = DatasetInfo("toy", (Category("cat", 4, colour=(9, 8, 7)), Category("sky", 2, thing=False)), {})


@pytest.fixture
def photos(tmp_path):
    """Two image files: one with EXIF and an odd name, that a re-encoding would change."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    for name in ("고양이 🐈.jpg", "b.jpg"):
        Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(folder / name, quality=30, exif=exif)
    return folder


def records(folder, ids=(None, None), **more):
    box = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    for path, key in zip(sorted(folder.glob("*.jpg")), ids, strict=True):
        yield Record(
            path.name, (20, 30), path, [{"category_id": 4, "segmentation": [box], "iscrowd": 0}], id=key, **more
        )


def bare(folder, ids=(None, None)):
    return [dataclasses.replace(r, annotations=[]) for r in records(folder, ids)]


def test_images_are_copied_byte_by_byte(tmp_path, photos):
    info = write_folder(tmp_path / "out", INFO, {"train": records(photos)}, settings={"a": 1})
    assert info.splits == {"train": 2}
    for path in photos.iterdir():
        assert (tmp_path / "out/images" / path.name).read_bytes() == path.read_bytes()
    data = Dataset(tmp_path / "out", "train")
    assert data.info == info
    assert sorted(data.image_ids) == [1, 2]
    assert data.read(0).image.shape == (20, 30, 3)
    assert canonical.prepared(tmp_path / "out")["settings"] == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my photos", "out"]


def test_link_copies_nothing(tmp_path, photos):
    info = dataclasses.replace(INFO, image_root=str(photos))
    write_folder(tmp_path / "out", info, {"train": records(photos)}, link=True)
    grant(tmp_path / "out", str(photos), photos, trusted=False)
    assert not (tmp_path / "out/images").exists()
    assert Dataset(tmp_path / "out", "train").read(1).image.shape == (20, 30, 3)
    with pytest.raises(UsageError, match="--link"):
        write_folder(tmp_path / "made", info, {"train": [Record("a.png", (2, 2), b"png", [])]}, link=True)


def test_an_interrupted_preparation_leaves_nothing(tmp_path, photos):
    def stopped():
        yield next(records(photos))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", INFO, {"train": stopped()})
    assert [p.name for p in tmp_path.iterdir()] == ["my photos"]


def test_what_is_there_stays(tmp_path, photos):
    out = tmp_path / "out"
    first = write_folder(out, INFO, {"train": records(photos)}, settings={"seed": 0})
    before = (out / "annotations/train.json").stat().st_mtime_ns
    assert write_folder(out, INFO, {"train": bare(photos)}, settings={"seed": 0}) == first
    assert (out / "annotations/train.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"prepared differently \(seed\)") as caught:
        write_folder(out, INFO, {"train": bare(photos)}, settings={"seed": 1})
    assert "--force" in caught.value.hint
    assert (out / "annotations/train.json").stat().st_mtime_ns == before
    again = write_folder(out, INFO, {"train": bare(photos)}, settings={"seed": 1}, force=True)
    assert again.fingerprint != first.fingerprint
    assert DatasetInfo.load(out) == again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my photos", "out"]


def test_a_folder_of_something_else_is_never_touched(tmp_path, photos):
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", INFO, {"train": records(photos)})  # an empty folder is fine
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/diary.txt").write_text("dear diary", encoding="utf-8")
    for force in (False, True):
        with pytest.raises(DataError, match="not a prepared dataset"):
            write_folder(tmp_path / "holiday", INFO, {"train": records(photos)}, force=force)
    assert (tmp_path / "holiday/diary.txt").read_text(encoding="utf-8") == "dear diary"


def _prepare(folder, photos, settings, barrier, results):
    def slow():
        barrier.wait(20)  # both have seen that there is nothing yet
        yield from records(photos)

    try:
        info = write_folder(folder, INFO, {"train": slow()}, settings=settings)
        results.put(info.fingerprint)
    except DataError as error:
        results.put(str(error))


@pytest.mark.parametrize("same", [True, False])
def test_two_processes_at_once(tmp_path, photos, same):
    """Both get the one right dataset, or the slower one is told that it wanted another."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    settings = [{"seed": 0}, {"seed": 0 if same else 1}]
    processes = [
        context.Process(target=_prepare, args=(tmp_path / "out", photos, s, barrier, results)) for s in settings
    ]
    for process in processes:
        process.start()
    said = sorted(results.get(timeout=30) for _ in processes)
    for process in processes:
        process.join(30)
    stored = DatasetInfo.load(tmp_path / "out").fingerprint
    assert stored in said
    assert said == [stored, stored] if same else sum("prepared differently" in text for text in said) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my photos", "out"]


@pytest.mark.parametrize("failure", [OSError(28, "no space"), KeyboardInterrupt()])
def test_a_failed_replacement_leaves_the_old_dataset(tmp_path, photos, monkeypatch, failure):
    write_folder(tmp_path / "out", INFO, {"train": records(photos)}, settings={"seed": 0})
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    rename = os.rename

    def fail(source, target):
        if str(source).endswith(PART):
            raise failure
        rename(source, target)

    monkeypatch.setattr("segcli.data.write_folder.os.rename", fail)
    with pytest.raises((SegcliError, KeyboardInterrupt)):
        write_folder(tmp_path / "out", INFO, {"train": records(photos)}, settings={"seed": 1}, force=True)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    exported = tmp_path / "yolo"
    module = plugins.find("format", "yolo")
    export_files.export(tmp_path / "out", exported, module)
    monkeypatch.setattr("segcli.data.write_folder.os.rename", fail)
    with pytest.raises((SegcliError, KeyboardInterrupt)):
        export_files.export(tmp_path / "out", exported, module, force=True)
    assert (exported / "data.yaml").is_file()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_ids_are_unique_over_all_splits(tmp_path, photos):
    splits = {"train": records(photos, (7, 9)), "val": [dataclasses.replace(r, id=7) for r in bare(photos)][:1]}
    write_folder(tmp_path / "out", INFO, splits)
    ids = {s: [i["id"] for i in _json(tmp_path / f"out/annotations/{s}.json")["images"]] for s in splits}
    assert ids == {"train": [7, 9], "val": [10]}
    assert canonical.prepared(tmp_path / "out")["notes"] == ["1 image ids were used twice and are renumbered"]


def test_one_name_for_two_files_is_an_error(tmp_path, photos):
    (photos / "more").mkdir()
    (photos / "more/b.jpg").write_bytes(b"another")
    other = Record("b.jpg", (20, 30), photos / "more/b.jpg", [])
    with pytest.raises(DataError, match=r"two images have this name.*more/b\.jpg"):
        write_folder(tmp_path / "out", INFO, {"train": [*records(photos), other]})


@pytest.mark.parametrize("name", ["../b.jpg", "/etc/b.jpg", ""])
def test_file_names_stay_inside(tmp_path, photos, name):
    with pytest.raises(DataError, match="below the image folder"):
        write_folder(tmp_path / "out", INFO, {"train": [Record(name, (20, 30), photos / "b.jpg", [])]})
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that count")
def test_a_folder_that_cant_be_written(tmp_path, photos):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(SegcliError, match="can't be written"):
        write_folder(tmp_path / "closed/out", INFO, {"train": records(photos)})


def test_a_place_that_is_no_folder(tmp_path, photos):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(SegcliError, match="can't be written"):
        write_folder(tmp_path / "file/out", INFO, {"train": records(photos)})


def test_categories_are_written_as_coco_has_them(tmp_path, photos):
    person = Category("person", 1, keypoints=("nose", "eye"), skeleton=((0, 1),))
    write_folder(
        tmp_path / "out", dataclasses.replace(INFO, categories=(person, *INFO.categories)), {"train": bare(photos)}
    )
    written = _json(tmp_path / "out/annotations/train.json")["categories"]
    assert [(c["id"], c["name"], c["isthing"]) for c in written] == [(1, "person", 1), (4, "cat", 1), (2, "sky", 0)]
    assert (written[0]["keypoints"], written[0]["skeleton"]) == (["nose", "eye"], [[1, 2]])
    assert written[1]["color"] == [9, 8, 7]


def test_the_fingerprint_follows_the_content_alone(tmp_path, photos):
    prints = [
        write_folder(tmp_path / name, INFO, {"train": make(photos)}, settings=settings).fingerprint
        for name, make, settings in [("a", records, {}), ("b", records, {"x": 1}), ("c", bare, {})]
    ]
    assert prints[0] == prints[1] != prints[2]
    assert fingerprint.current(tmp_path / "a") == prints[0]


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_replacement_whose_way_back_fails_too_keeps_what_was_there(tmp_path, monkeypatch):
    old, new = tmp_path / "set", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "labels").write_text(folder.name)
        folders.list_files(folder)
    real, calls = os.rename, []

    def rename(source, target):
        calls.append(source)
        if len(calls) > 1:
            raise OSError("the disk is gone")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="the disk is gone"):
        folders.publish(new, old)
    assert (tmp_path / "set.old-1/labels").read_text() == "set"


@pytest.mark.parametrize(("name", "lost"), [("coco", "train/*.png"), ("panoptic", "annotations/panoptic_train/*.png")])
def test_no_file_stays_open_where_writing_ends_early(tmp_path, name, lost):
    FORMATS[name](tmp_path / "source")
    next((tmp_path / "source").glob(lost)).unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError):
            prepare(str(tmp_path / "source"), tmp_path / "out")
        gc.collect()
    assert [w for w in caught if issubclass(w.category, ResourceWarning)] == []
