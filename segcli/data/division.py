"""Which image belongs to which split: as the source says, by a file of names, or at random."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segcli.data.canonical import UNDECIDED, Draft
from segcli.data.split_file import named_images
from segcli.errors import DataError, UsageError

DEFAULT_SPLIT = "train=0.8,val=0.2"


def divide(draft: Draft, split: str | None, split_by: str | Path | None, seed: int) -> dict[str, list[Any]]:
    """split -> entries: by the text file `split_by`, by the shares `split`, else as the source has it.

    A source with train and val keeps them; of any other, what is not val or test is divided by DEFAULT_SPLIT. The rule
    that was followed is added to the draft's notes. Raises UsageError and DataError.
    """
    everything = [entry for entries in draft.splits.values() for entry in entries]
    if split_by is not None:
        path = Path(split_by)
        if not path.is_file():
            raise UsageError(f"--split-by {split_by}: there is no such file", hint="a text file, one val image a line")
        chosen = named_images(path, [entry.file_name for entry in everything])
        draft.notes.append(f"split by {path.name}: {len(chosen)} val images")
        parts: dict[str, list[Any]] = {"train": [], "val": []}
        for i, entry in enumerate(everything):
            parts["val" if i in chosen else "train"].append(entry)
        if not parts["train"]:
            raise DataError(f"{path}: names every image, none is left for train")
        return parts
    if split is None and {"train", "val"} <= draft.splits.keys() and UNDECIDED not in draft.splits:
        return draft.splits
    fixed = {} if split is not None else {name: part for name, part in draft.splits.items() if name in ("val", "test")}
    pool = [entry for name, part in draft.splits.items() if name not in fixed for entry in part]
    if not pool:
        fixed, pool = {}, everything
    if "val" in fixed:
        return {"train": pool, **fixed}
    drawn = draw_split([entry.file_name for entry in pool], parse_split(split or DEFAULT_SPLIT), seed)
    draft.notes.append(f"split at random ({split or DEFAULT_SPLIT}, seed {seed})")
    return {**{name: [pool[i] for i in part] for name, part in drawn.items()}, **fixed}


def parse_split(text: str) -> dict[str, float]:
    """Shares by split name, of text like DEFAULT_SPLIT. Raises UsageError for anything else or another sum than 1."""
    hint = f"for example --split {DEFAULT_SPLIT}"
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, sign, value = part.strip().partition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            raise UsageError(f"--split {text}: {part.strip()!r} is not NAME=SHARE", hint=hint) from None
        if not sign or not re.fullmatch(r"\w+", name) or not 0 < shares[name] <= 1:
            raise UsageError(f"--split {text}: {part.strip()!r} is not NAME=SHARE", hint=hint)
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"--split {text}: the shares add up to {sum(shares.values()):g}, not to 1", hint=hint)
    return shares


def draw_split(file_names: list[str], shares: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Split positions at random, each split in the order given; depends on names and seed, not on the listing's order.

    Every split gets at least one image. Raises DataError where there are too few.
    """
    if len(file_names) < len(shares):
        raise DataError(f"{len(file_names)} images can't be divided into {len(shares)} splits ({', '.join(shares)})")
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
