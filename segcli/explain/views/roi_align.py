"""Where RoIAlign reads the features of a detection, beside RoIPool's rounded bins, and what the difference does."""

import numpy as np
import torch
from torch import Tensor

from segcli.explain.pictures import cells, crop_around, dot, feature_colours, fitted, heat, rectangle
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.rcnn.pooler import Pooler, Pooling
from segcli.ops.roi_points import pool_bins, sampling_points

BOX, POINT, BIN = (255, 255, 255), (255, 210, 60), (90, 200, 255)  # RGB


def build() -> View:
    return View(
        "RoIAlign beside RoIPool",
        "White: the exact box on the grid of feature cells. RoIAlign averages what it reads at the yellow points, "
        "wherever they fall; RoIPool rounds the box to whole cells and takes the maximum of each blue bin, beside "
        "what it should read.",
        ("Mask R-CNN, section 3 and figure 3", "https://arxiv.org/abs/1703.06870"),
        Pooler.forward,
        ("pooling_heads", "detections", "strides"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    heads, strides, boxes = scene.inside["pooling_heads"], scene.inside["strides"], scene.detections().boxes
    assert isinstance(heads, dict)
    assert isinstance(strides, list)
    name = "mask" if "mask" in heads else next(iter(heads))
    head = heads[name]
    assert isinstance(head, Pooling)
    shown = Shown(columns=3)
    for number, _, group in scene.objects():
        box = boxes[number]
        level = int(head.pooler.levels(box[None])[0]) if len(head.pooler.strides) > 1 else 0
        stride = head.pooler.strides[level]
        features = scene.tensors("features")[strides.index(stride)]
        shown.pictures += _region(scene, head.pooler, box, stride, features, group)
    shown.facts.append(f"The {name} head reads {head.pooler.size} × {head.pooler.size} bins, each the mean of "
                       f"{head.pooler.sampling} × {head.pooler.sampling} points.")  # fmt: skip
    return shown


def _region(scene: Scene, pooler: Pooler, box: Tensor, stride: int, features: Tensor, group: str) -> list[Picture]:
    points = sampling_points(box, stride, pooler.size, pooler.sampling, pooler.aligned).flatten(0, 1)
    bins = pool_bins(box, stride, pooler.size, (features.shape[1], features.shape[2])).flatten(0, 1)
    aligned, pooled = (_read(pooler, way, stride, features, box) for way in ("roi_align", "roi_pool"))
    _, basis = feature_colours(torch.cat([aligned, pooled], 2))
    change = torch.linalg.vector_norm(aligned - pooled, dim=0)
    share = float(change.mean() / torch.linalg.vector_norm(aligned, dim=0).mean().clamp(min=1e-9))
    whole, near = _grid(scene, box, stride), _grid(scene, _corner(box, pooler.size, stride), stride, margin=0.1)
    rounded, places = (near[0].copy(), *near[1:]), ((points + 0.5) * stride).tolist()
    for picture, corner, factor in (whole, near):
        for x, y in places:
            dot(picture, (x - corner[0]) * factor, (y - corner[1]) * factor, POINT, max(1.5, 0.07 * stride * factor))
    for number, one in enumerate((bins * stride).numpy()):
        inset = 0.1 * stride * (number % 2 + number // pooler.size % 2)  # neighbours share cells: told apart
        rectangle(rounded[0], (one - [*rounded[1], *rounded[1]] + [inset, inset, -inset, -inset]) * rounded[2], BIN, 2)
    for picture, corner, factor in (whole, near, rounded):
        rectangle(picture, (box.numpy() - [*corner, *corner]) * factor, BOX, 2)
    pictures = [
        (whole[0], f"RoIAlign: {len(points)} points on the map of stride {stride}"),
        (near[0], "the first bins from near: points at exact places"),
        (rounded[0], "the same with RoIPool: bins of whole cells"),
        (cells(feature_colours(aligned, basis)[0]), "what RoIAlign reads, as colours"),
        (cells(feature_colours(pooled, basis)[0]), "what RoIPool reads, in the same colours"),
        (cells(heat(change.numpy())), f"difference: {100 * share:.0f} % of the features' length"),
    ]
    return [Picture(pixels, caption, group) for pixels, caption in pictures]


def _read(pooler: Pooler, way: str, stride: int, features: Tensor, box: Tensor) -> Tensor:
    """[C,size,size]: the box by the head's pooler, or by the other method in its place."""
    one = Pooler(pooler.size, [stride], method=way, sampling=pooler.sampling, aligned=pooler.aligned)
    return one([features[None]], [box[None]])[0]


def _corner(box: Tensor, size: int, stride: int) -> Tensor:
    """The part of the box that its first three bins in both directions cover, at least four cells."""
    sides = torch.minimum(box[2:] - box[:2], ((box[2:] - box[:2]) * 3 / size).clamp(min=4 * stride))
    return torch.cat([box[:2], box[:2] + sides.max()])


def _grid(scene: Scene, box: Tensor, stride: int, margin: float = 0.3) -> tuple[np.ndarray, tuple[int, int], float]:
    """(the image around a box under the borders of feature cells, the corner of the part, its enlargement)."""
    part, (left, top) = crop_around(scene.canvas, box, margin)
    picture, factor = fitted(part)
    height, width = picture.shape[:2]
    for k in range(0, max(scene.size) + stride, stride):
        x, y = round((k - left) * factor), round((k - top) * factor)
        if 0 <= x < width:
            picture[:, x] = picture[:, x] // 2 + 40
        if 0 <= y < height:
            picture[y] = picture[y] // 2 + 40
    return picture, (left, top), factor
