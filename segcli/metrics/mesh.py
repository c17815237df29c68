"""Scores of meshes by Mesh R-CNN's protocol (Gkioxari et al., 2019, sections 4.1 and 4.2, and their code's evaluation).

What one image can't show is taken from the label, as there: the camera, and the depth of the object's middle. A
predicted mesh is put into the camera's frame by its own box and its own depth range around that middle. 10,000 points
of it and of the label are compared, both scaled so that the longest edge of the label's bounding box, in the camera's
frame, is 10.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from segcli.core.dataset_info import DatasetInfo
from segcli.fields.mesh import PosedMeshes
from segcli.ops.bootstrap import mean_of_known
from segcli.ops.meshes.frustum import meshes_from_box
from segcli.ops.meshes.packed import Meshes
from segcli.ops.meshes.surface import nearest, sample_points
from segcli.types import Instances, Prediction, Target

POINTS = 10_000
EDGE = 10.0  # the label's longest edge after scaling
NEAR = 0.3  # box IoU from which a detection is compared with a label, as in the published evaluation
FOUND = 0.5  # box IoU from which an object counts as found in the means; F1 from which a mesh is a hit
F1 = {"mesh_F1_01": 0.1, "mesh_F1_03": 0.3, "mesh_F1_05": 0.5}  # key -> distance within which a point is right


def build(*, info: DatasetInfo) -> "MeshScores":
    return MeshScores(info)


@dataclasses.dataclass
class _Image:
    """labels [C]: objects with a mesh; rows: of each detection class, score, hit, and whether it lies near a label;
    quality [n,6]: of each object 1 if it is found, the three F1, chamfer, normal consistency; classes [n]: its
    class."""

    labels: np.ndarray
    rows: list[tuple[int, float, bool, bool]]
    quality: np.ndarray
    classes: np.ndarray


class MeshScores:
    """mesh_AP: area under precision and recall, mean over classes, where a detection is right if its class is, its box
    overlaps the label's by more than 0.3, the F1 at 0.3 of the meshes is above 0.5, and no better one has the label.
    mesh_AP_near: the same without the detections that overlap no label, as published for Pix3D, where only one object
    of an image is labelled. mesh_F1_01, _03, _05: mean over all labelled objects, 0 for one that no detection of its
    class finds at IoU 0.5. mesh_chamfer (in units of a tenth of the object, squared), mesh_normal_consistency
    (mean absolute cosine): means over those found. Objects without a mesh are left out, and detections of them.
    """

    def __init__(self, info: DatasetInfo):
        self.names = info.names[: info.num_things]
        self.images: dict[int, _Image] = {}

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Both on original pixels; instances have the field "mesh"."""
        for prediction, target in zip(predictions, targets, strict=True):
            found = prediction.instances if prediction.instances is not None else Instances.empty()
            self.images[target.image_id] = self._image(found, target.instances)

    def _image(self, found: Instances, labelled: Instances) -> _Image:
        field = PosedMeshes.of(labelled)
        real = field.has if labelled.crowd is None else field.has & ~labelled.crowd
        overlap = box_iou(found.boxes, labelled.boxes)
        near_any = (overlap > NEAR).any(1).tolist() if len(labelled) else [False] * len(found)
        own_class = overlap * (found.labels[:, None] == labelled.labels)
        rows, taken, quality = [], set[int](), np.zeros((len(labelled), 6))
        scores = found.scores.tolist() if found.scores is not None else []
        for k in np.argsort(-np.array(scores), kind="stable").tolist():
            hit = False
            i = int(own_class[k].argmax()) if len(labelled) else -1
            if i >= 0 and own_class[k, i] > NEAR:
                if not real[i]:
                    continue
                unseen = own_class[k, i] >= FOUND and not quality[i, 0]
                if i not in taken or unseen:
                    values = compare(PosedMeshes.of(found), k, field, i)
                    hit = i not in taken and values[1] > FOUND
                    taken |= {i} if hit else set()
                    if unseen:
                        quality[i] = [1, *values]
            rows.append((int(found.labels[k]), scores[k], hit, near_any[k]))
        classes = labelled.labels[real].numpy()
        counts = np.bincount(classes, minlength=len(self.names))
        return _Image(counts, rows, quality[real.numpy()], classes)

    def merge(self, other: "MeshScores") -> None:
        self.images |= other.images

    def compute(self) -> dict[str, float]:
        """No key where nothing is labelled, or nothing found."""
        values = self.replicates(np.ones((1, len(self.images)), np.float32))
        return {key: float(value[0]) for key, value in values.items() if not np.isnan(value[0])}

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of each resample, [B]; times [B,I]: how often each image is drawn, by image id."""
        images = [self.images[i] for i in sorted(self.images)]
        if not any(image.labels.any() for image in images):
            return {}
        out = {
            "mesh_AP": mean_of_known(self._average_precision(images, times, near=False)),
            "mesh_AP_near": mean_of_known(self._average_precision(images, times, near=True)),
        }
        sums = np.stack([[len(image.quality), *image.quality.sum(0)] for image in images])  # [I,7]
        count, found, *qualities = (times.astype(np.float64) @ sums).T
        share = lambda value, of: np.divide(value, of, out=np.full(len(times), np.nan), where=of > 0)
        out |= {key: share(value, count) for key, value in zip(F1, qualities[:3], strict=True)}
        rest = zip(("mesh_chamfer", "mesh_normal_consistency"), qualities[3:], strict=True)
        return out | {key: share(value, found) for key, value in rest}

    def _average_precision(self, images: Sequence[_Image], times: np.ndarray, near: bool) -> np.ndarray:
        """[B,C], NaN for a class without a label in the resample."""
        totals = times @ np.stack([image.labels for image in images])
        out = np.where(totals > 0, 0.0, np.nan)
        for label in range(len(self.names)):
            rows = [(p, *row[1:]) for p, image in enumerate(images) for row in image.rows if row[0] == label]
            rows = sorted((row for row in rows if row[3] or not near), key=lambda row: -row[1])
            if rows:
                drawn = times[:, [row[0] for row in rows]].astype(np.float64)  # [B,D]
                right = (drawn * [row[2] for row in rows]).cumsum(1)
                precision = right / np.maximum(drawn.cumsum(1), 1e-9)
                envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
                area = (envelope * np.diff(right, axis=1, prepend=0)).sum(1)
                out[:, label] = np.where(totals[:, label] > 0, area / np.maximum(totals[:, label], 1e-9), np.nan)
        return out

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> {"mesh_AP", "mesh_F1_03"}; empty for a class without a labelled mesh."""
        images = [self.images[i] for i in sorted(self.images)]
        if not images:
            return {name: {} for name in self.names}
        average = self._average_precision(images, np.ones((1, len(images)), np.float32), near=False)[0]
        quality, classes = (np.concatenate([getattr(i, key) for i in images]) for key in ("quality", "classes"))
        return {
            name: {"mesh_AP": float(average[c]), "mesh_F1_03": float(quality[classes == c, 2].mean())}
            if (classes == c).any()
            else {}
            for c, name in enumerate(self.names)
        }


def compare(found: PosedMeshes, k: int, labelled: PosedMeshes, i: int) -> list[float]:
    """Detection k's mesh against label i's: F1 at 0.1, 0.3 and 0.5, chamfer distance, normal consistency. An empty mesh
    has F1 0, chamfer EDGE² and consistency 0."""
    shape = labelled.shapes[i]
    assert shape is not None
    assert found.found is not None
    assert found.extent is not None
    assert found.boxes is not None
    vertices, faces = found.found[k]
    if not len(faces):
        return [0.0, 0.0, 0.0, EDGE**2, 0.0]
    truth = labelled.vertices(i)
    low, high = truth.amin(0), truth.amax(0)
    middle, camera = (low[2] + high[2]) / 2, labelled.camera[i]
    half = (middle * found.extent[k] / camera[1] / 2).clamp(max=0.9 * float(middle))  # stays in front of the camera
    frustum = (found.boxes[k][None], (middle - half)[None], (middle + half)[None], camera[None])
    mesh = meshes_from_box(Meshes.join([(vertices, faces)]), *frustum)
    points, normals, _ = sample_points(mesh, POINTS, [torch.Generator().manual_seed(0)])
    turn = labelled.rotation[i].T
    label = torch.from_numpy(shape.points)[:POINTS] @ (turn * labelled.scales[i]) + labelled.shift[i]
    label_normals = torch.from_numpy(shape.normals)[:POINTS] @ turn
    scale = EDGE / float((high - low).max())
    return agreement(points[0] * scale, normals[0], label * scale, label_normals)


def agreement(points: Tensor, normals: Tensor, label: Tensor, label_normals: Tensor) -> list[float]:
    """F1 at 0.1, 0.3, 0.5, chamfer and normal consistency of two clouds [P,3], [Q,3] and their unit normals."""
    there, back = (index[0] for index in nearest(points[None], label[None]))
    to_label, to_points = (points - label[there]).norm(dim=1), (label - points[back]).norm(dim=1)
    values = []
    for distance in F1.values():
        precision, recall = float((to_label < distance).float().mean()), float((to_points < distance).float().mean())
        values.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    values.append(float(to_label.square().mean() + to_points.square().mean()))
    cosine = (normals * label_normals[there]).sum(1).abs().mean(), (label_normals * normals[back]).sum(1).abs().mean()
    return [*values, float(sum(cosine)) / 2]
