"""Values that are classes of pixels: which legend fits, and whether a class is lost behind a value without a name."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from segcli.core.errors import DataError, UsageError
from segcli.ops.map_values import distinct
from segcli.sources.class_legend import Legend, Row
from segcli.sources.files import some
from segcli.sources.mask_meaning.evidence import MaskStats, counted, sample_masks, spread
from segcli.sources.mask_meaning.mask_files import palette_colours, read_ids
from segcli.sources.mask_meaning.object_ids import value_list
from segcli.sources.mask_meaning.rule import Rule, blanks
from segcli.types import IGNORE, IGNORE_16, ignore_label

BACKGROUND = ("background", "_background_", "bg", "void", "other", "unlabeled", "unlabelled", "none", "ignore")
AROUND = 0.9  # of the rim, in as many of the files, has the value of a background
FEW = 8  # classes, all of which a dataset can be expected to show


def fitted(legend: Legend, sample: Sequence[MaskStats]) -> tuple[Legend, str]:
    """The legend as the values of the sample show that it is meant, and how, for the decision's sentence.

    Colours of grey masks count rows from 0; a list of names without background counts from value 1 where the value
    behind its last name is there; where 0 is not, all do. Everything else stays as it is.
    """
    grey = [mask for mask in sample if mask.form == "grey"]
    if legend.colours:
        packed = {row.value for row in legend.rows}
        numbers = {value for mask in grey for value in mask.counts}
        numbers -= {value for value in blanks(len(legend.rows)) if value >= len(legend.rows)}
        repeated = {value << 16 | value << 8 | value for value in numbers}
        inside = len(grey) == len(sample) and numbers and max(numbers) < len(legend.rows)
        if inside and not _painted(grey, packed, repeated):
            rows = tuple(Row(i, row.name, row.kind) for i, row in enumerate(legend.rows))
            return Legend(legend.where, rows), f" ({legend.where}, its rows counted from 0)"
        return legend, f" ({legend.where})"
    if legend.listed:
        numbers = {value for mask in grey for value in mask.counts}
        first = legend.rows[0].name.strip().lower()
        behind = len(legend.rows) in numbers and max(numbers - {*blanks(len(legend.rows))}) == len(legend.rows)
        if behind and 0 not in numbers:
            rows = tuple(Row(row.value + 1, row.name, row.kind) for row in legend.rows)
            return Legend(legend.where, rows, listed=True), f" ({legend.where}, counted from 1)"
        if behind and first not in BACKGROUND:
            rows = (Row(0, "background"), *(Row(row.value + 1, row.name, row.kind) for row in legend.rows))
            return Legend(legend.where, rows, listed=True), f" ({legend.where}, counted from 1; 0 is background)"
    return legend, f" ({legend.where})"


def _painted(grey: Sequence[MaskStats], packed: set[int], repeated: set[int]) -> bool:
    """Whether the legend's colours are there: as grey, or in the palettes."""
    if repeated <= packed | {0, 0xFFFFFF}:
        return True
    return any(used <= packed for mask in grey[:4] if (used := palette_colours(mask.path, mask.counts)) is not None)


def of_objects(legend: Legend, files: Sequence[Path]) -> str | None:
    """What objects are called, where a legend of one name but background stands beside ids that go on behind it."""
    names = [row.name for row in legend.rows if row.kind is None and row.name.strip().lower() not in BACKGROUND]
    if legend.colours or len(names) != 1 or any(row.kind is not None for row in legend.rows):
        return None
    for mask in sample_masks(spread(files, 8)):
        beyond = mask.form == "grey" and max(mask.values, default=0) > max(1, len(legend.rows))
        if beyond and not mask.soft and counted(sorted(mask.values)):
            return names[0]
    return None


def refuse_category(legend: Legend | None) -> None:
    """Raise UsageError where a legend names the classes, so that a name for all objects has no effect."""
    if legend is not None:
        raise UsageError(f"{legend.where}: data.prepare.category: it names the classes", hint="leave it out")


def ignoring(legend: Legend, ignore: Sequence[int]) -> Legend:
    """The legend in which the values `ignore` mean nothing, whatever it says of them."""
    if legend.colours or not ignore:
        return legend
    rows = [row for row in legend.rows if row.value not in ignore]
    rows += [Row(value, "", "ignore") for value in ignore]
    return Legend(legend.where, tuple(rows), listed=legend.listed)


def numbered(files: Sequence[Path], rule: Rule, ignore: Sequence[int]) -> Legend:
    """Classes called by their values, from all files, for nothing names them. 255 beside other values is none, unless
    254 and 256 are there, too; beside more than 254 values it is 65535 instead.

    What can't be read is left to the reader.
    """
    values = {0}
    for file in files:
        with contextlib.suppress(DataError):
            values |= set(distinct(rule.values(file)).tolist())
    values -= set(ignore)
    blank = ignore_label(len(values - {IGNORE, IGNORE_16}))
    if len(values) > 2 and not (blank == IGNORE and {IGNORE - 1, IGNORE + 1} <= values):
        values -= {blank}
    rows = [Row(value, f"class {value}" if value else "background", "stuff") for value in sorted(values)]
    return Legend("the files", (*rows, *(Row(value, "", "ignore") for value in ignore)))


def undeclared(where: Path, sample: Sequence[MaskStats]) -> DataError:
    """The error that asks for a legend, with the values of the sample."""
    values = {value for mask in sample for value in mask.counts}
    two = len(values - {0}) == 1 and not any(mask.form == "colour" for mask in sample)
    return DataError(
        f"{where}: what its label values {value_list(values)} mean is not said",
        hint=f"write {where / 'legend.csv'}: a line `value,name,kind`, then a line a value, with kind ignore for those "
        "that are no class; or in a recipe data.prepare: {classes: …, ignore: …}; or --masks "
        + ("binary for two classes of pixels" if two else "classes for classes without names"),
    )


def refuse_lost(where: Path, files: Sequence[Path], sample: Sequence[MaskStats], legend: Legend) -> None:
    """Raise DataError where a class has no pixel while 255, which nothing declares, is no border but an area.

    Without another reading, 255 is ignored; here that would leave a class out of all training and scores.
    """
    rows = {row.value: row for row in legend.rows}
    if legend.colours or IGNORE in rows:
        return
    names = {row.name for row in legend.rows if row.kind != "ignore"}
    named = lambda values: {rows[v].name for v in values if v in rows and rows[v].kind != "ignore"}
    with_255 = [mask for mask in sample if IGNORE in mask.counts]
    if not with_255:
        return
    plain = len(names) == 2 == len(rows)  # then the other class must be in the same files: some may be 0/1, some 0/255
    looked = with_255 if plain else sample
    present = named({value for mask in looked for value in mask.counts})
    pixels = sum(mask.counts[IGNORE] for mask in with_255)
    area = is_area(
        *(sum(getattr(mask, k) * mask.counts[IGNORE] for mask in with_255) / pixels for k in ("outlined", "flat"))
    )
    if not lost(present, names, area):
        return
    rest = [file for file in files if file not in {mask.path for mask in sample}] if looked is sample else []
    for file in rest:
        with contextlib.suppress(DataError):
            present |= named(distinct(read_ids(file)).tolist())
        if not lost(present, names, area):
            return
    missing = [row for row in legend.rows if row.name in names - present]
    share = pixels / sum(number for mask in sample for number in mask.counts.values())
    shown = some([f"{row.name} (value {row.value})" for row in missing], 4)
    raise DataError(
        f"{where}: {shown} {'has' if len(missing) == 1 else 'have'} no pixel, while 255, which {legend.where} does not "
        f"name, is on {share:.2%} of all pixels ({with_255[0].path.name} among others)",
        hint=(f"--masks binary reads 255 as {missing[-1].name}; " if len(names) == 2 else "name 255 in a legend.csv; ")
        + "--ignore 255 leaves those pixels out of training and scores",
    )


def refuse_two_counts(where: Path, files: Sequence[Path], sample: Sequence[MaskStats], legend: Legend) -> None:
    """Raise DataError where names without a background could count from value 0 as well as from 1.

    That is so where 0 lies around everything else, as a background does, and no file has the last name's value.
    """
    last, named = len(legend.rows) - 1, {row.name.strip().lower() for row in legend.rows}
    around = sum(mask.form == "grey" and mask.rim >= AROUND for mask in sample)
    if not legend.listed or legend.rows[0].value or named & {*BACKGROUND} or around < AROUND * len(sample):
        return
    values = {value for mask in sample for value in mask.counts}
    looked = {mask.path for mask in sample}
    for file in files:
        if max(values - {*blanks(len(legend.rows))}, default=0) >= last:
            return
        if file not in looked:
            with contextlib.suppress(DataError):
                values |= set(distinct(read_ids(file)).tolist())
    if len(values - {*blanks(len(legend.rows))}) < 2 or max(values - {*blanks(len(legend.rows))}) >= last:
        return
    first, second = legend.rows[0].name, legend.rows[1].name
    raise DataError(
        f"{where}: value 0 lies around everything else and no file has the value {last} of the last name in "
        f"{legend.where}: is 0 {first} and 1 {second}, or 0 a background and 1 {first}?",
        hint=f"--masks classes counts the names from value 0; a first line `background` in {legend.where} from 1",
    )


def is_area(outlined: float, flat: float) -> bool:
    """Whether 255 is more than a border: most of it lies not between two other values, or much of it far inside."""
    return outlined < 0.5 or flat > 0.3


def lost(present: set[str], names: set[str], area: bool) -> bool:
    """Whether classes without a pixel can be behind 255. Of very many classes some are always missing."""
    if names <= present:
        return False
    return len(present) < 2 or (area and len(names) <= FEW)
