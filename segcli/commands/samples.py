"""A dozen images of a prepared folder with their labels on one sheet: whoever looks at it sees in a second what no rule
finds, labels beside their objects or of the wrong class."""

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np

from segcli.core import folders
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.core.tasks import richest_task
from segcli.data import index
from segcli.data.dataset import Dataset
from segcli.doctor.report_cache import SAMPLES
from segcli.drawing.overlays import draw
from segcli.drawing.sheets import cell_width, choose_columns, contact_sheet, legend_of
from segcli.fields import fields_of
from segcli.predictions.coco_results import write_image
from segcli.types import Target

COUNT = 12  # images
WIDTH = 1600  # pixels of the sheet
LARGEST = 5e7  # pixels of an image that is drawn: larger ones take seconds to decode


def write_samples(root: Path) -> Path | None:
    """Draw root/samples.jpg. -> its path; None where it can't be drawn, with a note on stderr: the dataset stands."""
    path = root / SAMPLES
    try:
        write_image(path, sheet(root))
        folders.list_too(root, path)
    except (SegcliError, OSError, ValueError, cv2.error, MemoryError) as error:
        print(f"note: {path}: no samples are drawn: {error}", file=sys.stderr)
        return None
    return path


def sheet(root: Path) -> np.ndarray:
    """The sheet as uint8 RGB [H,W,3]. Raises DataError where the dataset can't be read."""
    info = DatasetInfo.load(root)
    dataset = open_richest(root, info)
    chosen = choose(dataset, info)
    columns = choose_columns([dataset.sizes[i] for i in chosen])
    pictures, captions, targets = [], [], []
    for i in chosen:
        sample = dataset.read(i)
        pictures.append(draw(sample.image, sample.target, info, width=cell_width(WIDTH, columns)))
        targets.append(sample.target)
        captions.append(f"{sample.file_name} · {counts(sample.target, info)}")
    splits = ", ".join(f"{name} {count:,}" for name, count in info.splits.items())
    title = f"{info.name}: {len(chosen)} of {len(dataset):,} images ({splits}) with their labels"
    drawn = contact_sheet(pictures, captions, columns=columns, width=WIDTH, title=title)
    if (strip := legend_of(targets, info, WIDTH)) is not None:
        drawn = np.concatenate([drawn, strip])
    return drawn


def open_richest(
    root: str | Path, info: DatasetInfo, split: str | None = None, split_file: str | Path | None = None
) -> Dataset:
    """A dataset with its richest view: panoptic or semantic maps where it has them, else its objects."""
    return Dataset(root, split, task=richest_task(info), split_file=split_file, fields=fields_of(info))


def choose(dataset: Dataset, info: DatasetInfo) -> list[int]:
    """Up to COUNT images, in order: half of them show as many classes as they can, the others are spread evenly."""
    shown = _classes(dataset, info)
    small = [i for i, (h, w) in enumerate(dataset.sizes) if h * w <= LARGEST] or [0]
    order = np.random.default_rng(0).permutation(small).tolist()
    chosen: list[int] = []
    missing = set().union(*shown)
    while missing and len(chosen) < COUNT // 2:
        best = max(order, key=lambda i: len(shown[i] & missing))
        if not shown[best] & missing:
            break
        chosen.append(best)
        missing -= shown[best]
    for kind in (lambda i: bool(shown[i]), lambda i: not shown[i]):  # those without objects where others are few
        rest = [i for i in small if i not in chosen and kind(i)]
        places = np.linspace(0, len(rest) - 1, min(len(rest), COUNT - len(chosen))).round().astype(int)
        chosen += [rest[place] for place in places.tolist()]
    return sorted(chosen)


def _classes(dataset: Dataset, info: DatasetInfo) -> list[set[int]]:
    """The classes (source ids) that each image has objects of, crowds aside; nothing where there is no index."""
    out: list[set[int]] = []
    for split, count in info.splits.items():
        known = index.load(dataset.root / "annotations" / f"{split}.json")
        if known is None:
            out += [set() for _ in range(count)]
            continue
        single = np.where(known.crowd, -1, known.category)
        bounds = known.first.tolist()
        out += [set(single[a:b].tolist()) - {-1} for a, b in itertools.pairwise(bounds)]
    return out if len(out) == len(dataset) else [set() for _ in range(len(dataset))]


def counts(target: Target, info: DatasetInfo) -> str:
    """`2 cat, 1 dog`; the three most frequent."""
    if target.panoptic is not None:
        return f"{len(target.panoptic.segments)} segments"
    if target.semantic is not None and not len(target.instances):
        return f"{sum(v < len(info.names) for v in target.semantic.unique().tolist())} classes"
    labels, numbers = np.unique(target.instances.labels.numpy(), return_counts=True)
    order = np.argsort(-numbers, kind="stable")
    shown = [f"{numbers[k]} {info.names[labels[k]]}" for k in order[:3]]
    return ", ".join(shown) + (", …" if len(order) > 3 else "") if shown else "no objects"
