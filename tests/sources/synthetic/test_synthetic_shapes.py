"""The embedded 2D data is what it says: its statistics, its exact labels, and that it never changes."""

import hashlib
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segcli.core.errors import UsageError
from segcli.data.write_folder import write_folder
from segcli.sources.synthetic import shapes
from segcli.sources.synthetic._outlines import outline
from segcli.sources.synthetic._scene import STUFF, THINGS


@pytest.fixture(scope="module")
def scenes():
    return [shapes.generate(i, "train") for i in range(60)]


def test_statistics(scenes):
    counts = [len(s.labels) for s in scenes]
    assert min(counts) >= 3
    assert max(counts) <= 12
    assert 6 < np.mean(counts) < 9
    extents = np.log(np.concatenate([s.extents for s in scenes]))
    assert extents.min() >= np.log(12)
    assert extents.max() <= np.log(90)
    expected = np.linspace(np.log(12), np.log(90), 11)
    assert np.abs(np.quantile(extents, np.linspace(0, 1, 11)) - expected).max() < 0.15  # log-uniform
    visible = np.concatenate([s.visible for s in scenes])
    assert (visible <= 0.8).mean() >= 0.30
    per_class = np.bincount(np.concatenate([s.labels for s in scenes]), minlength=8)
    assert per_class.min() > 0.5 * per_class.mean()
    stuff = np.bincount(np.concatenate([s.stuff.ravel() for s in scenes]), minlength=4)
    assert stuff.min() > 0.1 * stuff.sum()


def test_every_object_can_be_seen(scenes):
    for scene in scenes:
        areas = np.bincount(scene.ids.ravel(), minlength=len(scene.labels) + 1)[1:]
        assert areas.min() >= 25
        assert scene.visible.min() >= 0.25
        assert scene.visible.max() <= 1
        assert len(areas) == len(scene.labels) == len(scene.visible) == len(scene.extents)


def test_occlusion_is_measured_against_the_whole_shape():
    """The share hidden by others, recomputed from the outlines by drawing each object alone."""
    rng = np.random.default_rng(3)
    from segcli.sources.synthetic import _scene

    placed, ids, visible = _scene._place(160, rng)
    for i, shape in enumerate(placed):
        mask = shape.distance <= 0
        there, own = _scene.window(shape.row, shape.column, len(mask), 160)
        hidden = mask[own] & (ids[there] != i + 1)
        assert visible[i] == pytest.approx(1 - hidden.sum() / mask.sum())


@pytest.mark.parametrize("name", THINGS)
def test_extent_is_the_longest_side_to_side_distance(name):
    for seed in range(5):
        distance, radius, _ = outline(name, 60.0, np.random.default_rng(seed))
        grid = np.arange(-70, 70.5, 0.5)
        v, u = np.nonzero(distance(grid[None, :], grid[:, None]) <= 0)
        points = np.stack([grid[u], grid[v]], 1).astype(np.float32)
        assert np.hypot(*points.T).max() <= radius + 1e-6
        hull = cv2.convexHull(points)[:, 0]
        longest = np.hypot(*(hull[:, None] - hull[None]).transpose(2, 0, 1)).max()
        assert longest == pytest.approx(60, abs=2.0)


def test_the_look_alikes_differ():
    """A rhombus is never nearly a square, an ellipse never nearly a circle: the longest diagonal shows it."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        for name in ("rhombus", "ellipse"):
            distance, *_ = outline(name, 100.0, rng)
            across = np.arange(0, 60, 0.25)
            short = across[(distance(np.zeros_like(across), across) <= 0)].max()
            assert 20 <= short <= 39, name


def test_colour_alone_names_no_class(scenes):
    inside = np.concatenate([s.image[s.ids > 0].astype(float).std(0) for s in scenes])
    assert inside.mean() > 30
    for scene in scenes[:5]:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape == (160, 160, 3)
        assert scene.ids.shape == (160, 160)


def test_images_do_not_depend_on_how_many_or_by_whom(tmp_path):
    few = [r.image for r in shapes.records(shapes.build(train=3, val=1).splits["train"])]
    many = [r.image for r in shapes.records(shapes.build(train=101, val=1).splits["train"])]  # by a pool
    assert few == many[:3]
    assert few[0] != next(iter(shapes.records(shapes.build(train=3, val=1).splits["val"]))).image
    assert few[0] != next(iter(shapes.records(shapes.build(train=3, val=1, seed=1).splits["train"]))).image


def test_the_generator_is_frozen():
    """Scores on this data are compared across versions: a failure here means that they no longer can be."""
    digest = hashlib.sha256()
    for index in range(8):
        scene = shapes.generate(index, "val")
        digest.update(scene.ids.astype("<i4").tobytes() + scene.labels.astype("<i4").tobytes() + scene.stuff.tobytes())
    assert digest.hexdigest() == "3fc5abf6506e48a55eb948f5804a04ab0625b86f04603022c5d4b270290bf7f7"
    means = [float(shapes.generate(i, "val").image.mean()) for i in range(3)]
    assert means == pytest.approx([146.448, 140.687, 138.188], abs=0.05)


def test_all_views_agree(tmp_path):
    draft = shapes.build(train=4, val=2)
    info = write_folder(tmp_path / "s", draft.info, {s: draft.records(e) for s, e in draft.splits.items()})
    assert info.splits == {"train": 4, "val": 2}
    assert info.num_things == 8
    assert info.names[8:] == list(STUFF)
    coco = json.loads((tmp_path / "s/annotations/train.json").read_text("utf-8"))
    panoptic = json.loads((tmp_path / "s/panoptic/train.json").read_text("utf-8"))
    for image, entry in zip(coco["images"], panoptic["annotations"], strict=True):
        assert (tmp_path / "s/images" / image["file_name"]).is_file()
        number = image["file_name"].rsplit("/")[-1]
        semantic = cv2.imread(str(tmp_path / "s/semantic/train" / number), cv2.IMREAD_UNCHANGED)
        assert entry["file_name"] == number
        b, g, r = np.moveaxis(cv2.imread(str(tmp_path / "s/panoptic/train" / number)).astype(int), 2, 0)
        ids = r + 256 * g + 65536 * b
        assert semantic.dtype == np.uint8
        assert set(np.unique(ids)) == {s["id"] for s in entry["segments_info"]}
        for segment in entry["segments_info"]:
            assert (semantic[ids == segment["id"]] == segment["category_id"] - 1).all()
            assert segment["area"] == (ids == segment["id"]).sum()
        mine = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        for annotation, segment in zip(mine, entry["segments_info"], strict=False):
            mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
            assert (mask == (ids == segment["id"])).all()
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
    said = shapes.statistics(coco, panoptic)
    assert said["objects_per_image"][1] == len(coco["annotations"]) / 4
    assert sum(said["per_class"].values()) == len(coco["annotations"])
    assert sum(said["stuff"].values()) == pytest.approx(1, abs=1e-3)
    assert said["occluded"] == np.mean([a["visible"] <= 0.8 for a in coco["annotations"]])


@pytest.mark.parametrize("wrong", [{"train": 0}, {"size": 10}, {"val": -1}, {"seed": -1}])
def test_wrong_settings(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        shapes.build(**wrong)


def test_keypoints_lie_on_the_tips(scenes):
    """The topmost first and then clockwise; where nothing hides a tip, the object is there."""
    tips = 0
    for scene in scenes:
        for i, (label, points) in enumerate(zip(scene.labels, scene.points, strict=True)):
            assert len(points) == shapes.TIPS.get(THINGS[label], 0) + 1
            assert len(points) == len(shapes.thing(THINGS[label], 1).keypoints)
            x, y, v = points[1:].T
            if not (v == 2).all() or not len(x) or scene.visible[i] < 0.999:
                continue
            assert y[0] == y.min()
            turns = np.unwrap(np.arctan2(y - points[0, 1], x - points[0, 0]))
            assert (np.diff(turns) > 0).all()
            rows, columns = np.nonzero(scene.ids == i + 1)
            for px, py in zip(x, y, strict=True):
                assert np.hypot(columns + 0.5 - px, rows + 0.5 - py).min() < 4
                tips += 1
    assert tips > 100
    hidden = np.concatenate([p[:, 2] for s in scenes for p in s.points])
    assert 0.02 < (hidden == 1).mean() < 0.4
    assert 0.01 < (hidden == 0).mean() < 0.3


@pytest.mark.parametrize("name", shapes.TIPS)
def test_mirrored_tips_are_the_mirror_image_of_the_tips(name):
    """Numbering the tips of a mirrored shape gives what `flip_pairs` says."""
    category = shapes.thing(name, 1)
    turn = 0.3
    _, _, tips = outline(name, 60.0, np.random.default_rng(1))
    tips = tips @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])

    def numbered(points):
        points = points[np.argsort(np.arctan2(points[:, 1], points[:, 0]))]
        return np.roll(points, -int(points[:, 1].argmin()), 0)

    order = np.arange(len(tips) + 1)
    for a, b in category.flip_pairs:
        order[[a, b]] = order[[b, a]]
    expected = numbered(tips) * [-1, 1]
    assert numbered(tips * [-1, 1]) == pytest.approx(expected[order[1:] - 1])
