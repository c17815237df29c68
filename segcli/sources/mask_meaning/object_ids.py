"""Whether values of mask files that nothing names are object ids, one object a file, or numbers of classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from segcli.core.errors import DataError
from segcli.sources.files import some
from segcli.sources.mask_meaning.evidence import MaskStats, counted

SHARE = 0.1  # of files with several regions, from which on these are no exceptions
SPLIT = 0.2  # of ids with several regions, by occlusion, from which on these are no exceptions
MANY = 40  # values of a folder: more are hardly classes
TIMES = 3  # as many values in the folder as in a file: then they are not the same few in every file


def ids_or_one(where: Path, sample: Sequence[MaskStats], ignore: Sequence[int] = ()) -> Literal["ids", "one"]:
    """Whether every value is an object, or every file is one.

    Raises DataError with both readings and their flags where classes are as likely.
    """
    files = [(mask, sorted(mask.values - set(ignore))) for mask in sample]
    files = [(mask, values) for mask, values in files if values]
    _refuse_background(where, files)
    if all(len(values) == 1 for _, values in files):
        return _one_value(where, files)
    _refuse_border(where, files)
    every = {value for _, values in files for value in values}
    pieces = [number for mask, values in files for value, number in mask.pieces.items() if value in values]
    split = sum(number > 1 for number in pieces) / len(pieces)
    from_one = sum(counted(values) or counted(sorted(mask.values)) for mask, values in files) / len(files)
    mean = sum(len(values) for _, values in files) / len(files)
    varied = len(every) > TIMES * mean or len(every) > MANY
    most = {values[-1] for _, values in files}
    if split <= SPLIT:
        ids = from_one >= 0.8 or varied
    else:
        ids = (split <= 0.5 and from_one >= 0.9 and len(most) > 2 and len(every) > 4) or (varied and len(every) > MANY)
    if not ids:
        raise _unclear(where, files, every, split)
    return "ids"


def _one_value(where: Path, files: list[tuple[MaskStats, list[int]]]) -> Literal["ids", "one"]:
    several = [mask for mask, values in files if mask.pieces[values[0]] > 1]
    every = {values[0] for _, values in files}
    if len(several) > SHARE * len(files):
        first = several[0]
        raise DataError(
            f"{where}: its masks could be one object each, several separate objects, or a class of pixels: "
            f"{first.path.name} has {max(first.pieces.values())} separate regions of the value {max(first.values)}, "
            f"in all {len(several)} of {len(files)} files looked at have several",
            hint="--masks split-components makes every region an object, --masks binary reads a class of pixels, "
            "--masks instances one object a file",
        )
    often = {value for value in every if sum(values[0] == value for _, values in files) > 1}
    if often <= {1, 255} or len(often) == 1 or len(every) > max(2, len(files) / TIMES):
        return "one"
    raise DataError(
        f"{where}: every mask has one value besides 0, in all {value_list(every)}: ids of objects, or numbers of "
        "classes",
        hint="--masks instances reads one object a file, --masks classes classes of pixels (names: classes.txt)",
    )


def _refuse_background(where: Path, files: list[tuple[MaskStats, list[int]]]) -> None:
    """A value but 0 that lies around everything else is a background more often than an object."""
    framed = [mask for mask, values in files if mask.frame in values and mask.frame]
    around = {mask.frame for mask in framed}
    if len(around) != 1 or len(framed) < 0.9 * len(files):
        return
    (value,) = around
    if all(len(values) == 1 for _, values in files):
        what = f"is 0 the object in it, or is {value} an object with a hole?"
        how = "--masks binary reads two classes, a classes.txt with the name of 0 in its first line says which"
    else:
        what = "a background, or an object with holes?"
        how = f"--ignore {value} leaves it out"
    raise DataError(
        f"{where}: the value {value} lies around everything else, in {len(framed)} of {len(files)} files looked at "
        f"({framed[0].path.name}): {what}",
        hint=f"{how}; --masks instances reads it as an object all the same",
    )


def _refuse_border(where: Path, files: list[tuple[MaskStats, list[int]]]) -> None:
    """255 beside ids that count up from 1 marks what is left out in most datasets."""
    bordered = [mask for mask, values in files if len(values) > 1 and values[-1] == 255 and values[-2] < 254]
    rest = [[v for v in values if v != 255] for _, values in files]
    if bordered and all(counted(values) for values in rest if values):
        raise DataError(
            f"{where}: 255 stands beside ids that count up from 1 in {bordered[0].path.name}: an object, or pixels "
            "that are left out",
            hint="--ignore 255 leaves them out, --masks instances reads them as an object",
        )


def _unclear(where: Path, files: list[tuple[MaskStats, list[int]]], every: set[int], split: float) -> DataError:
    mask, values = files[0]
    why = f"{split:.0%} of the values in a file have several separate regions" if split > SPLIT else "they leave gaps"
    return DataError(
        f"{where}: its values {value_list(every)} could be numbers of classes or ids of objects: the same few are in "
        f"many files, and {why} ({mask.path.name}: {value_list(values)})",
        hint="--masks classes reads classes of pixels (names: one a line in classes.txt, from value 0), --masks "
        "instances every value as one object, --masks split-components every separate region as one",
    )


def value_list(values: Iterable[int]) -> str:
    """Values for a message: `1 to 12`, or the first of them."""
    listed = sorted(values)
    if len(listed) > 3 and listed[-1] - listed[0] == len(listed) - 1:
        return f"{listed[0]} to {listed[-1]}"
    return some(listed, 8)
