"""Augmentation moves image, masks, boxes, maps and fields by one map, and drops only what can no longer be seen."""

import pickle

import numpy as np
import pytest
import torch
from known_scene import COLOURS, GREY, INFO, Corners, known_scene

from segcli.core.errors import UsageError
from segcli.data.augment.compose import build_augment
from segcli.data.geometry import PADDING, Geometry, transform
from segcli.types import IGNORE, Instances, Sample, mask_boxes

EVERYTHING = {
    "flip": 0.5,
    "flip_vertical": 0.5,
    "rot90": True,
    "scale": [0.6, 1.4],
    "aspect": 0.2,
    "copy_paste": 0.6,
}


def run(settings, seed=0, canvas=(96, 128), sample=None, other=None):
    augment = build_augment(settings, canvas=canvas, info=INFO)
    return augment(sample or known_scene(), np.random.default_rng(seed), lambda: other or known_scene())


def inside(mask, by=2):
    """The mask without its border of `by` pixels, where a resize blends colours."""
    out = mask.copy()
    for _ in range(by):
        padded = np.pad(out, 1)
        out = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return out


def close(pixels, colour):
    return (np.abs(pixels.astype(int) - colour) <= 3).all(-1)


def assert_consistent(sample: Sample):
    """Every mask lies exactly on pixels of one object's colour, boxes are tight, the semantic map agrees."""
    instances, size = sample.target.instances, sample.image.shape[:2]
    assert sample.target.size == size
    masks = instances.masks.numpy()
    assert masks.shape == (len(instances), *size)
    assert np.array_equal(instances.boxes.numpy(), mask_boxes(masks))
    assert masks.sum(0).max(initial=0) <= 1  # they did not overlap, and pasted objects cut what they cover
    for mask, label in zip(masks, instances.labels.tolist(), strict=True):
        core = inside(mask)
        if core.any():
            hits = [close(sample.image[core], c).all() for c in COLOURS]
            assert sum(hits) == 1
            assert hits.index(True) % 2 == label
        assert (sample.target.semantic.numpy()[mask] == label).all()
    everywhere = sum(close(sample.image, c) for c in COLOURS) > 0
    core = inside(everywhere)
    # what shows an object's colour is in a mask, unless the object was dropped for showing too little
    lost = core & ~masks.any(0)
    assert lost.sum() <= 0.2 * 40 * 38 * 2


SIDES = {"flip": 0.5, "short_side": [60, 90, 120], "scale_crop": 0.5}


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize(("vertical", "flip"), [(False, False), (False, True), (True, False), (True, True)])
def test_turns_and_mirrors_are_exact(turns, vertical, flip):
    source = known_scene()

    def expected(pixels):
        pixels = np.rot90(pixels, turns)
        pixels = pixels[::-1] if vertical else pixels
        return pixels[:, ::-1] if flip else pixels

    size = (120, 80) if turns % 2 else (80, 120)
    scene = transform(source, Geometry(turns, vertical, flip, size, size))
    out = scene.sample(source, np.arange(4))
    assert np.array_equal(out.image, expected(source.image))
    assert np.array_equal(out.target.semantic.numpy(), expected(source.target.semantic.numpy()))
    for i in range(4):
        assert np.array_equal(out.target.instances.mask(i), expected(source.target.instances.mask(i)))
    assert_consistent(out)
    boxes = transform(known_scene(masks=False), Geometry(turns, vertical, flip, size, size)).boxes
    assert np.array_equal(boxes, scene.boxes)


def test_doubling_and_placing_are_exact():
    source = known_scene()
    scene = transform(source, Geometry(0, False, False, (160, 240), (100, 300), (-30, 20)))
    full = np.kron(source.target.instances.masks.numpy(), np.ones((1, 2, 2), bool)).astype(bool)
    expected = np.zeros((4, 100, 300), bool)
    expected[:, :, 20:260] = full[:, 30:130]
    assert np.array_equal(scene.masks, expected)
    assert np.array_equal(scene.boxes, mask_boxes(expected))
    assert (scene.image[:, :20] == PADDING).all()
    assert (scene.image[:, 260:] == PADDING).all()
    assert (scene.semantic[:, :20] == IGNORE).all()
    assert scene.truncated.tolist() == [True, True, True, True]  # above 30, or below 130, in each case
    assert scene.area.tolist() == [30 * 38 * 4, 40 * 22 * 4, 40 * 32 * 4, 14 * 38 * 4]


@pytest.mark.parametrize("more", [{}, {"rotate": 40}, {"mosaic": 0.7}, {"mosaic": 0.7, "rotate": True}, SIDES])
@pytest.mark.parametrize("seed", range(40))
def test_every_augmentation_together_keeps_pixels_and_labels_together(seed, more):
    settings = more if more is SIDES else EVERYTHING | more
    out = run(settings, seed)
    if more is SIDES:
        assert min(out.image.shape[:2]) in (59, 60, 61, 89, 90, 91, 119, 120, 121)
    else:
        assert out.image.shape == (96, 128, 3)
    assert out.file_name == "known.png"
    assert out.target.image_id == 7
    assert out.original_size == (80, 120)
    assert_consistent(out)


@pytest.mark.parametrize("key", ["flip", "flip_vertical", "rot90", "copy_paste", "mosaic", "rotate"])
def test_without_scale_the_image_keeps_its_size(key):
    for seed in range(8):
        out = run({key: 1.0}, seed)
        assert sorted(out.image.shape[:2]) == [80, 120]
        assert_consistent(out)


def test_scale_is_relative_to_fitting_the_canvas():
    out = run({"scale": [1.0, 1.0]}, canvas=(160, 160))
    content = (out.target.semantic != IGNORE).numpy()
    rows, columns = content.any(1), content.any(0)
    assert (rows.sum(), columns.sum()) == (107, 160)
    half = run({"scale": [0.5, 0.5]}, canvas=(160, 160))
    assert (half.target.semantic != IGNORE).any(0).sum() == 80
    double = run({"scale": [2.0, 2.0]}, canvas=(160, 160))
    assert (double.target.semantic != IGNORE).all()


def test_crop_cuts_a_square_of_the_short_side():
    whole = run({"crop": 40}, canvas=None)
    assert whole.image.shape == (40, 40, 3)
    assert (whole.target.semantic != IGNORE).all()  # 80 x 120 became 40 x 60: the square is full
    assert_consistent(run({"crop": 60, "scale": [0.9, 1.6], "flip": True}, canvas=None))
    half = run({"crop": 40, "scale": 0.5}, canvas=None)
    assert half.image.shape == (40, 40, 3)
    assert (half.target.semantic != IGNORE).sum() == 20 * 30


def test_aspect_changes_the_ratio_within_its_limits():
    ratios = []
    for seed in range(30):
        content = (run({"aspect": 0.3, "scale": [0.5, 0.5]}, seed).target.semantic != IGNORE).numpy()
        ratios.append(content.any(1).sum() / content.any(0).sum() / (80 / 120))
    assert 0.7 < min(ratios) < 0.85
    assert 1.15 < max(ratios) < 1.4


@pytest.mark.parametrize("seed", range(20))
def test_boxes_without_masks_follow_too(seed):
    settings = {k: v for k, v in EVERYTHING.items() if k != "copy_paste"}
    with_masks, without = run(settings, seed), run(settings, seed, sample=known_scene(masks=False))
    assert without.target.instances.masks is None
    a, b = with_masks.target.instances, without.target.instances
    if len(a) == len(b):  # at the limit of visibility rounding may decide
        assert torch.allclose(a.boxes, b.boxes, atol=1.0)
    assert abs(len(a) - len(b)) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_fields_follow(seed):
    settings = {"flip": 0.5, "scale": [0.5, 1.0], "aspect": 0.2}
    out = run(settings, seed, canvas=(140, 140), sample=known_scene(fields=True))
    corners = out.target.instances.fields["corners"].points
    assert len(corners) == len(out.target.instances) > 0
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).clip(0, 140)
    assert np.abs(boxes - out.target.instances.boxes.numpy()).max() <= 1.0


@pytest.mark.parametrize("settings", [{k: 1} for k in ("rot90", "flip_vertical", "copy_paste", "rotate", "mosaic")])
def test_what_fields_do_not_know_is_refused(settings):
    with pytest.raises(UsageError, match=rf"data\.augment\.{next(iter(settings))}.*corners"):
        [run(settings, seed, sample=known_scene(fields=True)) for seed in range(8)]
    with pytest.raises(UsageError, match=rf"data\.augment\.{next(iter(settings))}.*corners.*set it to 0"):
        build_augment(settings, canvas=(96, 128), info=INFO, fields={"corners": Corners})
    assert build_augment(dict.fromkeys(settings, 0), canvas=None, info=INFO, fields={"corners": Corners})


class Brightness(Corners):
    """A field that depends on colours: how bright the image is at each object's first corner. None: it can't follow."""

    @classmethod
    def read(cls, annotations, origin):
        x, y, w, h = np.array([one["bbox"] for one in annotations]).reshape(-1, 4).T
        return cls(np.stack([x, y, x + w, y + h], 1).reshape(-1, 2, 2))

    def to(self, device):
        return self

    def recolour(self, before, after):
        assert before.shape == after.shape
        assert not np.array_equal(before, after)
        if self.points is None:
            raise UsageError("data.augment.colour: brightness is that of the photograph")
        x, y = (self.points[:, 0] + 2).astype(int).T
        out = Brightness(self.points)
        out.seen, out.was = after[y, x], before[y, x]
        return out


def test_fields_that_depend_on_colours_follow_them_or_refuse(monkeypatch):
    sample = known_scene(fields=True)
    instances = sample.target.instances
    annotations = [{"bbox": [x1, y1, x2 - x1, y2 - y1]} for x1, y1, x2, y2 in instances.boxes.tolist()]
    instances.fields["corners"] = Brightness.read(annotations, None)
    monkeypatch.setattr(Corners, "__getitem__", lambda self, index: self)  # nothing is dropped here
    monkeypatch.setattr(Corners, "scale", lambda self, x, y: self)
    monkeypatch.setattr(Corners, "crop", lambda self, *_: self)
    out = run({"colour": 1.0}, 0, sample=sample)
    found = out.target.instances.fields["corners"]
    assert (found.was == COLOURS).all()
    x, y = (found.points[:, 0] + 2).astype(int).T
    assert (found.seen == out.image[y, x]).all()
    instances.fields["corners"] = Brightness(None)
    monkeypatch.setattr(Corners, "__len__", lambda self: 4)
    with pytest.raises(UsageError, match="brightness is that of the photograph"):
        run({"colour": 1.0}, 0, sample=sample)


def test_objects_of_which_too_little_is_left_are_dropped():
    source = known_scene()
    augment = build_augment({"flip": 0.5}, canvas=None, info=INFO)
    # the first rectangle (columns 10-40) keeps 5 of 30 columns, the others all
    scene = transform(source, Geometry(0, False, False, (80, 120), (80, 85), (0, -35)))
    assert scene.visible().tolist() == [5 * 38, 40 * 22, 40 * 32, 14 * 38]
    assert augment.kept(scene).tolist() == [1, 2, 3]
    keep_all = build_augment({"flip": 0.5, "min_visible": 0.0}, canvas=None, info=INFO)
    assert keep_all.kept(scene).tolist() == [0, 1, 2, 3]
    crowd = transform(
        known_scene(crowd=(True,) + (False,) * 3), Geometry(0, False, False, (80, 120), (80, 85), (0, -35))
    )
    assert augment.kept(crowd).tolist() == [0, 1, 2, 3]
    outside = transform(source, Geometry(0, False, False, (80, 120), (80, 70), (0, -50)))
    assert 0 not in keep_all.kept(outside)


def test_a_small_object_that_was_not_cut_is_kept():
    out = run({"scale": [0.1, 0.1]}, canvas=(96, 128))
    assert len(out.target.instances) == 4
    assert out.target.instances.masks.sum((1, 2)).max() < 60
    assert_consistent(out)


def test_crowd_flags_follow():
    source = known_scene(crowd=(False, True, False, False))
    out = run({"flip": 1.0, "copy_paste": 1.0}, 3, sample=source, other=known_scene(crowd=(False, True, True, True)))
    for mask, crowd in zip(out.target.instances.masks.numpy(), out.target.instances.crowd.tolist(), strict=True):
        assert crowd == close(out.image[inside(mask)], COLOURS[1]).all()  # only the first of `other` can be pasted


def test_pasting_adds_objects_and_cuts_what_they_cover():
    empty = known_scene()
    empty.target.instances = Instances.empty((80, 120))
    empty.target.instances.crowd = torch.zeros(0, dtype=torch.bool)
    empty.image[:] = GREY
    empty.target.semantic[:] = 2
    counts = []
    for seed in range(20):
        out = run({"copy_paste": 1.0}, seed, sample=empty)
        assert_consistent(out)
        counts.append(len(out.target.instances))
    assert set(counts) <= {0, 1, 2, 3}
    assert {1, 2, 3} <= set(counts)
    areas = [run({"copy_paste": 1.0}, s).target.instances.masks.numpy().any(0).sum() for s in range(20)]
    sums = [run({"copy_paste": 1.0}, s).target.instances.masks.numpy().sum() for s in range(20)]
    assert areas == sums
    nothing = run({"copy_paste": 1.0}, sample=known_scene(), other=empty)
    assert len(nothing.target.instances) == 4


@pytest.mark.parametrize("key", ["copy_paste", "rotate"])
def test_some_need_masks(key):
    with pytest.raises(UsageError, match=rf"augment\.{key}.* needs (a mask|masks)"):
        run({key: 1.0}, sample=known_scene(masks=False))


def test_an_image_without_objects():
    empty = known_scene()
    empty.target.instances = Instances.empty((80, 120))
    for seed in range(10):
        out = run(
            {k: v for k, v in EVERYTHING.items() if k != "copy_paste"} | {"colour": 1, "blur": 1}, seed, sample=empty
        )
        assert out.target.instances.masks.shape == (0, 96, 128)
        assert len(out.target.instances) == 0


def test_colour_and_blur_change_pixels_only():
    plain = known_scene()
    for settings in ({"colour": 1}, {"blur": 1.0}, {"colour": 2}):
        out = run(settings)
        assert not np.array_equal(out.image, plain.image)
        assert torch.equal(out.target.instances.masks, plain.target.instances.masks)
        assert torch.equal(out.target.semantic, plain.target.semantic)
    strength = lambda s: np.mean(
        [np.abs(run({"colour": s}, k).image.astype(int) - plain.image).mean() for k in range(8)]
    )
    assert strength(0.2) < strength(1.0)


def test_the_generator_decides_everything_and_the_source_is_left_alone():
    settings = EVERYTHING | {"colour": 1, "blur": 0.5}
    source, before = known_scene(), known_scene()
    augment = build_augment(settings, canvas=(96, 128), info=INFO)
    copied = pickle.loads(pickle.dumps(augment))  # as it reaches a worker process
    images = []
    for seed in range(12):
        a = augment(source, np.random.default_rng(seed), lambda: source)
        b = copied(source, np.random.default_rng(seed), lambda: source)
        assert np.array_equal(a.image, b.image)
        assert torch.equal(a.target.instances.masks, b.target.instances.masks)
        images.append(a.image.tobytes())
    assert len(set(images)) == 12
    assert np.array_equal(source.image, before.image)
    assert torch.equal(source.target.instances.masks, before.target.instances.masks)
    assert torch.equal(source.target.semantic, before.target.semantic)
    assert torch.equal(source.target.instances.boxes, before.target.instances.boxes)


def test_no_setting_moves_the_source_either():
    """The image may be kept in memory for the next epoch: what is returned must be a copy."""
    source = known_scene()
    out = build_augment({"flip": 0.0, "min_visible": 0.2}, canvas=None, info=INFO)(
        source, np.random.default_rng(0), lambda: source
    )
    out.image[:] = 0
    out.target.instances.masks[:] = False
    assert source.image.any()
    assert source.target.instances.masks.any()


def test_column_major_masks_as_a_dataset_gives_them():
    source = known_scene()
    masks = source.target.instances.masks
    strided = torch.from_numpy(np.asfortranarray(masks.numpy().transpose(1, 2, 0)).transpose(2, 0, 1))
    assert not strided.is_contiguous()
    expected = run(EVERYTHING, 5)
    source.target.instances.masks = strided
    out = run(EVERYTHING, 5, sample=source)
    assert torch.equal(out.target.instances.masks, expected.target.instances.masks)


def test_true_and_false_are_accepted():
    out = run({"flip": False, "rot90": True, "colour": True, "copy_paste": None})
    assert out.image.shape in {(80, 120, 3), (120, 80, 3)}


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ({"scale": [0.6, 1.3], "aspect": 0.12, "colour": 0.8, "copy_paste": 0.5, "flip": 0.5}, 0.935072423788),
        ({"short_side": 60, "scale_crop": True, "flip": 0.5}, 0.002738500170),
        ({**EVERYTHING, "rotate": True, "colour": True, "blur": 0.5, "mosaic": 0.5}, 0.002738500170),
    ],
)
def test_the_draws_stay_what_they_were(settings, last):
    """What the generator gives next says how many numbers were drawn, and of which kind: those of earlier versions."""
    rng = np.random.default_rng(0)
    build_augment(settings, canvas=(96, 128), info=INFO)(known_scene(), rng, known_scene)
    assert rng.random() == pytest.approx(last, abs=1e-12)
