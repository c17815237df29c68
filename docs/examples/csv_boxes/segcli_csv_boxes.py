"""A CSV of boxes beside its images: the columns file, x1, y1, x2, y2 (pixels) and class, a row an object."""

import csv
from pathlib import Path

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import resolve
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import image_size
from segcli.sources.draft import Entry, draft, each

COLUMNS = {"file", "x1", "y1", "x2", "y2", "class"}


def detect(path: Path) -> bool:
    """Whether `path` is such a file. Every format is asked, of whatever is given."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return set(csv.DictReader(file).fieldnames or []) >= COLUMNS


def build(*, path: Path, split: str = UNDECIDED, trusted: bool = False) -> Draft:
    """split: of all images; by default `prepare` divides them. trusted: names may lead out of the file's folder."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [*csv.DictReader(file)]
    names = sorted({row["class"] for row in rows})
    of_image: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        of_image.setdefault(row["file"], []).append(row)

    def read(entry: Entry[list[dict[str, str]]]) -> Record:
        annotations = []
        for row in entry.label:
            try:
                x1, y1, x2, y2 = (float(row[key]) for key in ("x1", "y1", "x2", "y2"))
            except (TypeError, ValueError) as error:
                raise DataError(f"{path}: {entry.file_name}: a corner is no number") from error
            annotations.append({"category_id": names.index(row["class"]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
        return Record(entry.file_name, image_size(entry.path), entry.path, annotations)

    images = [(resolve(path.parent, name, str(path), trusted=trusted), label) for name, label in of_image.items()]
    categories = [Category(name, key) for key, name in enumerate(names, start=1)]
    found = [(split, image, label) for image, label in images]
    return draft(path, found, categories, lambda entries: each(entries, read), [])
