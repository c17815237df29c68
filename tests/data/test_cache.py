"""Decoded images in memory and on disk: the same samples, within a bound, whatever happens to the files."""

import itertools
import threading

import cv2
import numpy as np
import pytest
import torch

from segcli.data.cache import ImageCache, SampleCache
from segcli.data.dataset import Dataset
from segcli.data.loader import train_loader
from segcli.ops.preprocess import Preprocess
from segcli.types import mask_boxes


def test_the_cache_gives_what_the_dataset_gives_within_its_bound(tiny_dataset):
    data = Dataset(tiny_dataset, "train", task="panoptic")
    for limit in (0, 25_000, 10**9):
        cache = SampleCache(data, limit)
        for _ in range(2):
            for i in range(4):
                a, b = cache.read(i), data.read(i)
                assert np.array_equal(a.image, b.image)
                assert torch.equal(a.target.instances.masks, b.target.instances.masks)
                assert torch.equal(a.target.semantic, b.target.semantic)
        assert cache.left >= 0
        assert len(cache._samples) == {0: 0, 25_000: 0, 10**9: 4}[limit]


def test_a_cached_image_is_not_read_again(tiny_copy):
    data = Dataset(tiny_copy, "train")
    cache = SampleCache(data, 10**9)
    before = cache.read(0).image
    (tiny_copy / "images" / "one image.png").unlink()
    assert np.array_equal(cache.read(0).image, before)


def stored(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def assert_same(a, b):
    assert np.array_equal(a.image, b.image)
    assert torch.equal(a.target.instances.boxes, b.target.instances.boxes)
    assert torch.equal(a.target.instances.masks, b.target.instances.masks)
    assert torch.equal(a.target.semantic, b.target.semantic)


def test_what_lies_on_disk_is_what_was_decoded(tiny_copy, tmp_path):
    data = Dataset(tiny_copy, "train", task="panoptic")
    for _ in range(2):
        cache = SampleCache(ImageCache(data, 1.0, folder=tmp_path / "c"), 0)
        for i in range(4):
            assert_same(cache.read(i), data.read(i))
    assert stored(tmp_path / "c") == ["1.rgb", "2.rgb", "3.rgb", "4.rgb"]
    for file in (tiny_copy / "images").rglob("*"):  # as unreadable as they are, they have not changed on the outside
        assert not file.is_file() or SampleCache(ImageCache(data, 1.0, folder=tmp_path / "c")).read(0).image.any()


def test_a_changed_image_and_a_damaged_file_are_decoded_anew(tiny_copy, tmp_path):
    data = Dataset(tiny_copy, "train", task="panoptic")
    before = ImageCache(data, 1.0, folder=tmp_path / "c").encoded(0).image
    black = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    (tiny_copy / "images" / "one image.png").write_bytes(black)
    assert before.any()
    assert not ImageCache(data, 1.0, folder=tmp_path / "c").encoded(0).image.any()
    (file,) = (tmp_path / "c").rglob("1.rgb")
    file.write_bytes(file.read_bytes()[:-100])
    assert not ImageCache(data, 1.0, folder=tmp_path / "c").encoded(0).image.any()
    assert file.stat().st_size == 40 + 48 * 64 * 3


def test_the_disk_holds_no_more_than_it_was_given(tiny_dataset, tmp_path):
    data = Dataset(tiny_dataset, "train")
    cache = ImageCache(data, 20_000 / 1e9, folder=tmp_path / "c")
    images = [cache.encoded(i).image for i in range(4)]
    assert len(stored(tmp_path / "c")) == 2
    assert sum(p.stat().st_size for p in (tmp_path / "c").rglob("*.rgb")) <= 20_000
    assert all(np.array_equal(image, data.image(i)) for i, image in enumerate(images))


def test_shrunk_images_have_shrunk_labels(tiny_dataset, tmp_path):
    data = Dataset(tiny_dataset, "train", task="panoptic")
    cache = SampleCache(ImageCache(data, 1.0, longest=32, folder=tmp_path / "c"), 10**9)
    for i in range(4):
        small, full = cache.read(i), data.read(i)
        instances = small.target.instances
        assert small.image.shape == (24, 32, 3)
        assert small.target.size == (24, 32)
        assert small.original_size == (48, 64)
        assert len(instances) == len(full.target.instances)
        masks = full.target.instances.masks.numpy()
        assert np.array_equal(instances.masks.numpy(), masks[:, 1::2, 1::2])  # pixel centres
        assert np.array_equal(instances.boxes.numpy(), mask_boxes(instances.masks.numpy()))
        assert np.array_equal(small.target.semantic.numpy(), full.target.semantic.numpy()[1::2, 1::2])
    with pytest.warns(UserWarning, match=r"objects are smaller than a pixel at data\.cache\.longest"):
        [ImageCache(data, 1.0, longest=2, folder=tmp_path / "c").encoded(i) for i in range(4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_share_the_folder(tiny_dataset, tmp_path, workers):
    data, preprocess = Dataset(tiny_dataset, "train"), Preprocess().with_size(64)

    def batches(disk, workers):
        loader = train_loader(data, preprocess, None, batch_size=2, seed=0, workers=workers, disk=disk)
        return [b.images for b in itertools.islice(loader, 4)]

    expected = batches(None, 0)
    found = []
    run = lambda: found.append(batches(ImageCache(data, 1.0, folder=tmp_path / "c"), workers))
    threads = [threading.Thread(target=run) for _ in range(2)] if workers == 0 else []
    [t.start() for t in threads]
    [t.join() for t in threads]
    run()
    for images in found:
        assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True))
    assert stored(tmp_path / "c") == ["1.rgb", "2.rgb", "3.rgb", "4.rgb"]


def test_a_folder_that_cannot_be_written_is_said_once(tiny_dataset, tmp_path):
    (tmp_path / "c").write_text("a file")
    data = Dataset(tiny_dataset, "train")
    cache = ImageCache(data, 1.0, folder=tmp_path / "c")
    with pytest.warns(UserWarning, match="can't be written") as caught:
        images = [cache.encoded(i).image for i in range(4)]
    assert len(caught) == 1
    assert all(np.array_equal(image, data.image(i)) for i, image in enumerate(images))
