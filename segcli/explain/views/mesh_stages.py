"""Mesh R-CNN, stage by stage: voxels, their surface, and what each refinement makes of it."""

import dataclasses
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor

from segcli.drawing.colours import Rgb
from segcli.explain.pictures import cells, crop_around, fitted, heat, lay
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, Solids, View
from segcli.fields.mesh import Found, PosedMeshes
from segcli.meshes.raster import rasterise
from segcli.models.rcnn.heads.mesh import MeshHead, full_from
from segcli.models.rcnn.rcnn import RCNN
from segcli.predictions.meshes import before_camera

SIDE = 300  # pixels of a picture
FACES, MOST = 6_000, 4  # of a mesh, and objects, that the page lets one turn: more would only make the file large
COLOUR: Rgb = (230, 159, 0)
PAPER: Rgb = (245, 245, 245)
FAR, STEP = 10.0, 0.04  # of what has no surface, and a step that is an edge, in radii of the mesh
LIGHT = np.array([-0.4, -0.5, 0.77])  # its direction in the picture


def build() -> View:
    return View(
        "From voxels to a mesh",
        "Voxels say how probably each cell of the box's cube is full; the surface of the full ones is the first mesh, "
        "whose vertices each stage moves. Above as the camera sees it, below turned to the side.",
        ("Mesh R-CNN, section 3 and figure 3", "https://arxiv.org/abs/1906.02739"),
        MeshHead.predict,
        ("detections", "mesh_vertices"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    model, detections, image = scene.model, scene.inside["detections"], scene.prediction.instances
    assert isinstance(model, RCNN)
    assert isinstance(detections, list)
    assert image is not None
    head = next(one for one in model.roi_heads.all() if isinstance(one, MeshHead))
    original = (scene.image.shape[0], scene.image.shape[1])
    stages = []
    for k in range(len(detections[0].extra["mesh_vertices"])):
        extra = {**detections[0].extra, "mesh_vertices": detections[0].extra["mesh_vertices"][: k + 1]}
        done = head.finish(dataclasses.replace(detections[0], extra=extra), scene.size, original)
        stages.append(cast(PosedMeshes, done["fields"]["mesh"]))
    voxels = scene.of_image("voxels") if "voxels" in scene.inside else None
    names = ["sphere" if voxels is None else "cubified", *(f"stage {k}" for k in range(1, len(stages)))]
    shown, solids = Shown(columns=len(names) + (voxels is not None)), Solids({})
    for number, _, group in scene.objects(len(detections[0].extra["mesh_counts"])):
        fields = [stage[torch.tensor([number])] for stage in stages]
        box = cast(Tensor, fields[0].boxes)
        part, (left, top) = crop_around(scene.image, box[0], 0.1)
        picture, factor = fitted(part, SIDE)
        box = box - torch.tensor([left, top, left, top])
        seen, turned = [], []
        if voxels is not None:
            laid, side = picture.copy(), heat(voxels[number].amax(2).T.numpy(), 1.0)
            front = voxels[number].amax(0).numpy()
            lay(laid, (box[0] * factor).numpy(), heat(front, 1.0), 0.4 + 0.5 * front)
            least = float(full_from(voxels[number : number + 1]))
            full = f"{len(side)}³ voxels, full from {least:.2f}"
            seen.append(Picture(laid, full, group))
            turned.append(Picture(cells(side, SIDE), "voxels from the side, near ones left", group))
        for k, (name, one) in enumerate(zip(names, fields, strict=True)):
            drawn = picture.copy()
            dataclasses.replace(one, boxes=box).draw(drawn, image, scene.info, factor, [COLOUR])
            vertices, faces = cast("list[Found]", one.found)[0]
            before = cast("list[Found]", fields[max(0, k - 1)].found)[0][0]
            way = float((vertices - before).norm(dim=1).mean()) if len(vertices) else 0.0
            text = f"moved by {way:.2f} on average" if k else f"{len(vertices):,} vertices, {len(faces):,} faces"
            seen.append(Picture(drawn, f"{name}: {text}", group))
            [(points, corners_F3)] = before_camera(one, original)
            turned.append(Picture(_turned(points, corners_F3), f"{name} from the side", group))
            if number < MOST and len(faces) <= FACES:
                solids.meshes[f"{group}, {name}"] = points, corners_F3
        shown.pictures += seen + turned
    if solids.meshes:
        shown.widgets.append(solids)
    if shown.pictures:
        shown.facts = ["Distances are in half sides of the cube; one image does not tell how far away an object is."]
    return shown


def _turned(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A mesh (y up, z to the viewer) from its right and a little above, lit from the front."""
    if not len(faces):
        return np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    right, above = np.deg2rad(65), np.deg2rad(15)
    about_y = np.array([[np.cos(right), 0, -np.sin(right)], [0, 1, 0], [np.sin(right), 0, np.cos(right)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(above), -np.sin(above)], [0, np.sin(above), np.cos(above)]])
    middle = (points.min(0) + points.max(0)) / 2
    own = (points - middle) @ (about_x @ about_y).T
    own = own / max(float(np.linalg.norm(own, axis=1).max()), 1e-9) * [1, -1, -1] + [0, 0, 4]  # the rasteriser's frame
    fine = 2 * SIDE
    seen = rasterise(own, faces, (1.85 * fine, 1.85 * fine, fine / 2, fine / 2), (fine, fine))
    corners = own[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    on = seen.face >= 0
    picture = np.full((fine, fine, 3), PAPER, np.uint8)
    picture[on] = np.array(COLOUR) * (0.3 + 0.7 * np.abs(normals @ LIGHT)[seen.face[on]])[:, None]
    picture[_ends(seen.depth)] //= 3
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _ends(depth_HW: np.ndarray) -> np.ndarray:
    """bool [H,W]: where a surface ends before what lies behind it, one pixel wide."""
    depth = np.where(np.isfinite(depth_HW), depth_HW, FAR)
    ends = np.zeros(depth.shape, bool)
    ends[:, :-1] |= np.abs(np.diff(depth, axis=1)) > STEP
    ends[:-1] |= np.abs(np.diff(depth, axis=0)) > STEP
    return ends
