"""Label maps: a class without a pixel, while many pixels that nothing declares are ignored.

What is wrong: 255 (`ignore_label`, another number where there are many classes) covers areas, was not declared to mean
nothing (prepared.json: masks.ignored), and a class is missing.
Why: 255 may well be that class: scores then leave it out, and are 100 on nothing.
Example: masks of 0 and 255 whose names are "background" and "cell".
Mended: by the owner: prepare again, with `--ignore 255` where it means nothing, or names for the values.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcli.data import views
from segcli.sources.mask_meaning.class_values import is_area, lost
from segcli.sources.mask_meaning.evidence import of_value, spread
from segcli.types import ignore_label


class LostClasses:
    """Counts pixels of maps as they are read; `summary` says at the end what is lost."""

    def __init__(self, names: Sequence[str]):
        self.names, self.ignore = names, ignore_label(len(names))
        self.pixels = np.zeros(self.ignore + 1, np.int64)
        self.ignoring: list[tuple[Path, tuple[int, int]]] = []

    def add(self, path: Path, labels: np.ndarray) -> list[int]:
        """Count a map [H,W] of labels read from `path`; -> its values, sorted."""
        counts = np.bincount(labels.ravel(), minlength=len(self.pixels))
        self.pixels += counts
        if counts[self.ignore]:
            self.ignoring.append((path, (labels.shape[0], labels.shape[1])))
        values: list[int] = np.flatnonzero(counts).tolist()
        return values

    def summary(self) -> str | None:
        """What is lost, for a person; None where nothing is."""
        present = {name for name, number in zip(self.names, self.pixels, strict=False) if number}
        missing = [name for name in self.names if name not in present]
        if not missing or not self.ignoring or not lost(present, set(self.names), True):
            return None
        if not lost(present, set(self.names), self._area()):
            return None
        share = self.pixels[self.ignore] / self.pixels.sum()
        return f"{', '.join(missing[:4])}: no pixel, and {self.ignore} on {share:.2%} of all pixels"

    def _area(self) -> bool:
        """Whether what is ignored covers more than borders, in a sample of the maps that have it."""
        parts = []
        for path, size in spread(self.ignoring):
            labels = views.read_semantic(path, size, len(self.names))
            parts.append((*of_value(labels, self.ignore), int((labels == self.ignore).sum())))
        total = sum(number for _, _, number in parts)
        return is_area(*(sum(part[k] * part[2] for part in parts) / total for k in (0, 1)))
