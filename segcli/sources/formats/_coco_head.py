"""What stands once in a COCO file: its categories, its licence and source."""

import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, resolve
from segcli.data.annotations import LARGEST_ID, number, whole
from segcli.data.canonical import FILES
from segcli.fields import declarable
from segcli.sources import reopened
from segcli.sources.images import is_there
from segcli.sources.streamed import Streamed

SIDE = re.compile(r"left|right|(?<![a-z])[lr](?![a-z])")  # in lower case; l and r where no letter is beside them


def categories(
    declared: Mapping[Path, Sequence[Mapping[str, object]]],
    used: Collection[object] | None = None,
    notes: list[str] | None = None,
) -> tuple[Category, ...]:
    """The categories of all files, which must agree: things by id, then stuff by id. An id may be text ("1").

    used: the category ids that annotations name, where they are known: then the root that Roboflow declares beside the
    classes (supercategory none, itself the supercategory of others) is left aside, with a note, unless it is used.
    Raises DataError for ids that are none, two names of one id, and two ids of one name.
    """
    by_id: dict[int, Category] = {}
    every = [entry for entries in declared.values() for entry in entries]
    parents = {
        (parent, number(entry.get("id"))) for entry in every if isinstance(parent := entry.get("supercategory"), str)
    }
    kinds = {str(key) for key in used or ()}
    aside: dict[int, str] = {}
    for path, entries in declared.items():
        for entry in entries:
            key, name = number(entry.get("id")), entry.get("name")
            if key is None or not -LARGEST_ID <= key <= LARGEST_ID or not isinstance(name, str):
                raise DataError(f"{path}: the category {entry!r:.200} needs a whole number as id and a name")
            root = str(entry.get("supercategory")).lower() == "none" and any(
                parent == name and child != key for parent, child in parents
            )
            if used is not None and root and not {str(key), f"{key}.0"} & kinds:
                aside[key] = name
                continue
            one = category(path, key, name, entry)
            before = by_id.setdefault(key, one)
            if before.name != name:
                raise DataError(
                    f"{path}: category {key} is called {name!r} here and {before.name!r} in another of the files"
                )
            if before.thing != one.thing:
                here, there = ("a thing", "stuff") if one.thing else ("stuff", "a thing")
                raise DataError(f"{path}: {name!r} is {here} here and {there} in another of the files (isthing)")
    if notes is not None and by_id:
        notes += [
            f"category {key} ({name}) is left aside: it is the root of the others, and no annotation is of it"
            for key, name in aside.items()
        ]
    ids: dict[str, int] = {}
    for key, one in by_id.items():
        if ids.setdefault(one.name, key) != key:
            raise DataError(
                f"{next(iter(declared))}: the categories {ids[one.name]} and {key} are both called "
                f"{one.name!r}: a dataset declares a category once",
                hint="rename one in the json; if both are one class, give their annotations one category_id",
            )
    return tuple(sorted(by_id.values(), key=lambda c: (not c.thing, c.source_id)))


def category(path: Path, key: int, name: str, entry: Mapping[str, object]) -> Category:
    """One category of the file `path` as COCO declares it. Raises DataError for keypoints and edges that are none."""
    named, drawn = entry.get("keypoints") or [], entry.get("skeleton") or []
    if not isinstance(named, list):
        raise DataError(f"{path}: the keypoints of {name!r} must be a list of names, not {named!r:.80}")
    if not isinstance(drawn, list) or not all(_pair(bone) for bone in drawn):
        raise DataError(f"{path}: the skeleton of {name!r} must be pairs of whole numbers, not {drawn!r:.80}")
    points = tuple(str(name) for name in named)
    skeleton = tuple((a - 1, b - 1) for a, b in drawn)  # COCO counts from 1
    if any(not 0 <= i < len(points) for pair in skeleton for i in pair):
        raise DataError(f"{path}: the skeleton of {name!r} names a keypoint that is not declared")
    if entry.get("isthing", 1) not in (0, 1):
        raise DataError(f"{path}: isthing of {name!r} must be 0 or 1, not {entry['isthing']!r:.80}")
    colour = entry.get("color")
    return Category(
        name=name,
        source_id=key,
        thing=bool(entry.get("isthing", 1)),
        colour=(colour[0], colour[1], colour[2]) if isinstance(colour, list) and len(colour) == 3 else None,
        keypoints=points,
        skeleton=skeleton,
        flip_pairs=flip_pairs(points),
    )


def _pair(bone: object) -> bool:
    return isinstance(bone, list) and len(bone) == 2 and all(whole(end) is not None for end in bone)


def flip_pairs(points: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Positions of the keypoints that change places in a mirror image: whose names differ in left and right alone, in
    any spelling (left_eye, LeftEye, l_eye, eye_L)."""
    names = [name.lower() for name in points]
    swap = {"left": "right", "right": "left", "l": "r", "r": "l"}
    swapped = [SIDE.sub(lambda m: swap[m[0]], name) for name in names]
    return tuple((i, names.index(s)) for i, s in enumerate(swapped) if s in names and i < names.index(s))


def about(data: Mapping[str, object]) -> dict[str, str]:
    """Licence, citation and source, as the file gives them."""
    info = data.get("info")
    info = info if isinstance(info, dict) else {}
    return {
        "licence": _licence(data),
        "citation": str(info.get("description") or ""),
        "source": str(info.get("url") or ""),
    }


def _licence(data: Mapping[str, object]) -> str:
    """The names of the licences that images have; of a single one also where no image names it."""
    images, licences = ([x for x in _list(data.get(key)) if isinstance(x, dict)] for key in ("images", "licenses"))
    used = [one for image in images if isinstance(one := image.get("license"), (int, str))]
    names = (x.get("name") for x in licences if x.get("id") in used or len(licences) == 1)
    return "; ".join(str(name) for name in names if name) or "unknown"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def declared_fields(files: Iterable[Streamed]) -> dict[str, dict[str, object]]:
    """What a dataset declares for the fields of its objects, beside keypoints: the file's own `declared`, and nothing
    more than their names for known fields that annotations have. Raises DataError where it is malformed."""
    out: dict[str, dict[str, object]] = {}
    for one in files:
        given = cast(dict[str, object], one.head).get("declared", {})
        out |= parsed(dict[str, dict[str, object]], given, f"{one.path}: declared")
        for sample in one.samples.values():
            out = {name: {} for name in declarable(sample)} | out
    return out


def side_files(one: Streamed, source: Path, trusted: bool) -> dict[str, Path]:
    """Name -> path of what a file lists as `files` (meshes, tables), which lie in files/ or beside it. Raises DataError
    for one that is missing or lies elsewhere."""
    names = parsed(list[str], cast(dict[str, object], one.head).get("files", []), f"{one.path}: files")
    out: dict[str, Path] = {}
    for name in names:
        places = [source / FILES, source, one.path.parent]
        found = [resolve(place, name, str(one.path), within=source, trusted=trusted) for place in places]
        there = next((path for path in found if is_there(path)), None)
        if there is None:
            raise DataError(f"{one.path}: files: {name!r:.200} is not in {source}")
        out[name] = there
    return out


def copy_side_files(root: Path, out: Path) -> list[str]:
    """Copy a prepared folder's side files. -> their names."""
    found = reopened.side_files(root)
    for name in found:
        target = out / FILES / name
        if not target.exists():  # another split has copied it
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / FILES / name, target)
    return [*found]
