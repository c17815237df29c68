"""Rotations by any angle, joined images and DETR's crops, each against what it must be pixel by pixel."""

import numpy as np
import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.data.augment.compose import build_augment
from segcli.data.augment.mosaic import joined
from segcli.data.geometry import Geometry, transform
from segcli.types import IGNORE, Instances, Sample, Target, mask_boxes

INFO = DatasetInfo("one", (Category("a", 1),), {"train": 1})


class Points:
    """A field of one point an object, [N,2] in pixels, that can be rotated."""

    def __init__(self, at):
        self.at = at

    @classmethod
    def read(cls, annotations, origin):
        raise AssertionError

    def __len__(self):
        return len(self.at)

    def __getitem__(self, index):
        return Points(self.at[index])

    def flip(self, width):
        return Points(self.at * [-1, 1] + [width, 0])

    def scale(self, x, y):
        return Points(self.at * [x, y])

    def crop(self, x, y, width, height):
        return Points(self.at - [x, y])

    def rotate(self, matrix):
        return Points(self.at @ matrix[:, :2].T + matrix[:, 2])

    def to(self, device):
        return self


def scene(size=(60, 90), points=False) -> Sample:
    """A disc at (30, 20) and an L, white on black; labels 0."""
    ys, xs = np.mgrid[: size[0], : size[1]]
    disc = (xs - 29.5) ** 2 + (ys - 19.5) ** 2 < 12**2
    ell = np.zeros(size, bool)
    ell[30:55, 50:58] = ell[47:55, 50:80] = True
    masks = np.stack([disc, ell])
    image = np.where(masks.any(0)[:, :, None], 255, 0).astype(np.uint8).repeat(3, 2)
    corners = np.array([[30.0, 20.0], [50.0, 55.0]])
    instances = Instances(
        torch.from_numpy(mask_boxes(masks)),
        torch.zeros(2, dtype=torch.int64),
        masks=torch.from_numpy(masks),
        fields={"points": Points(corners)} if points else {},
    )
    semantic = torch.from_numpy(np.where(masks.any(0), 0, IGNORE))
    return Sample(image, Target(1, size, instances, semantic), "one.png", size)


def place(geometry, size, x, y):
    """Where a point lies on the canvas, said step by step: turn, mirror, resize, rotate, shift."""
    (h, w), (nh, nw) = size, geometry.size
    for _ in range(geometry.turns):
        x, y, h, w = y, w - x, w, h
    x, y = (w - x if geometry.flip else x), (h - y if geometry.flip_vertical else y)
    x, y = x * nw / w - nw / 2, y * nh / h - nh / 2
    c, s = np.cos(np.radians(geometry.degrees)), np.sin(np.radians(geometry.degrees))
    return c * x + s * y + nw / 2 + geometry.offset[1], -s * x + c * y + nh / 2 + geometry.offset[0]


GEOMETRIES = [
    Geometry(0, False, False, (60, 90), (60, 90), (0, 0), 25.0),
    Geometry(0, False, True, (60, 90), (80, 100), (10, 5), -70.0),
    Geometry(1, True, False, (135, 90), (120, 120), (-10, 20), 160.0),
    Geometry(3, False, True, (45, 40), (50, 50), (2, 3), 12.5),
    Geometry(2, True, True, (60, 90), (60, 90)),
    Geometry(1, False, True, (90, 60), (90, 60)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_mask_pixel_lies_where_its_point_went(geometry):
    source = scene(points=True)
    out = transform(source, geometry)
    ys, xs = np.mgrid[:60, :90]
    fine = (np.arange(8) + 0.5) / 8  # each source pixel as 8 x 8 points
    for i in range(2):
        hit = np.zeros(geometry.canvas, int)
        inside = source.target.instances.mask(i)
        x, y = place(geometry, (60, 90), xs[inside][:, None, None] + fine, ys[inside][:, None, None] + fine[:, None])
        rows, columns = np.floor(y).astype(int).ravel(), np.floor(x).astype(int).ravel()
        ok = (rows >= 0) & (rows < hit.shape[0]) & (columns >= 0) & (columns < hit.shape[1])
        np.add.at(hit, (rows[ok], columns[ok]), 1)
        density = 64 * inside.size / (geometry.size[0] * geometry.size[1])
        assert (out.masks[i] & (hit < 0.1 * density)).sum() == 0  # no pixel where the object is not
        assert (~out.masks[i] & (hit > 0.9 * density)).sum() <= 2  # none missing where it is whole
        assert out.truncated[i] == (not ok.all() and not np.isclose(out.area[i], out.masks[i].sum(), atol=0))
        if geometry.degrees:
            assert out.area[i] == pytest.approx(inside.sum() * 64 / density, rel=0.03)
        expected = place(geometry, (60, 90), *source.target.instances.fields["points"].at[i])
        assert np.allclose(out.fields["points"].at[i], expected)
    assert np.array_equal(out.boxes, mask_boxes(out.masks))
    assert np.array_equal(out.semantic == 0, out.masks.any(0))
    white = out.image[:, :, 0].astype(int)
    assert (white[out.masks.any(0)] > 60).all()


def test_a_mosaic_is_four_images_side_by_side():
    sizes = [(20, 30), (20, 50), (40, 30), (40, 50)]
    parts = [transform(scene(), Geometry(0, False, False, (60, 90), s, (-10, -20))) for s in sizes]
    whole = joined(parts)
    assert whole.image.shape == (60, 80, 3)
    assert whole.masks.shape == (8, 60, 80)
    for k, (y, x) in enumerate([(0, 0), (0, 30), (20, 0), (20, 30)]):
        h, w = sizes[k]
        assert np.array_equal(whole.image[y : y + h, x : x + w], parts[k].image)
        assert np.array_equal(whole.semantic[y : y + h, x : x + w], parts[k].semantic)
        assert np.array_equal(whole.masks[2 * k : 2 * k + 2, y : y + h, x : x + w], parts[k].masks)
        assert whole.masks[2 * k : 2 * k + 2].sum() == parts[k].masks.sum()
    shown = whole.masks.any((1, 2))
    assert np.array_equal(whole.boxes[shown], mask_boxes(whole.masks)[shown])


def test_detrs_sizes():
    """800 x 1200: a short side of 480 to 800 or, from a crop of 384 to 600 of 400 to 600, the same; long side 1333."""
    settings = {"short_side": [480, 640, 800], "scale_crop": 0.5}
    augment = build_augment(settings, canvas=None, info=INFO)
    rng = np.random.default_rng(0)
    whole, zooms = 0, []
    for _ in range(300):
        full, canvas, offset = augment.sizing.sizes((800, 1200), rng)
        assert max(canvas) <= 1334
        assert min(canvas) in (480, 640, 800) or max(canvas) in (1332, 1333, 1334)
        assert all(c - f <= o <= 0 for c, f, o in zip(canvas, full, offset, strict=True))
        assert full[1] / full[0] == pytest.approx(1.5, abs=0.01)
        whole += full == canvas
        zooms.append(min(full) / min(canvas))
    assert 100 < whole < 200
    assert 1.4 < max(zooms) <= 600 / 384 + 0.01
    tall = build_augment({"short_side": [800]}, canvas=None, info=INFO).sizing.sizes((200, 1000), rng)
    assert tall[0] == (267, 1333)
