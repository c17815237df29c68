"""Overlays: what is drawn where, at every size, and labels that stay on the image and off each other."""

import numpy as np
import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.drawing import chips
from segcli.drawing.chips import Chip, draw_chips
from segcli.drawing.colours import class_colours, ink_on, object_colours, oklch, to_oklch
from segcli.drawing.overlays import SMALLEST, draw
from segcli.drawing.text import draw_text, font, shorten, text_size, text_width
from segcli.types import Instances, Panoptic, Prediction, Segment, Target, encode_masks, mask_boxes

ONE = DatasetInfo("one", (Category("pedestrian", 1),), {"val": 1})
MANY = DatasetInfo(
    "many", (Category("cat", 1), Category("dog", 2, colour=(0, 0, 90)), Category("sky", 3, thing=False)), {"val": 1}
)


def prediction(masks, labels=None, scores=None):
    masks = np.asarray(masks, bool)
    n = len(masks)
    found = Instances(
        torch.from_numpy(mask_boxes(masks)),
        torch.tensor(labels or [0] * n),
        torch.tensor(scores or [0.97] * n),
        masks=encode_masks(masks),
    )
    return Prediction(1, masks.shape[1:], found)


def disc(size, centre, radius):
    rows, columns = np.indices(size)
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


@pytest.mark.parametrize("size", [(32, 40), (480, 640), (640, 480), (2600, 300)])
@pytest.mark.parametrize("background", [0, 255])
def test_an_object_is_coloured_and_outlined_and_the_rest_is_left_alone(size, background):
    image = np.full((*size, 3), background, np.uint8)
    centre, radius = (size[0] // 2, size[1] // 2), min(size) // 4
    drawn = draw(image, prediction([disc(size, centre, radius)]), ONE, labels=False).astype(int)
    k = drawn.shape[0] / size[0]
    assert drawn.shape == (size[0] * k, size[1] * k, 3)
    assert max(drawn.shape) >= 0.75 * SMALLEST
    change = np.abs(drawn - background).sum(2)
    rows, columns = np.indices(change.shape)
    away = np.hypot(rows - (centre[0] + 0.5) * k, columns - (centre[1] + 0.5) * k) - radius * k
    margin = 0.02 * max(drawn.shape) + 1.5 * k
    assert change[away < -margin].min() > 40, "filled"
    assert change[away > margin].max() == 0, "nothing drawn outside"
    ring = change[np.abs(away) < margin / 3]
    assert np.quantile(ring, 0.9) > 1.3 * np.median(change[away < -margin]), "the outline stands out"


def test_drawing_does_not_change_the_image_given():
    image = np.zeros((500, 500, 3), np.uint8)
    draw(image, prediction([disc((500, 500), (250, 250), 100)]), ONE)
    assert image.max() == 0


def test_the_score_decides_what_is_drawn():
    image = np.zeros((480, 480, 3), np.uint8)
    masks = [disc((480, 480), (120, 120), 60), disc((480, 480), (360, 360), 60)]
    drawn = draw(image, prediction(masks, scores=[0.9, 0.3]), ONE, score=0.5)
    assert drawn[120, 120].max() > 0
    assert drawn[360, 360].max() == 0


def test_nothing_found_gives_the_image_and_a_missing_mask_no_failure():
    image = np.full((500, 500, 3), 9, np.uint8)
    assert np.array_equal(draw(image, Prediction(1, (500, 500), Instances.empty()), ONE), image)
    empty = prediction([np.zeros((500, 500), bool)])
    draw(image, empty, ONE)


def test_boxes_are_drawn_where_there_are_no_masks_and_where_wanted():
    image = np.zeros((500, 500, 3), np.uint8)
    found = prediction([disc((500, 500), (250, 250), 100)])
    corner = (slice(148, 156), slice(148, 156))  # of the box: outside the disc
    assert draw(image, found, ONE, labels=False)[corner].max() == 0
    assert draw(image, found, ONE, labels=False, boxes=True)[corner].max() > 0
    found.instances.masks = None
    drawn = draw(image, found, ONE, labels=False)
    assert drawn[corner].max() > 0
    assert drawn[250, 250].max() == 0


def test_holes_are_not_filled():
    image = np.zeros((500, 500, 3), np.uint8)
    ring = disc((500, 500), (250, 250), 150) & ~disc((500, 500), (250, 250), 80)
    drawn = draw(image, prediction([ring]), ONE, labels=False)
    assert drawn[250, 250].max() == 0
    assert drawn[250, 370].max() > 0


def test_maps_are_drawn_by_class_and_ignored_pixels_are_not():
    image = np.full((480, 480, 3), 100, np.uint8)
    semantic = np.full((480, 480), 255, np.uint8)
    semantic[:, :200], semantic[:, 200:400] = 0, 2
    drawn = draw(image, Prediction(1, (480, 480), semantic=semantic), MANY, labels=False)
    assert (drawn[100, 450] == 100).all()
    assert np.abs(drawn[100, 100].astype(int) - drawn[100, 300]).sum() > 60
    ids = np.zeros((480, 480), np.int32)
    ids[:, :200], ids[:, 200:400] = 7, 9
    segments = [Segment(7, 0), Segment(9, 2, crowd=True)]
    target = Target(1, (480, 480), Instances.empty(), panoptic=Panoptic(ids, segments))
    drawn = draw(image, target, MANY)
    assert (drawn[100, 450] == 100).all()
    assert (drawn[100, 60] != 100).any()


def test_a_picture_of_a_given_width_has_it():
    image = np.zeros((100, 160, 3), np.uint8)
    for width in (90, 160, 401):
        drawn = draw(image, prediction([disc((100, 160), (50, 80), 30)]), ONE, width=width)
        assert drawn.shape[1] == width
        assert drawn.shape[0] == pytest.approx(width * 100 / 160, abs=1)


def test_objects_of_one_class_differ_and_classes_keep_their_hue():
    single = object_colours([0] * 12, ONE)
    apart = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(single) for b in single[:i]]
    assert min(apart) > 30
    cats = object_colours([0] * 6, MANY)
    assert len(set(cats)) == 6
    hues = [to_oklch(c)[2] for c in cats]
    assert max(hues) - min(hues) < 40
    assert to_oklch(class_colours(MANY)[1])[0] >= 0.55, "a dark declared colour is lightened"
    assert class_colours(MANY)[0] == MANY.colours()[0]


def test_colours_survive_the_way_to_oklch_and_back():
    for colour in [(255, 0, 0), (20, 200, 90), (0, 0, 0), (255, 255, 255), (17, 34, 200)]:
        assert np.abs(np.subtract(oklch(*to_oklch(colour)), colour)).max() <= 2
    assert ink_on((255, 255, 120)) != ink_on((0, 0, 120))


def test_chips_stay_on_the_image_and_off_each_other(monkeypatch):
    placed = []
    blend = chips.blend
    monkeypatch.setattr(chips, "blend", lambda image, patch, x, y: placed.append((x, y, *patch.shape[1::-1])))
    image = np.zeros((300, 400, 3), np.uint8)
    rng = np.random.default_rng(0)
    boxes = [
        (float(x), float(y), float(x + 60), float(y + 50)) for x, y in rng.uniform((-20, -20), (380, 280), (20, 2))
    ]
    count = draw_chips(image, [Chip(["pedestrian 97 %", "97 %"], (200, 90, 30), b) for b in boxes], 14)
    assert count == len(placed) > 10
    for x, y, w, h in placed:
        assert 0 <= x <= 400 - w
        assert 0 <= y <= 300 - h
    for i, (ax, ay, aw, ah) in enumerate(placed):
        for bx, by, bw, bh in placed[:i]:
            assert ax >= bx + bw or bx >= ax + aw or ay >= by + bh or by >= ay + ah
    assert blend is not chips.blend


def test_a_chip_is_readable_and_grows_with_the_image():
    small, large = (np.full((s, s, 3), 128, np.uint8) for s in (480, 3000))
    for image in (small, large):
        side = len(image)
        draw_chips(
            image,
            [Chip(["cat"], (250, 200, 40), (side / 3, side / 3, side / 2, side / 2))],
            text_size((side, side)),
        )
    heights = [np.flatnonzero((i != 128).any((1, 2))).size for i in (small, large)]
    assert heights[0] >= 14
    assert heights[1] > 3 * heights[0]
    assert (small.max(2) < 60).any(), "dark ink"
    assert (small.min(2) == 128).any()


def test_a_crowded_image_keeps_its_objects_visible():
    size = (400, 400)
    masks = [disc(size, (20 + 40 * (i // 10), 20 + 40 * (i % 10)), 9) for i in range(100)]
    image = np.zeros((*size, 3), np.uint8)
    with_labels = draw(image, prediction(masks), ONE)
    assert np.array_equal(with_labels, draw(image, prediction(masks), ONE, labels=False))


@pytest.mark.parametrize("text", ["pedestrian 97 %", "Fußgänger", "пешеход", "보행자 97 %", "🚲", ""])
def test_text_of_every_script_can_be_drawn(text):
    image = np.zeros((60, 400, 3), np.uint8)
    draw_text(image, text, 5, 5, 20, (255, 255, 255))
    assert (image.max() > 200) == bool(text)
    assert font(text, 20).getlength(text) >= 0


def test_long_text_is_shortened_in_the_middle():
    name = "a/very/long/path/to/an/image/with/a/name/000000123.jpg"
    short = shorten(name, 16, 200)
    assert text_width(short, 16) <= 200
    assert short.startswith("a/")
    assert short.endswith(".jpg")
    assert "…" in short
    assert shorten("short", 16, 200) == "short"


def test_a_mask_of_specks_is_drawn_where_it_is():
    """More outlines than are drawn as lines: pixels of the mask take its colour, the others stay."""
    mask = np.random.default_rng(0).random((200, 300)) < 0.3
    picture = draw(np.full((200, 300, 3), 128, np.uint8), prediction([mask]), ONE, labels=False, boxes=False)
    rows, columns = (((np.arange(n) + 0.5) * picture.shape[0] / 200).astype(int) for n in (200, 300))
    changed = (picture[rows][:, columns] != 128).any(2)
    assert changed[mask].mean() > 0.95
    assert changed[~mask].mean() < 0.05
