"""Which images are most worth labelling next: those of which a model is least sure.

Three numbers from 0 to 1 for each image, of which the sum decides:

- entropy: the mean binary entropy of its detections' scores (uncertainty sampling, Lewis and Gale 1994); a half where
  nothing is found at all;
- disagreement: how little the predictions for the image and for its mirror image have in common, 1 - 2 Σ IoU / (n + m)
  over the n and m objects of both (of maps the share of pixels with another class), a committee of two views;
- rarity: the best score of an object, times the share of other classes, each counted once in every image that shows it.

Of images that look alike only the first is taken.
"""

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from segcli.commands.predict.reading import READERS, batches
from segcli.commands.predict.tables import write_csv
from segcli.commands.predict.views import objects_of, overlaps, partners, scores_of, turn_back
from segcli.commands.predictor import Predictor, above
from segcli.data.near_duplicates import ALIKE, thumbnail
from segcli.ops.task_conversion import as_semantic
from segcli.types import Prediction

FILE = "uncertain.csv"
LOWEST = 0.1  # scores below it are no opinion
SEEN = 0.3  # from this score on, both views should have an object


@dataclasses.dataclass
class Doubt:
    """What is known of one image. classes: by label the best score, and once all images are known the rarity;
    thumbnail: see `data.near_duplicates`."""

    file: Path
    entropy: float
    disagreement: float
    classes: dict[int, float]
    thumbnail: np.ndarray
    rarity: float = 0.0

    @property
    def total(self) -> float:
        return self.entropy + self.disagreement + self.rarity

    def why(self, names: Sequence[str]) -> str:
        """The largest of the three, in words."""
        rarest = max(self.classes, key=lambda label: self.classes[label], default=None)
        reasons = {
            "its mirror image gives another prediction": self.disagreement,
            "nothing is found"
            if not self.classes and self.entropy
            else "its scores are neither high nor low": self.entropy,
            f"it may show a rare class, {names[rarest]}" if rarest is not None else "": self.rarity,
        }
        return max(reasons, key=lambda text: reasons[text])


def most_uncertain(
    predictor: Predictor, files: Sequence[Path], count: int, failed: list[tuple[Path, str]], *, progress: bool = True
) -> list[Doubt]:
    """The `count` images most worth labelling, the first most of all. What can't be read goes to `failed`."""
    doubts: list[Doubt] = []
    totals: dict[int, int] = {}
    bar = tqdm(total=len(files), desc="looking", unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(READERS) as readers:
        for ready in batches(predictor, enumerate(files), readers, failed):
            tensors, sizes = [one.tensor() for one in ready], [one.size for one in ready]
            ids = [one.position for one in ready]
            found = predictor.predict(tensors, sizes, ids)
            mirrored = predictor.predict([tensor.flip(-1) for tensor in tensors], sizes, ids)
            for one, prediction, other in zip(ready, found, mirrored, strict=True):
                doubt = _doubt(files[one.position], one.image, prediction, other)
                doubts.append(doubt)
                for label in doubt.classes:
                    totals[label] = totals.get(label, 0) + 1
            bar.update(len(ready))
    everything = sum(totals.values())
    for doubt in doubts:
        rarity = {label: score * (1 - totals[label] / everything) for label, score in doubt.classes.items()}
        doubt.rarity = max(rarity.values(), default=0.0)
        doubt.classes = rarity
    chosen: list[Doubt] = []
    for doubt in sorted(doubts, key=lambda one: -one.total):
        if len(chosen) < count and all(float(doubt.thumbnail @ c.thumbnail) < ALIKE for c in chosen):
            chosen.append(doubt)
    return chosen


def write_reasons(chosen: Iterable[Doubt], out: Path, names: Sequence[str]) -> None:
    """uncertain.csv: a row an image, with its three numbers and the reason in words. Raises SegcliError."""

    def fill(file: TextIO) -> None:
        table = csv.writer(file)
        table.writerow(["image", "sum", "entropy", "disagreement", "rarity", "why"])
        for one in chosen:
            numbers = [f"{v:.3f}" for v in (one.total, one.entropy, one.disagreement, one.rarity)]
            table.writerow([one.file, *numbers, one.why(names)])

    write_csv(out / FILE, fill)


def _doubt(file: Path, image: np.ndarray, found: Prediction, mirrored: Prediction) -> Doubt:
    small = thumbnail(image)
    if found.semantic is not None or found.panoptic is not None:
        here, there = classes_of(found), classes_of(mirrored)[:, ::-1]
        return Doubt(file, 0.0, float(np.mean(here != there)), {}, small)
    for one in (found, mirrored):
        if one.instances is not None:  # keypoints are not compared
            one.instances.fields = {}
    objects = objects_of(above(found, LOWEST))
    p = scores_of(objects).double().numpy().clip(1e-6, 1 - 1e-6)
    entropy = float(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p))) if len(p) else 0.5
    best: dict[int, float] = {}
    for label, score in zip(objects.labels.tolist(), p.tolist(), strict=True):
        best[label] = max(score, best.get(label, 0.0))
    a, b = objects_of(above(found, SEEN)), turn_back(objects_of(above(mirrored, SEEN)), found.size)
    pairs = partners(a, b, found.size)
    common = float(overlaps(a, b)[pairs[:, 0], pairs[:, 1]].sum()) if len(pairs) else 0.0
    disagreement = 1 - 2 * common / (len(a) + len(b)) if len(a) + len(b) else 0.0
    return Doubt(file, entropy, disagreement, best, small)


def classes_of(prediction: Prediction) -> np.ndarray:
    """The class of every pixel [H,W] of a map, -1 where a panoptic one is void."""
    if prediction.panoptic is not None:
        prediction = as_semantic(prediction, ignore=-1)
    assert prediction.semantic is not None
    return prediction.semantic
