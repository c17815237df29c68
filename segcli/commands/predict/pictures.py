"""One image's pictures: the overlay, the numbered masks with their legend, and the textures of people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from typing_extensions import TypedDict

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.annotations import crop_rle
from segcli.drawing.overlays import draw
from segcli.drawing.textures import dressed, undressed
from segcli.fields.densepose import DensePose
from segcli.models.rcnn.heads.densepose import DESCRIBED
from segcli.predictions.coco_results import label_map, write_image, write_png
from segcli.predictions.meshes import write_meshes
from segcli.types import Prediction

MOST_NUMBERS = 2**16 - 1  # of mask files
LARGEST_JPEG = 65000  # pixels a side; beyond, overlays are PNG
MOST_DRAWN = 64_000_000  # pixels of an overlay; larger images are drawn smaller


class Meaning(TypedDict, total=False):
    """What a number in a mask file means; label maps have no scores."""

    label: str
    score: float


Legend = dict[str, Meaning]  # by number


def write_pictures(
    prediction: Prediction,
    image: np.ndarray,
    info: DatasetInfo,
    out: Path,
    name: str,
    save: Sequence[str],
    atlas: np.ndarray | None = None,
) -> Legend | None:
    """Write those that are wanted; with an atlas (`drawing.textures.read_atlas`) the overlay is the image with it on
    people. -> the legend, where a mask file was written."""
    write_meshes(prediction, info, out, name, save)
    if "texture" in save:
        _write_textures(prediction, image, out, name)
    if "overlay" in save:
        height, width = prediction.size
        smaller = min(1.0, (MOST_DRAWN / (height * width)) ** 0.5)
        if atlas is not None and prediction.instances is not None:
            picture = dressed(image, DensePose.of(prediction.instances).to("cpu"), atlas)
        else:
            picture = draw(image, prediction, info, width=round(width * smaller) if smaller < 1 else None)
        write_image(overlay_file(out, name, prediction.size), picture)
    numbered = number_masks(prediction, info) if "png" in save else None
    if numbered is None:
        return None
    pixels, meaning = numbered
    write_png(out / "masks" / f"{name}.png", pixels)
    return meaning


def overlay_file(out: Path, name: str, size: tuple[int, int]) -> Path:
    """Where the overlay of an image of `size` (H, W) is written."""
    return out / "overlays" / (name + (".jpg" if max(size) <= LARGEST_JPEG else ".png"))


def texture_files(out: Path, name: str) -> list[Path]:
    """Where the textures of an image's people are written: in the order of the tables."""
    return [out / "textures" / name / f"{i}.png" for i in range(1, DESCRIBED + 1)]


def _write_textures(prediction: Prediction, image: np.ndarray, out: Path, name: str) -> None:
    """An atlas a person of whom something was seen; those of an earlier call go."""
    assert prediction.instances is not None, "models of DensePose find objects"
    people = DensePose.of(prediction.instances).to("cpu")
    for i, file in enumerate(texture_files(out, name)):
        file.unlink(missing_ok=True)
        if i < len(people) and (atlas := undressed(image, people, i)).any():
            write_png(file, atlas)


def number_masks(prediction: Prediction, info: DatasetInfo) -> tuple[np.ndarray, Legend] | None:
    """One number a pixel [H,W] and what each number means; None where a prediction has neither masks nor a map.

    Instances: uint16, their position + 1, better ones over worse ones. Panoptic: uint16, segment ids. Semantic: labels.
    Raises UsageError for more objects than 16 bits can number.
    """
    if prediction.panoptic is not None:
        segments = prediction.panoptic.segments
        _refuse_more(max((s.id for s in segments), default=0))
        meaning = {str(s.id): Meaning(label=info.names[s.label], score=round(s.score, 4)) for s in segments}
        return prediction.panoptic.ids.astype(np.uint16), meaning
    if prediction.semantic is not None:
        present = np.unique(prediction.semantic).tolist()
        return label_map(prediction.semantic, len(info.names)), {
            str(v): Meaning(label=info.names[v]) for v in present if v < len(info.names)
        }
    found = prediction.instances
    if found is None or found.masks is None:
        return None
    assert found.scores is not None
    _refuse_more(len(found))
    pixels = np.zeros(prediction.size, np.uint16)
    rles = found.rles()
    for i in reversed(range(len(found))):
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rles[i]))
        pixels[y : y + h, x : x + w][crop_rle(rles[i], x, y, x + w, y + h)] = i + 1
    entries = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
    return pixels, {str(i): Meaning(label=info.names[v], score=round(s, 4)) for i, (v, s) in enumerate(entries, 1)}


def _refuse_more(number: int) -> None:
    if number > MOST_NUMBERS:
        raise UsageError(f"an image has {number} objects, and --save png numbers {MOST_NUMBERS}", hint="leave png out")
