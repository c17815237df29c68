"""Predicted meshes as files that any 3D program opens: Wavefront OBJ and binary glTF, a file an object.

One image tells neither how far away an object is nor, without the camera's data, how wide the camera sees. So every
object's middle is put at distance 1, and the focal length is taken to be the longer side of the image (53 degrees from
side to side). Sizes are in that unit. x points right, y up and z to the viewer, as glTF has it.
"""

import json
import struct
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from segcli.core.dataset_info import DatasetInfo
from segcli.fields.mesh import PosedMeshes
from segcli.meshes.files import obj_text
from segcli.ops.meshes.frustum import from_box
from segcli.predictions.coco_results import write_bytes
from segcli.types import Prediction

KINDS = ("glb", "obj")
MOST = 20  # of an image: as many as get a mesh


def write_meshes(prediction: Prediction, info: DatasetInfo, out: Path, name: str, save: Collection[str]) -> None:
    """Write those of KINDS that `save` names: meshes/NAME/1.obj, 2.obj, … in the order of the detections, which is that
    of the tables, by score; those of an earlier call go. Objects without a mesh have no file."""
    found = prediction.instances
    if found is None or "mesh" not in found.fields:
        return
    field = PosedMeshes.of(found)
    for kind in KINDS:
        if kind in save:
            for i in range(1, MOST + 1):
                (out / "meshes" / name / f"{i}.{kind}").unlink(missing_ok=True)
    for i, (vertices, faces) in enumerate(before_camera(field, prediction.size), 1):
        if len(faces):
            label, colour = info.names[int(found.labels[i - 1])], info.colours()[int(found.labels[i - 1])]
            for kind in KINDS:
                if kind in save:
                    content = obj(vertices, faces, label) if kind == "obj" else glb(vertices, faces, label, colour)
                    write_bytes(out / "meshes" / name / f"{i}.{kind}", content)


def before_camera(field: PosedMeshes, size: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertices float32 [V,3] and faces int32 [F,3], counter-clockwise seen from outside, of predictions on an image of
    `size` (h, w). See the top of this file."""
    assert field.found is not None
    assert field.extent is not None
    assert field.boxes is not None
    focal = float(max(size))
    camera = torch.tensor([[focal, focal, size[1] / 2, size[0] / 2]])
    out = []
    for i, (vertices, faces) in enumerate(field.found):
        half = (field.extent[i : i + 1] / focal / 2).clamp(max=0.9)
        points = from_box(vertices[None].float(), field.boxes[i : i + 1], 1 - half, 1 + half, camera)[0]
        turned = points * points.new_tensor([1, -1, -1])
        out.append((turned.numpy().astype(np.float32), faces.numpy().astype(np.int32)))
    return out


def obj(vertices: np.ndarray, faces: np.ndarray, label: str) -> bytes:
    """Wavefront's text format."""
    return f"o {' '.join(label.split())}\n{obj_text(vertices, faces)}".encode()


def glb(vertices: np.ndarray, faces: np.ndarray, label: str, colour: tuple[int, int, int]) -> bytes:
    """glTF 2.0 in one binary file (its specification, sections 3.6 and 4): one mesh, one material of `colour`
    (sRGB)."""
    points, corners = vertices.astype("<f4").tobytes(), faces.astype("<u4").tobytes()
    views = [{"buffer": 0, "byteOffset": 0, "byteLength": len(points), "target": 34962}]
    views.append({"buffer": 0, "byteOffset": len(points), "byteLength": len(corners), "target": 34963})
    low, high = vertices.min(0).tolist(), vertices.max(0).tolist()
    accessors: list[dict[str, object]] = [
        {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3", "min": low, "max": high},
        {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
    ]
    linear = [(c / 255) ** 2.2 for c in colour]
    surface = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
    scene = {
        "asset": {"version": "2.0", "generator": "segcli"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": label}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": surface}],
        "buffers": [{"byteLength": len(points) + len(corners)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = points + corners  # floats and integers of four bytes: a multiple of four
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(data))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
