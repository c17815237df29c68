"""Tiles: an object on a seam is found once and whole, neighbours stay apart, maps are those of the whole image."""

import itertools
import json

import cv2
import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Beside, Bright
from PIL import Image
from pycocotools import mask as coco_mask

from segcli.commands.predict.files import predict_files
from segcli.commands.predict.seams import place_mask
from segcli.commands.predict.tiles import _homes, predict_tiles
from segcli.commands.predictor import Predictor
from segcli.core.errors import UsageError
from segcli.fields.keypoints import Keypoints
from segcli.sources.tile import Tiling
from segcli.types import Instances, Panoptic, Prediction, Segment, encode_masks, mask_boxes

SIZE = (300, 420)
TILING = Tiling(128, 32)


def scene(objects: int = 40) -> np.ndarray:
    """Grey image [H,W,3] of ellipses that do not touch, some of them over seams; the background is 0."""
    rng = np.random.default_rng(3)
    canvas = np.zeros(SIZE, np.uint8)
    for _ in range(objects):
        one = np.zeros(SIZE, np.uint8)
        place = tuple(int(v) for v in rng.integers(0, 420, 2))
        axes = tuple(int(v) for v in rng.integers(5, 22, 2))
        cv2.ellipse(one, place, axes, float(rng.integers(180)), 0, 360, 255, -1)
        if one.any() and not (cv2.dilate(one, np.ones((5, 5))) & canvas).any():
            canvas |= one
    return np.repeat(canvas[:, :, None], 3, 2)


def components(image: np.ndarray) -> np.ndarray:
    """The bright areas [N,h,w]."""
    count, labels = cv2.connectedComponents((image[:, :, 0] > 127).astype(np.uint8))
    return np.array([labels == i for i in range(1, count)]).reshape(-1, *image.shape[:2])


def perfect(images: list[np.ndarray]) -> list[Prediction]:
    """A model that finds every bright area, and whose masks are cut where an image ends."""
    out = []
    for image in images:
        masks = components(image)
        scores = torch.linspace(0.9, 0.6, len(masks))
        found = Instances(
            torch.from_numpy(mask_boxes(masks)),
            torch.zeros(len(masks), dtype=torch.int64),
            scores,
            masks=encode_masks(masks),
            fields={"keypoints": Keypoints(torch.from_numpy(middles(masks)))},
        )
        out.append(Prediction(0, image.shape[:2], found))
    return out


def middles(masks: np.ndarray) -> np.ndarray:
    return np.array([[[*np.argwhere(m).mean(0)[::-1], 1.0]] for m in masks], np.float32).reshape(-1, 1, 3)


KEYED = type(INFO)("k", (type(INFO.categories[0])("cat", 1, keypoints=("middle",)),), {})


def test_objects_on_seams_are_found_once_and_whole():
    image = scene()
    truth = components(image)
    found = predict_tiles(image, perfect, TILING, KEYED, 7, 0.5, batch=3)
    assert found.image_id == 7
    assert len(found.instances) == len(truth) > 15
    iou = coco_mask.iou(found.instances.rles(), encode_masks(truth), [0] * len(truth))
    assert iou.max(0).min() == 1.0
    assert (found.instances.scores.diff() <= 0).all()
    boxes = found.instances.boxes.numpy()[iou.argmax(0)]
    assert np.abs(boxes - mask_boxes(truth)).max() <= 1
    points = Keypoints.of(found.instances).points[iou.argmax(0)]
    inside = [truth[i][int(y), int(x)] for i, (x, y, _) in enumerate(points[:, 0].tolist())]
    assert all(inside), "keypoints lie on the whole image"


def test_an_image_without_objects_has_masks_all_the_same():
    dark = np.zeros((*SIZE, 3), np.uint8)
    assert predict_tiles(dark, perfect, TILING, KEYED, 1, 0.5).instances.masks == []

    def boxes(images):
        return [Prediction(0, one.shape[:2], Instances(torch.zeros(0, 4), torch.zeros(0).long())) for one in images]

    assert predict_tiles(dark, boxes, TILING, INFO, 1, 0.5).instances.masks is None


def test_objects_with_files_beside_are_refused_by_name():
    def infer(images):
        out = perfect(images)
        for one in out:
            one.instances.fields = {"beside": Beside(len(one.instances))}
        return out

    with pytest.raises(UsageError, match="--tile: beside of objects"):
        predict_tiles(scene(), infer, TILING, INFO, 1, 0.5)


def test_neighbours_that_touch_stay_apart_and_one_longer_than_a_tile_is_one():
    image = np.zeros((300, 420, 3), np.uint8)
    image[100:140, 40:380] = 255  # longer than two tiles
    halves = np.zeros((2, 300, 420), bool)
    halves[0, 200:240, 60:110] = halves[1, 200:240, 110:160] = True  # touch within an overlap

    def infer(images):
        out = []
        for one in images:
            masks = components(one)
            grey = one[:, :, 0]
            masks = np.concatenate([masks, [m for m in (grey == 40, grey == 80) if m.any()] or masks[:0]])
            found = Instances(
                torch.from_numpy(mask_boxes(masks)),
                torch.zeros(len(masks), dtype=torch.int64),
                torch.full((len(masks),), 0.9),
                masks=encode_masks(masks),
            )
            out.append(Prediction(0, one.shape[:2], found))
        return out

    image[halves[0]], image[halves[1]] = 40, 80
    found = predict_tiles(image, infer, TILING, INFO, 1, 0.5)
    areas = sorted(int(a) for a in coco_mask.area(found.instances.rles()))
    assert areas == [2000, 2000, 40 * 340]


def test_what_looks_larger_in_tiles_than_in_training_is_taken_from_the_whole_view():
    """A model that in tiles is sure of itself and wrong: it sees large objects too wide, and parts of them as well."""
    image = np.zeros((300, 420, 3), np.uint8)
    image[20:90, 20:100] = 255  # large, and whole in a tile
    image[200:212, 300:312] = 255  # small: the whole view sees nothing there
    image[150:215, 150:230] = 255  # large, over seams
    large = np.array([area for area in components(image) if area.sum() > 400])

    def infer(images):
        out = []
        for one in images:
            masks, whole = [*components(one)], one.shape[:2] == image.shape[:2]
            if whole:
                masks = [m for m in masks if m.sum() > 400]
            else:
                tops = [m & (np.cumsum(m.any(1)) <= 20)[:, None] for m in masks if m.sum() > 400]
                masks = [cv2.dilate(m.astype(np.uint8), np.ones((9, 9))) > 0 for m in masks] + tops
            stack = np.array(masks).reshape(-1, *one.shape[:2])
            boxes, labels = torch.from_numpy(mask_boxes(stack)), torch.zeros(len(stack), dtype=torch.int64)
            scores = torch.full((len(stack),), 0.6 if whole else 0.9)
            out.append(Prediction(0, one.shape[:2], Instances(boxes, labels, scores, masks=encode_masks(stack))))
        return out

    found = predict_tiles(image, infer, TILING, INFO, 1, 0.5, too_large=60.0).instances
    assert [round(float(score), 1) for score in found.scores] == [0.9, 0.6, 0.6]
    iou = coco_mask.iou(found.rles(), encode_masks(large), [0, 0])
    assert iou.max(0).tolist() == [1.0, 1.0], "of the large ones, the whole view's masks"
    assert int(coco_mask.area(found.rles()[0])) == 20 * 20, "of the small one, the tile's"
    known = predict_tiles(image, infer, TILING, INFO, 1, 0.5).instances
    scores = [round(float(score), 1) for score in known.scores]
    assert scores == [0.9, 0.9, 0.9, 0.6], "sizes in training not known: what a tile shows whole stays, parts too"


def test_boxes_alone_are_joined_too():
    image = scene(12)

    def boxes(images):
        out = perfect(images)
        for one in out:
            one.instances.masks, one.instances.fields = None, {}
        return out

    found = predict_tiles(image, boxes, TILING, INFO, 1, 0.5)
    truth = mask_boxes(components(image))
    assert len(found.instances) == len(truth)
    order = np.lexsort(truth.T), np.lexsort(found.instances.boxes.numpy().T)
    assert np.abs(truth[order[0]] - found.instances.boxes.numpy()[order[1]]).max() <= 1


def test_maps_take_each_pixel_from_the_middle_of_a_tile():
    image = scene()

    def semantic(images):
        out = []
        for one in images:
            labels = (one[:, :, 0] > 127).astype(np.uint8)
            if one.shape[0] < SIZE[0]:  # nonsense along the borders of a tile, where models see too little
                labels[:8] = labels[-8:] = 1 - labels[:1].max()
            out.append(Prediction(0, one.shape[:2], semantic=labels))
        return out

    found = predict_tiles(image, semantic, TILING, INFO, 1, 0.5)
    assert (found.semantic[8:-8] == (image[8:-8, :, 0] > 127)).all()


def test_panoptic_things_are_joined_and_stuff_is_one_segment():
    image = scene()
    truth = components(image)
    info = type(INFO)("p", (INFO.categories[0], type(INFO.categories[0])("ground", 9, thing=False)), {})

    def panoptic(images):
        out = []
        for one in images:
            ids = np.full(one.shape[:2], 1, np.int32)
            for i, mask in enumerate(components(one), 2):
                ids[mask] = i
            things = [Segment(int(i), 0, 0.9) for i in np.unique(ids) if i > 1]
            ground = [Segment(1, 1, 0.8)] if (ids == 1).any() else []
            out.append(Prediction(0, one.shape[:2], panoptic=Panoptic(ids, [*ground, *things])))
        return out

    found = predict_tiles(image, panoptic, TILING, info, 1, 0.5).panoptic
    assert sum(s.label == 1 for s in found.segments) == 1
    assert len(found.segments) == len(truth) + 1
    for mask in truth:
        assert len(np.unique(found.ids[mask])) == 1


def test_a_placed_mask_is_the_same_as_a_whole_one():
    rng = np.random.default_rng(0)
    for mask, x, y in [(rng.random((7, 5)) > 0.5, 3, 2), (np.ones((9, 4), bool), 2, 0), (np.zeros((2, 2), bool), 1, 1)]:
        whole = np.zeros((9, 8), bool)
        whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        assert (coco_mask.decode(place_mask(mask, x, y, (9, 8))) == whole).all()


def test_every_pixel_has_one_home():
    for length in (129, 300, 420, 128 + 96):
        homes = _homes(length, TILING)
        assert homes[0][2] == 0
        assert homes[-1][3] == length
        assert all(a[3] == b[2] for a, b in itertools.pairwise(homes))
        assert all(first <= start < end <= last for first, last, start, end in homes)


def test_files_larger_than_a_tile_are_predicted_in_tiles(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "large.png")
    Image.fromarray(scene()[:100, :100]).save(tmp_path / "small.png")
    model = Bright()
    toy = Predictor(model, RECIPE, INFO)
    report = predict_files(toy, [tmp_path], tmp_path / "out", tile=128, overlap=32, progress=False)
    assert report.images == 2
    assert sum(model.batches) == 3 * 5 + 1 + 1  # tiles, the whole view, and the small one
    data = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [(i["height"], i["width"]) for i in data["images"]] == [SIZE, (100, 100)]
    with pytest.raises(UsageError, match="--overlap"):
        predict_files(toy, [tmp_path], tmp_path / "o", tile=128, overlap=128, progress=False)
    with pytest.raises(UsageError, match="goes with --tile"):
        predict_files(toy, [tmp_path], tmp_path / "o", overlap=12, progress=False)
