"""Classes as a whole: how many objects each has, in which split, and which objects are unusual for theirs.

What is wrong: a class is declared and never used, is missing from train or val, is a hundred times as frequent as
another, or has nearly another's name; an object is far smaller or larger than others of its class; an image has far
more or fewer of them.
Why: a class without objects in train can't be learned, one without objects in val is not scored; what is unusual is
often a slip of the annotator.
Example: 40 objects of "Cat" beside 4,000 of "cat"; a person of 3 pixels among persons of 30,000.
Mended: by the owner; `--fix` can't know what was meant.
"""

from array import array
from collections import Counter, defaultdict

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.data.findings import Item
from segcli.doctor.rules.crowds import crowds_alone, many_crowds
from segcli.doctor.rules.images import Note
from segcli.sources import class_names

IMBALANCE = 100  # times as many objects in the most as in the least frequent class
FEWEST = 30  # objects of a class, or images that show it, from which on one can say what is usual
DEVIATIONS = 8  # robust standard deviations of the logarithm that an unusual value is away
TIMES = 20.0  # and how many times as large or small as the median it is, at least
SPREAD = 0.25  # least standard deviation of a logarithm: in classes that all look the same nothing may deviate either


class Classes:
    """Objects by split and class. Of each only its size and place are held. note: takes (code, item)."""

    def __init__(self, info: DatasetInfo, note: Note):
        self.info, self.note = info, note
        self.things = [c.name for c in info.categories if c.thing or not info.num_things]
        self.singles: dict[str, Counter[str]] = defaultdict(Counter)  # split -> objects, or images of a map, by class
        self.crowds: dict[str, Counter[str]] = defaultdict(Counter)
        self.usable: Counter[str] = Counter()  # split -> objects that can be trained on
        self.files: list[tuple[str, str]] = []  # (split, file name) of each image that was examined
        self.shares: dict[str, array[float]] = defaultdict(lambda: array("f"))  # class -> share of the image
        self.places: dict[str, tuple[array[int], list[int | None]]] = defaultdict(lambda: (array("l"), []))  # image, id

    def image(self, split: str, name: str) -> None:
        """The objects that follow are of this image."""
        self.files.append((split, name))

    def add(self, split: str, name: str, annotation: Annotation, area: float | None, pixels: int) -> None:
        """An annotation of the class `name`. area: of its mask or box in pixels, 0 where it covers nothing, None where
        it is broken; pixels: of its image."""
        if annotation.get("iscrowd"):
            self.crowds[split][name] += 1
            return
        self.singles[split][name] += 1
        if area:
            self.usable[split] += 1
            self.shares[name].append(area / pixels)
            images, keys = self.places[name]
            images.append(len(self.files) - 1)
            keys.append(key if isinstance(key := annotation.get("id"), int) else None)

    def report(self) -> None:
        """Note what takes all splits to know."""
        ids = self.info.source_ids
        if sorted(ids) != list(range(1, len(ids) + 1)):
            self.note("category_gap", Item(detail=f"{len(ids)} ids from {min(ids)} to {max(ids)}"))
        for one, other in class_names.alike(self.info.names):
            self.note("names_alike", Item(detail=f"{one!r} and {other!r}"))
        self._frequencies()
        self._crowds()
        for name in self.things:
            self._areas(name)
            self._counts(name)

    def _frequencies(self) -> None:
        """How often each class is used: by objects; where there are maps alone, by the images that show it."""
        both = {split: self.singles[split] + self.crowds[split] for split in {*self.singles, *self.crowds}}
        total = sum(both.values(), Counter[str]())
        for name in self.things:
            if not total[name]:
                self.note("unused_category", Item(detail=name))
                continue
            for split in ("train", "val"):
                if split not in both or self.singles[split][name]:
                    continue
                if crowds := self.crowds[split][name]:
                    detail = f"{name} ({crowds} crowd regions, and no object)"
                else:
                    detail = f"{name} ({total[name]} elsewhere)"
                self.note("split_lacks_category", Item(split, detail=detail))
        used = [(total[name], name) for name in self.things if total[name]]
        if used and max(used)[0] >= IMBALANCE * min(used)[0]:
            (most, first), (least, last) = max(used), min(used)
            self.note("imbalance", Item(detail=f"{most} of {first}, {least} of {last}"))

    def _crowds(self) -> None:
        crowds, singles = (sum(one.values(), Counter[str]()) for one in (self.crowds, self.singles))
        for name in crowds_alone(crowds, singles):
            self.note("crowds_alone", Item(detail=f"{name}: all of its {crowds[name]:,} objects"))
        for name in many_crowds(crowds, singles):
            self.note(
                "many_crowds", Item(detail=f"{name}: {crowds[name]:,} of {crowds[name] + singles[name]:,} objects")
            )

    def _areas(self, name: str) -> None:
        shares = np.array(self.shares[name], np.float64)
        images, keys = self.places[name]
        usual = float(np.median(shares)) if len(shares) else 0.0
        for i in unusual(shares):
            split, file = self.files[images[i]]
            detail = f"{name}: {100 * shares[i]:.2g} % of its image; the median is {100 * usual:.2g} %"
            self.note("area_outlier", Item(split, file, keys[i], detail))

    def _counts(self, name: str) -> None:
        images, counts = np.unique(np.array(self.places[name][0], np.int64), return_counts=True)
        for i in unusual(counts.astype(np.float64)):
            split, file = self.files[int(images[i])]
            detail = f"{counts[i]:,} of {name}; the median of the images that show it is {np.median(counts):g}"
            self.note("count_outlier", Item(split, file, detail=detail))


def unusual(values: np.ndarray) -> list[int]:
    """Which of N positive values lie far from the others: DEVIATIONS robust standard deviations of the logarithm, and
    TIMES the median or a part of it. None where there are fewer than FEWEST."""
    if len(values) < FEWEST:
        return []
    logs = np.log(values)
    middle = np.median(logs)
    spread = max(SPREAD, 1.4826 * float(np.median(np.abs(logs - middle))))
    away = np.abs(logs - middle)
    return np.flatnonzero((away > DEVIATIONS * spread) & (away > np.log(TIMES))).tolist()
