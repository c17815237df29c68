"""Scenes for pretraining: what they promise of their labels, and that a drawn image is the one that is stored."""

import pickle

import numpy as np
import pytest
import torch

from segcli.commands.prepare import prepare
from segcli.core.errors import UsageError
from segcli.data.dataset import Dataset
from segcli.sources.drawn import DrawnDataset
from segcli.sources.synthetic import _contours, scenes, shapes
from segcli.sources.synthetic._arrangement import KEEP_PIXELS, MOST, NAMES

SMALL = {"train": 3, "val": 2, "size": 96}


@pytest.fixture(scope="module")
def drawn_scenes():
    return [scenes.generate(i, "train", size=128) for i in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare("scenes", tmp_path_factory.mktemp("scenes") / "data", settings=SMALL)


def test_every_object_can_be_seen(drawn_scenes):
    for scene in drawn_scenes:
        areas = np.bincount(scene.ids.ravel(), minlength=len(scene.labels) + 1)[1:]
        assert len(areas) == len(scene.labels) <= MOST
        assert areas.min() >= KEEP_PIXELS
    counts = [len(scene.labels) for scene in drawn_scenes]
    assert min(counts) <= 3
    assert max(counts) >= 30
    assert {int(label) for scene in drawn_scenes for label in scene.labels} == set(range(len(NAMES)))


def test_no_image_depends_on_another():
    first = scenes.generate(5, "train", size=96)
    assert np.array_equal(first.image, scenes.generate(5, "train", size=96).image)
    for other in (scenes.generate(5, "val", size=96), scenes.generate(5, "train", 1, 96), scenes.generate(6, "train")):
        assert not np.array_equal(first.image, other.image[:96, :96])


def test_nothing_of_the_quick_start_is_in_them():
    """Neither its classes nor, by their random keys, its images: a pretrained model has not seen what it is shown."""
    quick = {c.name for c in shapes.build(train=1, val=1).info.categories}
    assert not quick & {c.name for c in scenes.build(train=1, val=1).info.categories}
    assert not np.array_equal(shapes.generate(0, "val", size=96).image, scenes.generate(0, "val", size=96).image)


@pytest.mark.parametrize("family", _contours.FAMILIES)
def test_contours_fill_their_extent(family):
    for seed in range(5):
        parts = _contours.contours(family, np.random.default_rng(seed))
        points = np.concatenate([curve for part in parts for curve in part])
        assert np.isfinite(points).all()
        assert np.ptp(points, 0).max() == pytest.approx(1)
        assert points.max(0) + points.min(0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_a_drawn_image_is_the_one_that_is_stored(folder, task):
    stored = Dataset(folder, "train", task=task)
    drawn = DrawnDataset(folder, "scenes", 10, settings=SMALL, task=task, fields={})
    assert len(drawn) == 10
    assert len(drawn.first(2)) == 2
    later = drawn._records[1:3]
    assert [record.id for record in later] == [record.id for record in later[:]] == [2, 3]
    drawn = pickle.loads(pickle.dumps(drawn))  # as it travels to a worker that is not forked
    for i in range(len(stored)):
        one, other = stored.read(i), drawn.read(i)
        assert np.array_equal(one.image, other.image)
        assert torch.equal(one.target.instances.boxes, other.target.instances.boxes)
        assert torch.equal(one.target.instances.masks, other.target.instances.masks)
        assert torch.equal(one.target.instances.labels, other.target.instances.labels)
        if task != "instance":
            assert torch.equal(one.target.semantic, other.target.semantic)
        if task == "panoptic":
            assert np.array_equal(one.target.panoptic.ids, other.target.panoptic.ids)
            assert one.target.panoptic.segments == other.target.panoptic.segments


def test_only_what_segcli_makes_is_drawn(folder):
    with pytest.raises(UsageError, match="can't be drawn"):
        DrawnDataset(folder, "pennfudan", 10, settings={}, task="instance", fields={})


@pytest.mark.parametrize("settings", [{"size": 10}, {"train": 0}, {"seed": -1}])
def test_numbers_out_of_range(settings):
    with pytest.raises(UsageError, match="scenes: "):
        scenes.build(**settings)
