"""Meshes of objects, posed before the camera: read, moved as images are, stored, drawn.

The camera is that of `segcli/meshes/raster.py`: x right, y down, z forward, in pixels u = fx·x/z + cx, v = fy·y/z + cy.
An annotation has `mesh`: {"file": a side file, "rotation": nine numbers by rows, "scale", "shift": three, "camera": fx,
fy, cx, cy}; a point p of the file lies at rotation · p · scale + shift before the camera.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.fields.side_files import read_arrays
from segcli.meshes.raster import NEAR
from segcli.meshes.shape import Shape, shape
from segcli.types import Colour, Index, Instances, Labels, Origin, Placed, Store

COUNTS = {"rotation": 9, "shift": 3, "camera": 4}
Found = tuple[Tensor, Tensor]


@dataclasses.dataclass
class PosedMeshes:
    """The meshes of N objects: labels, or predictions.

    Labels: shapes (None: an object without a mesh), which are normalised (meshes/shape.py), and rotation [N,3,3], scale
    [N], shift [N,3], so that a point p of the shape lies at rotation · p · scale + shift; camera [N,4]: fx, fy, cx, cy.
    A mirror image has a rotation of determinant -1, which turns faces inside out; normals times it stay outward.

    Predictions: found, (vertices float32 [V,3], faces int64 [F,3]) of each object in the frame of its box: x, y of -1
    to 1 over `boxes` [N,4], and z = p + q / depth of -1 (near) to 1 (far); extent [N]: far - near times the focal
    length, divided by the depth in the middle, in pixels of the image.
    """

    shapes: list[Shape | None]
    rotation: Tensor
    scales: Tensor
    shift: Tensor
    camera: Tensor
    found: list[Found] | None = None
    extent: Tensor | None = None
    boxes: Tensor | None = None

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return ("mesh",)

    @classmethod
    def predicted(cls, found: list[Found], extent: Tensor, boxes: Tensor) -> "PosedMeshes":
        """What a head finds; see the class."""
        n = len(found)
        rest = (torch.eye(3).repeat(n, 1, 1), torch.ones(n), torch.zeros(n, 3), torch.ones(n, 4))
        return cls([None] * n, *rest, found, extent, boxes)

    @classmethod
    def read(cls, annotations: Labels, origin: Origin) -> "PosedMeshes":
        if any("mesh_index" in a for a in annotations):
            return _stored(annotations, origin)
        n = len(annotations)
        shapes: list[Shape | None] = []
        rows = np.tile(np.array([*np.eye(3).ravel(), 0, 0, 0, 1, 1, 0, 0, 1], np.float64), (n, 1))
        for row, annotation in zip(rows, annotations, strict=True):
            shapes.append(None)
            if given := cast("dict[str, list[float]] | None", annotation.get("mesh")):  # `problems` has checked it
                shapes[-1] = one = shape(origin.file(given["file"]))
                turn, scale = np.array(given["rotation"]), cast(float, given.get("scale", 1.0))
                moved = np.array(given["shift"]) + scale * turn.reshape(3, 3) @ one.centre
                row[:] = [*turn, *moved, *given["camera"], scale * one.size]
        values = torch.from_numpy(rows).float()
        return cls(shapes, values[:, :9].reshape(n, 3, 3), values[:, 16], values[:, 9:12], values[:, 12:16])

    @classmethod
    def problems(cls, annotations: Labels, origin: Origin) -> Iterator[str]:
        """One sentence for each problem of an image's labels; the meshes themselves are read once each."""
        for annotation in annotations:
            given = annotation.get("mesh")
            if given is None:
                continue
            name = f"annotation {annotation.get('id')}: mesh"
            if not isinstance(given, dict) or not isinstance(given.get("file"), str):
                yield f"{name}: is no object with a file, a pose and a camera"
                continue
            wrong = [key for key, count in COUNTS.items() if not _numbers(given.get(key), count)]
            if wrong:
                yield f"{name}: {wrong[0]} is not {COUNTS[wrong[0]]} finite numbers"
                continue
            turn = np.array(given["rotation"], float).reshape(3, 3)
            scale = given.get("scale", 1.0)
            if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-2):
                yield f"{name}: rotation is no rotation: its rows are not at right angles and of length 1"
            elif not _numbers([scale], 1) or scale <= 0 or min(given["camera"][:2]) <= 0:
                yield f"{name}: scale and focal lengths must be above 0"
            else:
                try:
                    path = origin.file(given["file"])
                    if not path.is_file():
                        yield f"{name}: there is no side file {given['file']}"
                        continue
                    one = shape(path)
                    middle = given["shift"][2] + scale * float(turn[2] @ one.centre)
                    depth = one.vertices @ turn[2].astype(np.float32) * (one.size * scale) + middle
                    if depth.min() <= NEAR:
                        yield f"{name}: {given['file']} reaches behind the camera (depth {depth.min():.3g})"
                except DataError as error:
                    yield f"{name}: {error}"

    @classmethod
    def labelled(cls, annotations: Labels) -> bool:
        return any(
            isinstance(a.get("mesh"), dict) and "file" in cast(dict[str, object], a["mesh"]) for a in annotations
        )

    @classmethod
    def of(cls, instances: Instances) -> "PosedMeshes":
        """The meshes of instances that have them."""
        field = instances.fields["mesh"]
        assert isinstance(field, cls), "the field mesh holds posed meshes"
        return field

    @property
    def has(self) -> Tensor:
        """bool [N]: which objects have a mesh."""
        if self.found is not None:
            return torch.tensor([len(faces) > 0 for _, faces in self.found], dtype=torch.bool)
        return torch.tensor([one is not None for one in self.shapes], dtype=torch.bool)

    def vertices(self, i: int) -> Tensor:
        """[V,3]: the label's mesh before the camera."""
        one = self.shapes[i]
        assert one is not None, "this object has no mesh"
        own = torch.from_numpy(one.vertices).to(self.rotation)
        return own @ self.rotation[i].T * self.scales[i] + self.shift[i]

    def depth_range(self) -> tuple[Tensor, Tensor]:
        """(nearest, farthest) depth [N] of the labels' meshes; 0 where there is none."""
        ends = torch.zeros(len(self), 2)
        for i, one in enumerate(self.shapes):
            if one is not None:
                z = self.vertices(i)[:, 2]
                ends[i, 0], ends[i, 1] = z.min(), z.max()
        return ends[:, 0], ends[:, 1]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Index) -> "PosedMeshes":
        keep = torch.arange(len(self))[index].reshape(-1).tolist()
        at = lambda value: value[torch.tensor(keep, dtype=torch.int64, device=value.device)]
        return PosedMeshes(
            [self.shapes[i] for i in keep],
            at(self.rotation),
            at(self.scales),
            at(self.shift),
            at(self.camera),
            None if self.found is None else [self.found[i] for i in keep],
            None if self.extent is None else at(self.extent),
            None if self.boxes is None else at(self.boxes),
        )

    def flip(self, width: float) -> "PosedMeshes":
        """Mirror left to right: the mirrored object before the mirrored camera."""
        mirror = self.rotation.new_tensor([-1.0, 1, 1])
        fx, fy, cx, cy = self.camera.unbind(1)
        camera = torch.stack([fx, fy, width - cx, cy], 1)
        return dataclasses.replace(
            self, rotation=self.rotation * mirror[:, None], shift=self.shift * mirror, camera=camera
        )

    def crop(self, x: float, y: float, width: float, height: float) -> "PosedMeshes":
        """What leaves the image stays: a mesh is that of the whole object."""
        return dataclasses.replace(self, camera=self.camera - self.camera.new_tensor([0, 0, x, y]))

    def scale(self, x: float, y: float) -> "PosedMeshes":
        return dataclasses.replace(self, camera=self.camera * self.camera.new_tensor([x, y, x, y]))

    def rotate(self, matrix: np.ndarray) -> "PosedMeshes":
        """matrix [2,3] maps a point (x, y, 1): the camera turns about its axis. Raises UsageError where a pixel is not
        square, since such a camera would be skewed."""
        if not torch.allclose(self.camera[:, 0], self.camera[:, 1], rtol=1e-3):
            raise UsageError(
                "data.augment: pixels that are not square (fx is not fy) can't be rotated with their meshes",
                hint="leave rot90, flip_vertical, rotate and aspect away",
            )
        turn = torch.from_numpy(np.asarray(matrix, np.float32)).to(self.camera)
        around = torch.eye(3).to(turn)
        around[:2, :2] = turn[:, :2]
        centre = self.camera[:, 2:] @ turn[:, :2].T + turn[:, 2]
        camera = torch.cat([self.camera[:, :2], centre], 1)
        return dataclasses.replace(self, rotation=around @ self.rotation, shift=self.shift @ around.T, camera=camera)

    def to(self, device: torch.device | str) -> "PosedMeshes":
        """Poses move; shapes are NumPy's."""
        return PosedMeshes(
            self.shapes,
            self.rotation.to(device),
            self.scales.to(device),
            self.shift.to(device),
            self.camera.to(device),
            None if self.found is None else [(v.to(device), f.to(device)) for v, f in self.found],
            None if self.extent is None else self.extent.to(device),
            None if self.boxes is None else self.boxes.to(device),
        )

    @classmethod
    def moved(cls, annotation: Mapping[str, object], placed: Placed) -> dict[str, object]:
        """The camera of a tile or a resized image."""
        given = annotation["mesh"]
        if not isinstance(given, dict) or not _numbers(given.get("camera"), 4):
            raise ValueError("mesh has no camera of four numbers")
        (sx, sy), (dx, dy), (fx, fy, cx, cy) = placed.scale, placed.shift, given["camera"]
        return {"mesh": {**given, "camera": [fx * sx, fy * sy, cx * sx - dx, cy * sy - dy]}}

    def perfect(self) -> tuple["PosedMeshes", Tensor]:
        """The labelled meshes, each in the frame of the box around its projection."""
        near, far = self.depth_range()
        found, extents, boxes = [], torch.zeros(len(self)), torch.zeros(len(self), 4)
        for i, one in enumerate(self.shapes):
            if one is None:
                found.append((torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)))
                continue
            points, (fx, fy, cx, cy) = self.vertices(i), self.camera[i].tolist()
            z = points[:, 2]
            flat = torch.stack([points[:, 0] / z * fx + cx, points[:, 1] / z * fy + cy], 1)
            low, high = flat.min(0).values, flat.max(0).values
            boxes[i] = torch.cat([low, high])
            half = ((high - low) / 2).clamp(min=1e-3)
            n, f = near[i], far[i].clamp(min=float(near[i]) * (1 + 1e-6))
            q = 2 * n * f / (n - f)
            inside = torch.cat([(flat - (low + high) / 2) / half, (-1 - q / n + q / z)[:, None]], 1)
            extents[i] = (f - n) * fy / ((n + f) / 2)
            found.append((inside, torch.from_numpy(one.faces)))
        return PosedMeshes.predicted(found, extents, boxes), self.has

    def write(self, labels: Sequence[int], store: Store) -> list[dict[str, object]]:
        if self.found is None or self.extent is None or not self.found:
            return [{} for _ in range(len(self))]
        arrays = {
            "vertices": torch.cat([v for v, _ in self.found]).half().cpu().numpy(),
            "faces": torch.cat([f for _, f in self.found]).int().cpu().numpy(),
            "counts": np.array([[len(v), len(f)] for v, f in self.found], np.int64),
            "extent": self.extent.float().cpu().numpy(),
        }
        name = store.file("mesh", arrays)
        return [{"mesh_file": name, "mesh_index": i} for i in range(len(self))]

    def draw(
        self, canvas: np.ndarray, found: Instances, info: DatasetInfo, factor: float, colours: Sequence[Colour]
    ) -> None:
        """Faces over uint8 RGB [H,W,3], in place, far ones first and shaded by how they face the viewer."""
        for i, colour in enumerate(colours):
            if self.found is not None and self.boxes is not None:
                (v, f), box = self.found[i], self.boxes[i]
                middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
                flat, depth, faces = v[:, :2] * half + middle, v[:, 2] * float(half.mean()), f.cpu().numpy()
            elif (one := self.shapes[i]) is not None:
                points, (fx, fy, cx, cy) = self.vertices(i), self.camera[i]
                z = points[:, 2].clamp(min=NEAR)
                flat = torch.stack([points[:, 0] / z * fx + cx, points[:, 1] / z * fy + cy], 1)
                depth, faces = z * fx / z.mean(), one.faces
            else:
                continue
            if len(faces):
                _paint(canvas, (flat * factor).cpu().numpy(), (depth * factor).cpu().numpy(), faces, colour)


def _paint(canvas: np.ndarray, flat: np.ndarray, depth: np.ndarray, faces: np.ndarray, colour: Colour) -> None:
    """flat [V,2] and depth [V] in pixels of the canvas."""
    points = np.concatenate([flat, depth[:, None]], 1)[faces]
    across = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    facing = np.abs(across[:, 2]) / np.maximum(np.linalg.norm(across, axis=1), 1e-9)
    layer = canvas.copy()
    corners = np.rint((points[:, :, :2].clip(-1e4, 1e4) - 0.5) * 16).astype(np.int32)
    for k in np.argsort(-points[:, :, 2].mean(1), kind="stable").tolist():
        shade = 0.25 + 0.75 * float(facing[k])
        cv2.fillConvexPoly(layer, corners[k], tuple(int(c * shade) for c in colour), cv2.LINE_AA, 4)
    canvas[:] = cv2.addWeighted(canvas, 0.15, layer, 0.85, 0)


def _stored(annotations: Labels, origin: Origin) -> "PosedMeshes":
    """What `write` has stored."""
    name = next(a["mesh_file"] for a in annotations if "mesh_file" in a)
    read = read_arrays(origin.file(name), "vertices", "faces", "counts", "extent")
    vertices, faces, counts, extent = (torch.from_numpy(values) for values in read)
    v, f = counts.T.tolist()
    parts = [*zip(vertices.float().split(v), faces.long().split(f), strict=True)]
    keep = [cast(int, a["mesh_index"]) for a in annotations]
    boxes = torch.tensor([cast(list[float], a["bbox"]) for a in annotations], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return PosedMeshes.predicted([parts[i] for i in keep], extent[keep], boxes)


def _numbers(value: object, count: int) -> bool:
    """Whether it is a list of so many finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(v) in (int, float) and math.isfinite(v) for v in value)
    )


def build() -> type[PosedMeshes]:
    return PosedMeshes
