"""What a training step holds depends on the seed and the step alone."""

import itertools
import os
import pickle

import cv2
import numpy as np
import pytest
import torch

from segcli.core.errors import DataError
from segcli.data.augment.compose import build_augment
from segcli.data.dataset import Dataset
from segcli.data.loader import eval_loader, steps_per_epoch, train_loader
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch

PREPROCESS = Preprocess().with_size(64)
SETTINGS = {"flip": 0.5, "rot90": True, "scale": [0.7, 1.4], "colour": 1, "copy_paste": 0.5, "blur": 0.3}


def batches(root, count, *, split="train", task="instance", settings=SETTINGS, batch_size=2, seed=3, **options):
    data = Dataset(root, split, task=task)
    augment = build_augment(settings, canvas=(64, 64), info=data.info)
    loader = train_loader(data, PREPROCESS, augment, batch_size=batch_size, seed=seed, **options)
    return list(itertools.islice(loader, count))


def assert_same(a: Batch, b: Batch):
    assert a.image_ids == b.image_ids
    assert a.seeds == b.seeds
    assert a.sizes == b.sizes
    assert a.original_sizes == b.original_sizes
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.padding, b.padding)
    for s, t in zip(a.targets, b.targets, strict=True):
        assert (s.image_id, s.size) == (t.image_id, t.size)
        for name in ("boxes", "labels", "crowd", "masks"):
            assert torch.equal(getattr(s.instances, name), getattr(t.instances, name))
        assert (s.semantic is None and t.semantic is None) or torch.equal(s.semantic, t.semantic)


@pytest.fixture(scope="module")
def reference(tiny_dataset):
    return batches(tiny_dataset, 9)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tiny_dataset, reference, workers):
    for a, b in zip(reference, batches(tiny_dataset, 9, workers=workers), strict=True):
        assert_same(a, b)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't bind a process to one core")
def test_two_workers_on_one_core_need_no_warning(tiny_dataset, recwarn):
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        batches(tiny_dataset, 1, workers=2)
    finally:
        os.sched_setaffinity(0, cores)
    assert [str(w.message) for w in recwarn if "worker" in str(w.message)] == []


@pytest.mark.parametrize(("start", "workers"), [(1, 0), (2, 0), (5, 0), (5, 2)])
def test_resuming_at_any_step_continues_the_stream(tiny_dataset, reference, start, workers):
    rest = batches(tiny_dataset, 9 - start, start_step=start, workers=workers)
    for a, b in zip(reference[start:], rest, strict=True):
        assert_same(a, b)


def test_every_epoch_shows_every_image_once_in_a_new_order(tiny_dataset):
    stream = [key for batch in batches(tiny_dataset, 24, batch_size=1) for key in batch.image_ids]
    epochs = [tuple(stream[i : i + 4]) for i in range(0, 24, 4)]
    assert all(sorted(e) == [1, 2, 3, 4] for e in epochs)
    assert len(set(epochs)) > 1


def test_each_epoch_augments_anew_and_another_seed_differs(tiny_dataset):
    first = batches(tiny_dataset, 8, batch_size=1)
    looks = [b.images for b in first if b.image_ids == [1]]
    assert len(looks) == 2
    assert not torch.equal(*looks)
    seeds = [s for b in first for s in b.seeds]
    assert len(set(seeds)) == 8
    other = batches(tiny_dataset, 8, batch_size=1, seed=4)
    assert not set(seeds) & {s for b in other for s in b.seeds}


def test_the_last_partial_batch_is_left_out(tiny_dataset):
    data = Dataset(tiny_dataset, "train")
    assert steps_per_epoch(data, 3) == 1
    assert steps_per_epoch(data, 2) == 2
    found = batches(tiny_dataset, 6, batch_size=3)
    assert all(len(set(b.image_ids)) == 3 for b in found)


def test_a_dataset_smaller_than_a_batch_is_repeated_with_other_augmentations(tiny_dataset):
    assert steps_per_epoch(Dataset(tiny_dataset, "val"), 5) == 1
    for batch in batches(tiny_dataset, 3, split="val", batch_size=5):
        assert sorted(set(batch.image_ids)) == [5, 6]
        assert len(batch.image_ids) == 5
        assert len(set(batch.seeds)) == 5
        same = [i for i, key in enumerate(batch.image_ids) if key == batch.image_ids[0]]
        assert not torch.equal(batch.images[same[0]], batch.images[same[1]])


def test_targets_lie_on_the_padded_canvas(tiny_dataset):
    preprocess = Preprocess(shortest=None, longest=100, divisor=32)
    loader = train_loader(Dataset(tiny_dataset, "train", task="semantic"), preprocess, None, batch_size=4, seed=0)
    batch = next(loader)
    assert batch.images.shape == (4, 3, 96, 128)  # 75 x 100, padded
    assert batch.sizes == [(75, 100)] * 4
    assert batch.original_sizes == [(48, 64)] * 4
    assert not batch.padding[:, :75, :100].any()
    assert batch.padding[:, 75:].all()
    for target in batch.targets:
        assert target.size == (75, 100)
        assert target.instances.masks.shape[1:] == (75, 100)
        assert target.semantic.shape == (75, 100)
    crowded = batch.targets[batch.image_ids.index(4)]
    assert crowded.instances.crowd.tolist() == [True, False]


@pytest.mark.parametrize("method", ["torchvision", "pil", "opencv"])
def test_every_preprocessing_rule_loads(tiny_dataset, method):
    preprocess = Preprocess(shortest=40, longest=60, method=method)
    batch = next(train_loader(Dataset(tiny_dataset, "train"), preprocess, None, batch_size=2, seed=0))
    assert torch.isfinite(batch.images).all()
    assert all(t.size == size for t, size in zip(batch.targets, batch.sizes, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_named_in_this_process(tiny_copy, workers):
    (tiny_copy / "images" / "three.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"three\.png: not an image") as caught:
        batches(tiny_copy, 4, settings={}, workers=workers)
    assert "Traceback" not in str(caught.value)
    with pytest.raises(DataError, match=r"three\.png"):
        for _ in eval_loader(Dataset(tiny_copy, "train"), PREPROCESS, batch_size=2, workers=workers):
            pass


def test_a_hint_survives_the_way_from_a_worker(tiny_copy):
    turned = np.zeros((64, 48, 3), np.uint8)
    (tiny_copy / "images" / "three.png").write_bytes(cv2.imencode(".png", turned)[1].tobytes())
    with pytest.raises(DataError) as caught:
        batches(tiny_copy, 4, settings={}, workers=1)
    assert "EXIF" in caught.value.hint


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_loader_gives_every_image_once_in_order(tiny_dataset, workers):
    found = list(eval_loader(Dataset(tiny_dataset), PREPROCESS, batch_size=4, workers=workers))
    assert [b.image_ids for b in found] == [[1, 2, 3, 4], [5, 6]]
    assert all(b.targets is None for b in found)
    assert found[1].original_sizes == [(48, 64)] * 2
    expected = PREPROCESS.image(Dataset(tiny_dataset).image(4))
    assert torch.equal(found[1].images[0, :, :48, :64], expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_state_is_left_alone(tiny_dataset, workers):
    torch.manual_seed(5)
    np.random.seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    batches(tiny_dataset, 3, workers=workers)
    list(eval_loader(Dataset(tiny_dataset), PREPROCESS, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_detection_without_masks_loads(tiny_dataset):
    data = Dataset(tiny_dataset, "train", task="detection")
    data.has_masks = False
    augment = build_augment({"flip": 0.5, "scale": [0.8, 1.2]}, canvas=(64, 64), info=data.info)
    batch = next(train_loader(data, PREPROCESS, augment, batch_size=4, seed=0))
    assert all(t.instances.masks is None for t in batch.targets)
    assert sum(len(t.instances) for t in batch.targets) >= 4


def test_a_dataset_reaches_workers_that_are_not_forked(tiny_dataset):
    data = pickle.loads(pickle.dumps(Dataset(tiny_dataset, "train", task="panoptic")))
    assert np.array_equal(data.image(0), Dataset(tiny_dataset, "train").image(0))
