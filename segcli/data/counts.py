"""How many images and objects a split has, from the index of its annotation file where there is one."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from segcli.data import annotations, index
from segcli.info import DatasetInfo


def counted(path: Path, info: DatasetInfo) -> dict[str, Any]:
    """{"images", "objects", "crowd", "without_objects", "per_class": {name: count}} of the annotation file `path`.

    Raises DataError where it can't be read.
    """
    names = dict(zip(info.source_ids, info.names, strict=True))
    known = index.load(path)
    if known is not None:
        values, counts = np.unique(known.category, return_counts=True)
        found = {names.get(v, "?"): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}
        images, objects = len(known.images), len(known.category)
        crowd, empty = int(known.crowd.sum()), int((np.diff(known.first) == 0).sum())
    else:
        listed, labels = annotations.load(path)
        found = Counter(names.get(a["category_id"], "?") for a in labels)
        labelled = {a["image_id"] for a in labels}
        images, objects = len(listed), len(labels)
        crowd = sum(bool(a.get("iscrowd")) for a in labels)
        empty = sum(image["id"] not in labelled for image in listed)
    return {
        "images": images,
        "objects": objects,
        "crowd": crowd,
        "without_objects": empty,
        "per_class": {name: found[name] for name in info.names if found.get(name)},
    }
