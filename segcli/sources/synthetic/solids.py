"""The embedded 3D data: solids of known shape and pose in front of clutter, for Mesh R-CNN. Nothing is downloaded.

Ten models each of ten procedural families (blocks, tables, chairs, benches, stairs, crosses, cylinders, cones, vases,
rings), or every mesh file of a folder. One to three of them stand upright in an image, seen from up to 43 degrees
above, lit and textured, cast a shadow and hide one another; a bar lies before some. One class, `solid`: a model that
was trained on some can so be scored on any others. Each annotation has its `mesh` (fields/mesh.py), whose file lies in
files/meshes/, its family or folder as `family`, and the `visible` share of it. Depth and voxels follow from mesh, pose
and camera (meshes/raster.py, meshes/surface.py).

Image `index` of a split depends on (seed, split, index, size) and the models alone.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.data.canonical import Draft, Record
from segcli.data.png import encode_png
from segcli.meshes.files import SUFFIXES, obj_text, read_mesh
from segcli.sources.split import parse_split
from segcli.sources.synthetic._bodies import REACH, SPOTS, annotated, camera_of, place, seen_enough
from segcli.sources.synthetic._families import FAMILIES, HELD_OUT, made
from segcli.sources.synthetic._records import SIDES, SPLITS, divided, in_processes
from segcli.sources.synthetic._render import Body, render, texture, turn

USUAL = tuple(name for name in FAMILIES if name not in HELD_OUT)
EACH = 10  # models of a family
VIEWS = 40  # images for each mesh of a folder, where there are few
TRIES = 50
DOWN = np.diag([1.0, -1, -1])  # from a file's frame (y up, z to the viewer) to the camera's


class Model(NamedTuple):
    """One mesh that scenes show, in its file's frame; name: its side file's."""

    name: str
    family: str
    vertices: np.ndarray
    faces: np.ndarray


class Index(NamedTuple):
    """One image to be made; families or a folder's files say which models it shows."""

    file_name: str
    number: int
    split: str
    seed: int
    size: int
    families: tuple[str, ...]
    files: tuple[Path, ...]


def build(
    *,
    train: int = 1000,
    val: int = 200,
    seed: int = 0,
    size: int = 160,
    families: Sequence[str] | None = None,
    source: Path | None = None,
    split: str | None = None,
) -> Draft:
    """`train` and `val` images of `size` × `size` pixels. families: of the procedural solids, None = USUAL. source: a
    folder of mesh files, or one, instead; with few of them, VIEWS images each. split: shares of all images, such as
    "val=1.0".

    Raises UsageError for numbers out of range, unknown families, and families beside a source; DataError for mesh
    files that can't be used.
    """
    for name, value, low, high in [("train", train, 0, 10**6), ("val", val, 0, 10**6), ("size", size, *SIDES)]:
        if not low <= value <= high:
            raise UsageError(f"solids: {name} must be {low} to {high}, not {value}")
    if seed < 0 or train + val < 1:
        raise UsageError(f"solids: seed must be 0 or more, and an image must be made, not {seed}, {train + val}")
    if families is not None and not families:
        raise UsageError("solids: families names none", hint="families: " + ", ".join(FAMILIES))
    if families is not None and source is not None:
        raise UsageError("solids: families are of the procedural solids, and source shows others", hint="leave one out")
    files = () if source is None else _files(Path(source))
    notes: list[str] = []
    shown = USUAL if families is None else tuple(families)
    pool = models(shown, files, seed, notes)
    if source is not None:
        total = min(train + val, VIEWS * len(pool))
        train, val = round(total * train / (train + val)), total - round(total * train / (train + val))
    entries = {
        part: [Index(f"{part}/{i + 1:06d}.png", i, part, seed, size, shown, files) for i in range(count)]
        for part, count in (("train", train), ("val", val))
        if count
    }
    info = DatasetInfo(
        name="solids",
        categories=(Category("solid", 1),),
        splits={},
        licence="CC0-1.0 (made by segcli)" if source is None else "that of the meshes",
        source=f"segcli solids, seed {seed}, size {size}",
        declared={"mesh": {}},
    )
    draft = Draft(info, entries if split is None else divided(entries, parse_split(split)), records, notes=notes)
    draft.files = {model.name: obj_text(model.vertices, model.faces).encode() for model in pool}
    return draft


def records(entries: Sequence[Index]) -> Iterator[Record]:
    """The records of `entries`, in order."""
    return in_processes(record, entries)


def record(entry: Index) -> Record:
    """One image with its labels."""
    pool = _pool(entry.families, entry.files, entry.seed)
    rng = np.random.default_rng([entry.seed, SPLITS[entry.split], entry.number])
    for _ in range(TRIES):
        camera, count = camera_of(entry.size, rng), int(rng.integers(1, 4))
        chosen = [pool[i] for i in rng.integers(len(pool), size=count)]
        bodies, poses = [], []
        for model, spot in zip(chosen, SPOTS[count], strict=True):
            roll, pitch, yaw = rng.normal(0, 0.06), rng.uniform(0.05, 0.75), rng.uniform(0, 2 * np.pi)
            rotation = turn(2, roll) @ turn(0, pitch) @ turn(1, yaw) @ DOWN
            low, high = model.vertices.min(0), model.vertices.max(0)
            own = model.vertices - (low + high) / 2
            scale, shift = place(own @ rotation.T, spot, rng.uniform(*REACH[count]), camera, rng)
            poses.append((rotation, scale, shift - scale * rotation @ ((low + high) / 2)))
            bodies.append(_body(own / (high - low).max(), own @ rotation.T * scale + shift, model.faces, rng))
        picture = render(bodies, camera, entry.size, rng)
        if seen_enough(picture) and all(body.vertices[:, 2].min() > 0.1 for body in bodies):
            break
    else:
        raise DataError(f"solids: no scene of image {entry.file_name} shows its solids", hint="another --seed")
    annotations: list[Annotation] = []
    for i, (model, (rotation, scale, shift)) in enumerate(zip(chosen, poses, strict=True)):
        own_mesh: Mapping[str, object] = {
            "file": model.name,
            "rotation": rotation.ravel().tolist(),  # not rounded: a mesh may be large, and far from its origin
            "scale": scale,
            "shift": shift.tolist(),
            "camera": list(camera),
        }
        own_label = annotated(picture.owner == i, 1, int(picture.whole[i]))
        annotations.append({**own_label, "family": model.family, "mesh": own_mesh})  # type: ignore[typeddict-unknown-key]
    return Record(entry.file_name, picture.owner.shape, encode_png(picture.image, level=1), annotations)


def models(families: tuple[str, ...], files: tuple[Path, ...], seed: int, notes: list[str]) -> list[Model]:
    """Every mesh that scenes show. What was mended is noted. Raises DataError for a file that can't be used."""
    if not files:
        rng = np.random.default_rng([seed, 7])
        return [Model(f"meshes/{f}_{k:02d}.obj", f, *made(f, rng)) for f in families for k in range(EACH)]
    top, out = files[0].parent if len(files) == 1 else _common(files), list[Model]()
    for file in files:
        read = read_mesh(file)
        notes += [note for note in read.notes if note not in notes]
        inner = file.relative_to(top)
        name = Path("meshes") / inner.with_suffix(".obj")
        if any(model.name == name.as_posix() for model in out):
            raise DataError(f"{file}: another mesh beside it differs in its suffix alone", hint="rename one")
        family = inner.parts[0] if len(inner.parts) > 1 else top.name
        out.append(Model(name.as_posix(), family, read.vertices, read.faces))
    return out


@functools.lru_cache(maxsize=4)
def _pool(families: tuple[str, ...], files: tuple[Path, ...], seed: int) -> list[Model]:
    return models(families, files, seed, [])


def _common(files: Sequence[Path]) -> Path:
    """The folder that all files lie in."""
    top = files[0].parent
    while not all(file.is_relative_to(top) for file in files):
        top = top.parent
    return top


def _files(source: Path) -> tuple[Path, ...]:
    """The mesh files of a folder and those in it; links are not followed. Raises DataError where there are none."""
    if source.is_file():
        return (source,)
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.is_symlink())
    if not found:
        raise DataError(f"--source {source}: no mesh file is there", hint="such as " + ", ".join(SUFFIXES))
    return tuple(found)


def _body(own: np.ndarray, seen: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Body:
    """A solid with a texture of its own. own: vertices of a body of size 1; seen: the same before the camera."""
    seed = int(rng.integers(2**31))

    def paint(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return texture((own[faces[face]] * weights[..., None]).sum(1), np.random.default_rng(seed))

    return Body(seen, faces, paint)
