"""Names of classes as people mean them: without blanks that a tool put around them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.data.canonical import Draft, Entry, Record

Reader = Callable[[Sequence[Entry]], Iterator[Record]]  # of a draft


def tidy(draft: Draft) -> None:
    """Strip the names of the classes; those that then are one become one class, which is noted.

    Raises DataError where that would change label maps.
    """
    info = draft.info
    if all(c.name == _plain(c.name) for c in info.categories):
        return
    kept: dict[str, Category] = {}
    merged: dict[int, int] = {}
    for category in info.categories:
        name = _plain(category.name)
        first = kept.setdefault(name, dataclasses.replace(category, name=name))
        if first.source_id != category.source_id:
            merged[category.source_id] = first.source_id
    if merged and (info.semantic or info.panoptic or any(c.keypoints for c in info.categories)):
        twice = next(kept[name] for name in kept if kept[name].source_id in merged.values())
        raise DataError(f"dataset {info.name!r} declares the category {twice.name!r} twice, but for blanks around it")
    listed = ", ".join(repr(c.name) for c in info.categories if c.name != _plain(c.name))
    joined = f"; {len(merged)} of them are thereby a class that is there without" if merged else ""
    draft.notes.append(f"names of classes are read without the blanks around them: {listed}{joined}")
    draft.info = dataclasses.replace(info, categories=tuple(kept.values()))
    if merged:
        draft.records = _merging(draft.records, merged)


def _plain(name: str) -> str:
    return name.strip() or name


def _merging(read: Reader, merged: dict[int, int]) -> Reader:
    def records(entries: Sequence[Entry]) -> Iterator[Record]:
        for record in read(entries):
            for annotation in record.annotations:
                key = annotation.get("category_id")
                if isinstance(key, int):
                    annotation["category_id"] = merged.get(key, key)
            yield record

    return records


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in letter case, blanks, or - and _ alone."""
    seen: dict[str, str] = {}
    out = []
    for name in names:
        key = "".join(name.casefold().replace("-", " ").replace("_", " ").split())
        if key in seen:
            out.append((seen[key], name))
        seen.setdefault(key, name)
    return out
