"""Mesh files (OBJ, PLY, STL, OFF, GLB) read into triangles, and OBJ files written."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from segcli.core.errors import DataError, UsageError

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb")
MOST_FACES = 2_000_000  # a file of 1.3 million takes 8 seconds and half a gigabyte to read
HINT = "export it again as triangles, or leave the file out"


class Triangles(NamedTuple):
    """vertices float64 [V,3], faces int64 [F,3], as the file has them; notes: what was mended."""

    vertices: np.ndarray
    faces: np.ndarray
    notes: list[str]


class _NoOther(dict[str, bytes]):
    """The other files that a mesh may name: none."""

    def __missing__(self, name: str) -> bytes:
        raise ValueError(f"it names another file, {name:.100}")


def read_mesh(path: Path) -> Triangles:
    """All meshes of a file as one; faces of more corners become triangles, vertices of one place become one, faces
    without area and vertices without a face go. Materials and textures are not looked for: no other file is opened.

    Raises DataError for what can't be read, is empty, flat or not finite, or has more than MOST_FACES faces; UsageError
    where trimesh is not installed.
    """
    try:
        import trimesh
    except ImportError as error:
        raise UsageError(f"{path}: reading meshes needs trimesh", hint="pip install trimesh") from error
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: is no mesh file that is read ({', '.join(SUFFIXES)})")
    try:
        loaded = trimesh.load_mesh(path, process=False, skip_materials=True, resolver=_NoOther())
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    except Exception as error:
        raise DataError(f"{path}: is no mesh: {(str(error).splitlines() or [''])[0]:.200}", hint=HINT) from error
    parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
    parts = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts:
        raise DataError(f"{path}: has no faces", hint=HINT)
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([np.asarray(part.vertices, np.float64) for part in parts])
    faces = np.concatenate([np.asarray(p.faces, np.int64) + s for p, s in zip(parts, starts[:-1], strict=True)])
    return cleaned(vertices, faces, path)


def cleaned(vertices: np.ndarray, faces: np.ndarray, path: Path) -> Triangles:
    """Vertices and faces without what has no place or area. Raises DataError where nothing is left."""
    if len(faces) > MOST_FACES:
        raise DataError(f"{path}: has {len(faces):,} faces, more than {MOST_FACES:,}", hint="simplify it first")
    wrong = faces[(faces < 0) | (faces >= len(vertices))]
    if len(wrong):
        raise DataError(f"{path}: a face names vertex {wrong[0]}, and there are {len(vertices)}", hint=HINT)
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise DataError(f"{path}: a vertex has a coordinate that is not finite", hint=HINT)
    notes = []
    _, first, place = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    merged = first[place.reshape(-1)][faces]
    a, b, c = vertices[merged].transpose(1, 0, 2)
    solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0
    if not solid.any():
        raise DataError(f"{path}: no face has an area", hint=HINT)
    if not solid.all():
        notes.append(f"{path.name}: {int((~solid).sum())} faces without area are left out")
    kept, faces = np.unique(merged[solid], return_inverse=True)
    return Triangles(vertices[kept], faces.reshape(-1, 3).astype(np.int64), notes)


def obj_text(vertices: np.ndarray, faces: np.ndarray) -> str:
    """vertices [V,3], faces [F,3] as the text of an OBJ file; nine digits, so that a mesh far from its origin stays."""
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices.tolist()]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces.tolist()]
    return "\n".join(lines) + "\n"
