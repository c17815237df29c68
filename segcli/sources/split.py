"""Which image belongs to which split: as the source says, by a file of names, or drawn by a rule that is written down.

Drawn splits keep together what belongs together: images that look alike (see near_duplicates.py), and with --split-by
those that share a key. `--split-by class` balances the classes over the splits.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.errors import DataError, UsageError
from segcli.core.formatting import count
from segcli.data.canonical import UNDECIDED, Draft, Entry, Record
from segcli.data.image import read_image
from segcli.data.near_duplicates import groups as look_alikes
from segcli.data.near_duplicates import thumbnail
from segcli.data.split_file import named_images
from segcli.sources.files import some

DEFAULT_SPLIT = "train=0.8,val=0.2"
FEW = 5  # val images below which a score is one of a few pictures
RULES = "class, folder, a field of the images, or a pattern such as '(.+)_[0-9]+'"


def is_file(split_by: str | Path) -> bool:
    """Whether --split-by names a file: one that is there, or a name that ends like one."""
    return Path(split_by).is_file() or Path(split_by).suffix.lower() in (".txt", ".csv", ".lst", ".list")


def assign_splits(draft: Draft, split: str | None, split_by: str | Path | None, seed: int) -> dict[str, list[Entry]]:
    """split -> entries: by the text file or the rule `split_by`, by the shares `split`, else as the source has it.

    A source with train and val keeps them, unless `split` or a rule is given; of any other, what is not val or test is
    divided by DEFAULT_SPLIT. What was done is added to the draft's notes. Raises UsageError and DataError.
    """
    everything = [entry for entries in draft.splits.values() for entry in entries]
    if split_by is not None and is_file(split_by):
        return _by_file(draft, everything, Path(split_by))
    rule = None if split_by is None else str(split_by)
    asked = split is not None or rule is not None
    if not asked and {"train", "val"} <= draft.splits.keys() and UNDECIDED not in draft.splits:
        return draft.splits
    fixed = {} if asked else {name: part for name, part in draft.splits.items() if name in ("val", "test")}
    pool = [entry for name, part in draft.splits.items() if name not in fixed for entry in part]
    if not pool:
        fixed, pool = {}, everything
    if "val" in fixed:
        return {"train": pool, **fixed}
    shares = parse_split(split or DEFAULT_SPLIT)
    names = [entry.file_name for entry in pool]
    together, counts, notes = _constraints(draft, pool, rule, len(shares))
    try:
        if all(len(group) == 1 for group in together) and counts is None:
            drawn = draw_split(names, shares, seed)
        else:
            drawn = draw_groups(names, together, shares, seed, counts)
    except DataError as error:
        raise DataError(f"{draft.info.name}: {error}", hint=error.hint) from None
    if (held := len(drawn.get("val", ()))) and held < FEW and not split:
        few = f"{count(held, 'image')} in val: their scores say little, and --split train=0.5,val=0.5 gives it more"
        notes = [*notes, few]
    draft.notes.append("; ".join([f"split at random ({split or DEFAULT_SPLIT}, seed {seed})", *notes]))
    return {**{name: [pool[i] for i in part] for name, part in drawn.items()}, **fixed}


def parse_split(text: str) -> dict[str, float]:
    """Shares by split name, of text like DEFAULT_SPLIT. Raises UsageError for anything else or another sum than 1."""
    hint = f"for example --split {DEFAULT_SPLIT}"
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not re.fullmatch(r"\w+", name) or not 0 < share <= 1:
            raise UsageError(f"--split {text}: {part.strip()!r} is not NAME=SHARE", hint=hint)
        shares[name] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"--split {text}: the shares add up to {sum(shares.values()):g}, not to 1", hint=hint)
    return shares


def draw_split(file_names: list[str], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Split positions at random, each split in the order given; depends on names and seed, not on the listing's order.

    Every split gets at least one image. Raises DataError where there are too few.
    """
    if len(file_names) < len(shares):
        raise DataError(
            f"{len(file_names)} images can't be divided into {len(shares)} splits ({', '.join(shares)})",
            hint="--split train=1 leaves them together",
        )
    order = sorted(range(len(file_names)), key=lambda i: file_names[i])
    shuffled = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    names = list(shares)
    counts = {name: max(1, round(shares[name] * len(order))) for name in names[1:]}
    counts = {names[0]: len(order) - sum(counts.values()), **counts}
    largest = max(counts, key=lambda name: counts[name])
    if counts[names[0]] < 1:
        counts[largest] += counts[names[0]] - 1
        counts[names[0]] = 1
    out, start = {}, 0
    for name in names:
        out[name] = sorted(shuffled[start : start + counts[name]])
        start += counts[name]
    return out


def draw_groups(
    file_names: list[str],
    together: Sequence[Sequence[int]],
    shares: Mapping[str, float],
    seed: int,
    counts: np.ndarray | None = None,
) -> dict[str, list[int]]:
    """Like `draw_split`, with the positions of each group of `together` (which hold every position once) in one split.

    counts: float [N,C], objects of each class on each image: then classes are spread by the shares, too, the rarest
    first (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, 2011). Large groups go first.
    Raises DataError where there are fewer groups than splits.
    """
    if len(together) < len(shares):
        raise DataError(
            f"{len(file_names)} images in {len(together)} groups that stay together can't be divided into "
            f"{len(shares)} splits ({', '.join(shares)})",
            hint="name the val images in a file and give --split-by FILE",
        )
    ordered = sorted(together, key=lambda group: min(file_names[i] for i in group))
    ordered = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    sizes = np.array([len(group) for group in ordered])
    classes = np.zeros((len(ordered), 0)) if counts is None else np.stack([counts[list(g)].sum(0) for g in ordered])
    share = np.array([*shares.values()])
    want, want_images = share[:, None] * classes.sum(0), share * len(file_names)  # what each split still lacks
    assigned, remaining, filled = np.full(len(ordered), -1), len(ordered), [False] * len(share)
    while remaining:
        open_ = assigned < 0
        left = np.where(open_[:, None], classes, 0).sum(0)
        rarest = int(np.where(left > 0, left, np.inf).argmin()) if left.any() else None
        holders = np.flatnonzero(open_ if rarest is None else open_ & (classes[:, rarest] > 0))
        for i in holders[np.argsort(-sizes[holders], kind="stable")]:
            empty = [s for s, has in enumerate(filled) if not has]
            allowed = empty if len(empty) == remaining else range(len(share))  # every split gets a group
            need = want_images / share if rarest is None else want[:, rarest] / share
            best = max(allowed, key=lambda s: (round(need[s], 9), want_images[s] / share[s]))
            assigned[i], filled[best], remaining = best, True, remaining - 1
            want[best] -= classes[i]
            want_images[best] -= sizes[i]
    return {
        name: sorted(position for i in np.flatnonzero(assigned == s) for position in ordered[i])
        for s, name in enumerate(shares)
    }


def _by_file(draft: Draft, everything: list[Entry], path: Path) -> dict[str, list[Entry]]:
    if not path.is_file():
        raise UsageError(f"--split-by {path}: there is no such file", hint="a text file, one val image a line")
    chosen = named_images(path, [entry.file_name for entry in everything])
    draft.notes.append(f"split by {path.name}: {len(chosen)} val images")
    parts: dict[str, list[Entry]] = {"train": [], "val": []}
    for i, entry in enumerate(everything):
        parts["val" if i in chosen else "train"].append(entry)
    if not parts["train"]:
        raise DataError(f"{path}: names every image, none is left for train")
    return parts


def _constraints(
    draft: Draft, pool: list[Entry], rule: str | None, splits: int
) -> tuple[list[list[int]], np.ndarray | None, list[str]]:
    """(groups of positions that stay together, objects by image and class where they are to be spread, notes)."""
    names = [entry.file_name for entry in pool]
    keys: Sequence[Hashable] = [*range(len(pool))]
    counts, notes = None, []
    if rule == "class":
        ids = {source: i for i, source in enumerate(draft.info.source_ids)}
        counts = np.zeros((len(pool), len(ids)))
        for i, record in enumerate(_records(draft, pool)):
            for annotation in record.annotations:
                if annotation.get("category_id") in ids:
                    counts[i, ids[annotation["category_id"]]] += 1
        if not counts.any():
            raise UsageError("--split-by class: no image has an object", hint="leave it out: images are then drawn")
        notes.append("classes spread evenly")
    elif rule is not None:
        keys = _keys(draft, pool, names, rule)
        notes.append(f"{len(set(keys))} groups by {rule!r} kept together")
    alike = look_alikes([_thumbnail(draft, entry) for entry in pool])
    together = _joined(keys, alike)
    if len(together) < splits <= len(set(keys)):  # a camera that stands still: better divided than refused
        notes.append("nearly all images look alike, so that look-alikes are in several splits: scores will be too high")
        return _joined(keys, []), counts, notes
    if alike:
        notes.append(f"{sum(map(len, alike))} near-duplicate images in {len(alike)} groups kept together")
    return together, counts, notes


def _keys(draft: Draft, pool: list[Entry], names: list[str], rule: str) -> Sequence[Hashable]:
    """What each image is grouped by. Raises UsageError where the rule says nothing about some of them."""
    if rule == "folder":
        return [str(PurePosixPath(name).parent) for name in names]
    if re.fullmatch(r"\w+", rule):
        found: Sequence[object] = [record.extra.get(rule) for record in _records(draft, pool)]
        found = [None if value is None else str(value) for value in found]
    else:
        try:
            matches = [re.search(rule, name) for name in names]
        except re.error as error:
            raise UsageError(f"--split-by {rule}: neither a file nor a pattern: {error}", hint=RULES) from None
        found = [None if m is None else m[1] if m.re.groups else m[0] for m in matches]
    without = [name for name, key in zip(names, found, strict=True) if key is None]
    if without:
        raise UsageError(
            f"--split-by {rule}: {len(without)} images have no such key: {some(without, 3)}", hint=f"it can be {RULES}"
        )
    return found


def _records(draft: Draft, pool: list[Entry]) -> list[Record]:
    """Every image's labels, read for the split alone: what reading notes is noted when they are written."""
    before = len(draft.notes)
    out = []
    for record in draft.records(pool):
        slim: list[Annotation] = [
            {"category_id": a["category_id"]} for a in record.annotations if a.get("category_id") is not None
        ]
        out.append(Record(record.file_name, record.size, b"", slim, extra=record.extra))
    del draft.notes[before:]
    return out


def _thumbnail(draft: Draft, entry: Entry) -> np.ndarray:
    """What look-alikes are found by; an image that can't be read is like no other (the doctor names it)."""
    nothing, given = np.zeros((1, 1, 3), np.uint8), draft.info.value_range
    try:
        image = nothing if draft.image_root is None else read_image(draft.image_root / entry.file_name, given)
    except DataError:
        image = nothing
    return thumbnail(image)


def _joined(keys: Sequence[Hashable], alike: list[list[int]]) -> list[list[int]]:
    """Groups of positions: those of one key, joined wherever images of two groups look alike."""
    parent = {key: key for key in keys}

    def root(key: Hashable) -> Hashable:
        while parent[key] != key:
            key = parent[key]
        return key

    for group in alike:
        for i in group[1:]:
            parent[root(keys[i])] = root(keys[group[0]])
    out: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        out.setdefault(root(key), []).append(i)
    return [*out.values()]
