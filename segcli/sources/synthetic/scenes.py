"""Scenes for pretraining, made by formula: contours of twelve families, none of them an embedded shape, on four kinds
of ground. Nothing is downloaded, and nothing has to be licensed.

1 to 60 objects from 6 pixels to more than the image; some scenes are crowded with one kind that touches; objects of
unlike parts; holes; shadows, shading, blur, noise. Of every object at least 12 pixels and three tenths of its area are
in sight. Masks are right to a quarter of a pixel, to half of one from 96 pixels on: a pixel belongs to the object that
covers at least half of it.

Image `index` of a split depends on (seed, split, index, size) alone, so that it can be drawn when it is needed.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.canonical import Draft, Record
from segcli.sources.synthetic._arrangement import NAMES, Arrangement, arrange
from segcli.sources.synthetic._records import SIDES, SPLITS, Index, in_processes, labelled
from segcli.sources.synthetic._surfaces import GROUNDS

LABEL = 28  # part of every image's random key, so that no other generator draws from the same


def build(*, train: int = 2000, val: int = 200, seed: int = 0, size: int = 256) -> Draft:
    """`train` and `val` images of `size` × `size` pixels. Raises UsageError for numbers out of range."""
    for name, value, low, high in [("train", train, 1, 10**7), ("val", val, 1, 10**6), ("size", size, *SIDES)]:
        if not low <= value <= high:
            raise UsageError(f"scenes: {name} must be {low} to {high}, not {value}")
    if seed < 0:
        raise UsageError(f"scenes: seed must be 0 or more, not {seed}")
    names = [(name, True) for name in NAMES] + [(name, False) for name in GROUNDS]
    info = DatasetInfo(
        name="scenes",
        categories=tuple(Category(name, i + 1, thing=thing) for i, (name, thing) in enumerate(names)),
        splits={"train": train, "val": val},
        licence="CC0-1.0 (made by segcli)",
        source=f"segcli scenes, seed {seed}, size {size}",
        semantic=True,
        panoptic=True,
    )
    splits = {split: Index.numbered(split, count, seed, size) for split, count in (("train", train), ("val", val))}
    return Draft(info, splits, records)


def generate(index: int, split: str, seed: int = 0, size: int = 256) -> Arrangement:
    """Image number `index` (from 0) of a split."""
    return arrange(size, np.random.default_rng([LABEL, seed, SPLITS[split], index]))


def records(entries: Sequence[Index]) -> Iterator[Record]:
    """The records of `entries`, in order."""
    return in_processes(record, entries)


def record(entry: Index) -> Record:
    """One image with its instance, semantic and panoptic labels."""
    scene = generate(entry.number, entry.split, entry.seed, entry.size)
    return labelled(entry.file_name, scene.image, scene.ids, scene.labels, scene.grounds, len(NAMES))
