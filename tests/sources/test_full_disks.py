"""A target that is full or read-only: one line that says so, and nothing there that looks like a dataset."""

import errno
import json
import os
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import export, prepare
from segcli.core.errors import SegcliError
from segcli.data.dataset import Dataset
from segcli.sources.archives import unpack


@pytest.fixture
def source(tmp_path):
    """Three photographs of 12 KB each, and 40 KB of labels: few and long, as each one is drawn for the sheet."""
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 64})
        for key in range(2 * i, 2 * i + 2):
            points = np.random.default_rng(key).uniform(0, 64, 720).round(2).tolist()
            annotations.append({"id": key, "image_id": i, "category_id": 1, "segmentation": [points]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "leaf"}]}
    (folder / "labels.json").write_text(json.dumps(content), "utf-8")
    return folder


@pytest.fixture
def disk(tmp_path):
    """A small disk: `disk(kilobytes)` empties it and sets its size, `disk(kilobytes, "ro")` forbids to write on it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip("a disk of its own can't be mounted here")

    try:
        mount("size=1m")
    except FileNotFoundError:
        pytest.skip("this system has no mount")

    def resized(kilobytes, how="rw"):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        mount(f"remount,size={kilobytes}k,{how}")
        return folder

    yield resized
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_full_at_any_point(source, disk):
    full = whole = 0
    for kilobytes in range(8, 200, 8):
        folder = disk(kilobytes)
        try:
            root = prepare(str(source), folder / "out")
        except SegcliError as error:
            full += "No space left on device" in str(error) and os.listdir(folder) == []
        else:
            whole += len(Dataset(root, "train")) + len(Dataset(root, "val")) == 3
    assert min(full, whole) > 3
    assert full + whole == 24


def test_exports_onto_a_full_disk(source, disk, tmp_path):
    root = prepare(str(source), tmp_path / "out")
    for to in ("coco", "yolo", "labelme"):
        with pytest.raises(SegcliError, match=rf"/disk/{to}: can't be written: No space left on device"):
            export(str(root), to, disk(24) / to)
        assert os.listdir(disk(24)) == []


def test_unpacking_onto_a_full_disk(source, disk, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        for path in source.rglob("*.png"):
            pack.write(path, path.name)
    with pytest.raises(SegcliError, match="No space left on device"):
        unpack(tmp_path / "a.zip", disk(16) / "out", progress=False)


def test_a_read_only_disk(source, disk):
    folder = disk(1000, "ro")
    with pytest.raises(SegcliError, match=r"can't be written: Read-only file system"):
        prepare(str(source), folder / "out")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_copy_that_fails(source, tmp_path, monkeypatch, after):
    """The same where no disk can be mounted."""
    done = []

    def copy(original, target):
        if len(done) == after:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        done.append(original)
        target.write_bytes(original.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(SegcliError, match="No space left on device"):
        prepare(str(source), tmp_path / "new/out")
    assert os.listdir(tmp_path / "new") == []
