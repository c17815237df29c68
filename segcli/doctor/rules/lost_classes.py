"""The doctor's rule on label maps: a class without a pixel while areas of 255, which nothing declares, abound.

255 stands for `ignore_label`, which is another number where there are many classes. Where it was not declared to mean
nothing (prepared.json: masks.ignored), it may well be the class that is missing: scores then leave it out, and are 100
on nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcli.data import views
from segcli.sources.mask_meaning.class_values import is_area, lost
from segcli.sources.mask_meaning.evidence import of_value, spread
from segcli.types import ignore_label


class LostClasses:
    """Counts pixels of maps as they are read; `found` says at the end what is lost."""

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

    def found(self) -> str | None:
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
