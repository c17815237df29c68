"""Stored semantic and panoptic maps, read by the reader's own rules.

What is wrong: a map is missing, has another size than its image, or values that nothing declares; the panoptic json
and its PNG disagree; every pixel is ignored.
Why: such an image can't be trained on, or teaches nothing.
Example: value 19 in a map of 19 classes, which are 0 to 18.
Mended: `--fix` ignores undeclared values, makes undeclared segments void, and keeps nothing of a map that does not fit.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from segcli.core.coco_json import ImageEntry, PanopticEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import resolve
from segcli.data import annotations as coco_file
from segcli.data import canonical, views
from segcli.data.findings import Item
from segcli.doctor.rules.images import Note
from segcli.doctor.rules.lost_classes import LostClasses
from segcli.types import ignore_label


def check_maps(
    root: Path,
    info: DatasetInfo,
    split: str,
    images: Iterable[ImageEntry],
    note: Note,
    shows: Counter[str],
    maps: LostClasses,
    *,
    trusted: bool,
) -> None:
    """Look at the maps of a split's images. note: takes (code, item); shows: how many images show each class, counted
    here where the dataset has maps alone; maps: takes each map's values; trusted: maps may lie anywhere."""
    place = lambda kind, name: resolve(root / kind / split, name, f"{kind}/{split}", within=root, trusted=trusted)
    entries: dict[int, PanopticEntry] | None = None
    if info.panoptic:
        try:
            entries = coco_file.panoptic_entries(root / "panoptic" / f"{split}.json")
        except DataError as error:
            note("annotation_file", Item(split, detail=str(error)))
    labels = {source: label for label, source in enumerate(info.source_ids)}
    for image in images:
        name, size = image["file_name"], (image["height"], image["width"])
        try:
            if info.semantic:
                path = place("semantic", canonical.label_name(image))
                values = maps.add(path, views.read_semantic(path, size, len(info.names)))
                shown = [info.names[v] for v in values if v != ignore_label(len(info.names))]
                if not info.num_things:
                    shows.update(shown)
                if not shown:
                    note("all_ignored", Item(split, name))
            if entries is not None and image["id"] in entries:
                entry = entries[image["id"]]
                path = place("panoptic", entry["file_name"])
                views.read_panoptic(path, entry["segments_info"], size, labels)
            elif entries is not None:
                note("label_map", Item(split, name, detail="no entry in the panoptic json"))
        except (DataError, KeyError, TypeError) as error:
            note("label_map", Item(split, name, detail=str(error)))
