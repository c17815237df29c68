"""What a folder of masks is: decided from the values of many files, said in one line, refused where it is not clear.

`decide` is asked by every format whose labels are pictures. It looks at a sample spread over the folder; what the
reader meets later and what contradicts the decision is an error that names the file (`Rule`, `objects.py`).
Flags and settings (`masks`, `ignore`, `threshold`) say it instead.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from segcli.core.errors import DataError, UsageError
from segcli.data.canonical import MaskFacts
from segcli.sources.class_legend import Legend, Row
from segcli.sources.files import some
from segcli.sources.mask_meaning import class_values
from segcli.sources.mask_meaning.evidence import MaskStats, sample_masks
from segcli.sources.mask_meaning.mask_files import read_ids
from segcli.sources.mask_meaning.object_ids import ids_or_one, value_list
from segcli.sources.mask_meaning.rule import BOTH, Rule, blanks, half
from segcli.types import IGNORE

Kind = Literal["instances", "classes", "binary", "split-components"]
SHARE = 0.1  # of the sample from which on something is no exception


@dataclasses.dataclass(frozen=True)
class Flags:
    """What the user said: what values are, values that mean nothing, and from which value on a pixel is inside."""

    masks: Kind | None = None
    ignore: tuple[int, ...] = ()
    threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class Meaning:
    """The decision. kind: how values are read, by `rule`; legend: the classes of values, where there are any.

    single: each file is one object, whatever its values. sentence: the decision in one line, for people.
    """

    kind: Kind
    rule: Rule
    legend: Legend | None
    sentence: str
    single: bool = False

    @property
    def pixels(self) -> bool:
        """Whether values are classes of pixels, not objects."""
        return self.kind in ("classes", "binary")

    def facts(self) -> MaskFacts:
        """For prepared.json; `ignored`: values that were declared to mean nothing."""
        legend = self.legend
        rows = () if legend is None else legend.rows
        ignored = sorted({*self.rule.ignore, *(row.value for row in rows if row.kind == "ignore")})
        return {"read_as": self.kind, "said": self.sentence, "ignored": ignored}


def decide(
    where: Path,
    files: Sequence[Path],
    flags: Flags,
    *,
    legend: Legend | None = None,
    classes: bool = False,
    single: bool = False,
    category: str = "object",
    sample: list[MaskStats] | None = None,
) -> Meaning:
    """What the mask `files` of the folder `where` are.

    legend: what names their values. classes: the layout is one of classes of pixels, as far as nothing else is said;
    single: the layout has a file for every object. category: what objects, and the one class of binary masks, are.
    sample: what `sample_masks` says of the files, where that is known.
    Raises DataError where it is not clear, with the flag for each reading; UsageError for flags that do not fit.
    """
    if flags.threshold is not None and not flags.threshold > 0:
        raise UsageError(f"--threshold {flags.threshold:g}: must be above 0, which is background")
    sample = sample_masks(files) if sample is None else sample
    alpha = _alpha(where, sample)
    if flags.masks != "binary":
        _colours(sample, legend)
    if flags.threshold is not None and flags.masks == "classes":
        raise UsageError("--threshold makes two classes of values: it goes with --masks binary, not classes")
    kind = flags.masks
    if kind is None and flags.threshold is not None:
        kind = "instances" if single else "binary"
    if single and kind in ("classes", "binary"):
        raise UsageError(f"--masks {kind}: {where} has a file for every object, whose values are no classes")
    rule = Rule(alpha, flags.threshold, kind == "binary", flags.ignore, ids=flags.masks is None and not classes)
    tail = "; the mask is the alpha channel, which alone varies" if alpha else ""
    if kind == "binary":
        return _binary(where, sample, rule, legend, category, tail)
    if kind == "classes" or (classes and kind is None):
        return _classes(where, files, sample, flags, rule, legend, tail)
    if kind is None:
        _refuse_soft(where, sample, single)
        return _unsaid(where, sample, rule, legend, single, tail)
    many = any(len(mask.values) > 1 and not mask.soft for mask in sample)
    single = single and (not many or flags.threshold is not None)
    if legend is not None:
        legend = class_values.fitted(legend, sample)[0]
    what = "every connected region of a value is one object" if kind == "split-components" else "every value is one"
    what = "every file is one object" if single and kind == "instances" else what
    if flags.threshold is not None:
        what = f"values from {flags.threshold:g} on are inside, and " + (
            "every connected region is one object" if kind == "split-components" else "every mask is one object"
        )
    return Meaning(kind, rule, legend, f"masks: {what}, as was said{tail}", single)


def _unsaid(
    where: Path, sample: list[MaskStats], rule: Rule, legend: Legend | None, single: bool, tail: str
) -> Meaning:
    """Objects, by the evidence of the sample alone."""
    of = f"({len(sample)} files looked at)"
    if single:
        several = [mask for mask in sample if len(mask.values - set(rule.ignore)) > 1]
        if len(several) > SHARE * len(sample):
            raise DataError(
                f"{where}: its masks could be one object a file, or ids of several objects: {several[0].path} holds "
                f"the values {value_list(several[0].values)}",
                hint="--threshold 1 reads whatever is not 0 as one object, --masks instances every value as one",
            )
        return Meaning("instances", rule, legend, f"masks: every file is one object {of}{tail}", True)
    if legend is not None:  # whose rows say of what kind values are, or a person who chose the format
        legend = class_values.fitted(legend, sample)[0]
        rule = dataclasses.replace(rule, ids=False)
        return Meaning("instances", rule, legend, f"masks: values are objects, as {legend.where} names them {of}{tail}")
    reading = ids_or_one(where, sample, rule.ignore)
    one = reading == "one"
    what = "every mask is one object" if one else "every value but 0 is one object (ids)"
    others = "--masks split-components, binary" if one else "--masks classes, split-components"
    sentence = f"masks: {what} {of}; {others} read them otherwise{tail}"
    return Meaning("instances", dataclasses.replace(rule, one=one), None, sentence)


def _classes(
    where: Path,
    files: Sequence[Path],
    sample: list[MaskStats],
    flags: Flags,
    rule: Rule,
    legend: Legend | None,
    tail: str,
) -> Meaning:
    """Classes of pixels, whose values a legend must name; where the user said that they are classes, numbers do."""
    if legend is None and flags.masks != "classes":
        raise class_values.undeclared(where, sample)
    if legend is None:
        legend = class_values.numbered(files, rule, flags.ignore)
        more = f", called by their values: {where / 'classes.txt'} would name them"
    else:
        legend, more = class_values.fitted(legend, sample)
        legend = class_values.ignoring(legend, flags.ignore)
        named = {row.value for row in legend.rows} | {*blanks(len(legend.rows))}
        if not legend.colours and flags.masks is None and any(mask.values - named for mask in sample):
            _refuse_soft(where, sample, False, legend)
        class_values.refuse_lost(where, files, sample, legend)
        if flags.masks is None:
            class_values.refuse_two_counts(where, files, sample, legend)
    names = [f"{legend.shown(row.value)} {row.name}" for row in legend.rows if row.kind != "ignore"]
    sentence = f"masks: values are classes of pixels ({some(names, 8)}){more}{tail}"
    return Meaning("classes", rule, legend, sentence)


def _binary(
    where: Path, sample: list[MaskStats], rule: Rule, legend: Legend | None, category: str, tail: str
) -> Meaning:
    """Two classes of pixels: 0, and the other value or whatever reaches the threshold."""
    names = ["background", category]
    if legend is not None:
        named = list(dict.fromkeys(row.name for row in legend.rows if row.kind != "ignore"))
        if len(named) not in (1, 2):
            raise UsageError(f"--masks binary has two classes, {legend.where} names {len(named)}")
        names = named if len(named) == 2 else ["background", named[0]]
    if rule.threshold is None:
        _refuse_soft(where, sample, False)
    rows = [Row(0, names[0], "stuff"), Row(1, names[1], "stuff")]
    rows += [Row(IGNORE, "", "ignore")] * bool(rule.ignore)
    inside = f"values from {rule.threshold:g} on" if rule.threshold is not None else "whatever is not 0"
    left = f", {value_list(rule.ignore)} ignored" if rule.ignore else ""
    sentence = f"masks: two classes of pixels, {names[0]} and {names[1]} ({inside}){left}, as was said{tail}"
    return Meaning("binary", dataclasses.replace(rule, binary=True), Legend(str(where), tuple(rows)), sentence)


def _alpha(where: Path, sample: list[MaskStats]) -> bool:
    """Whether the mask is in the alpha channel. Raises DataError where colours and alpha contradict each other."""
    other = next((mask for mask in sample if mask.alpha == "other"), None)
    only = [mask for mask in sample if mask.alpha == "only"]
    if other is not None:
        raise DataError(f"{other.path}: {BOTH}", hint="save the mask alone, as a grey PNG without an alpha channel")
    shown = [mask for mask in sample if mask.alpha == "same" or (mask.alpha == "none" and len(mask.counts) > 1)]
    if only and shown:
        raise DataError(
            f"{where}: the mask of {only[0].path.name} is in its alpha channel, that of {shown[0].path.name} is not",
            hint="save all masks in one way, best as grey PNGs without an alpha channel",
        )
    return bool(only)


def _colours(sample: list[MaskStats], legend: Legend | None) -> None:
    """Raise DataError, as the reader would, where most masks are colour pictures and nothing names colours."""
    colours = [mask for mask in sample if mask.form == "colour"]
    if len(colours) * 2 > len(sample) and (legend is None or not legend.colours):
        read_ids(colours[0].path)


def _refuse_soft(where: Path, sample: list[MaskStats], single: bool, legend: Legend | None = None) -> None:
    """Raise DataError where edges fade in more than a few files."""
    faded = [mask for mask in sample if mask.soft]
    if not faded or len(faded) <= SHARE * len(sample):
        return
    first = faded[0]
    if first.form == "fractions":
        raise DataError(
            f"{first.path}: the mask holds fractions", hint="--threshold 0.5 makes them two classes of pixels"
        )
    middle = half(max(first.values))
    others = (
        f"{middle} makes them two classes of pixels; with --masks split-components every separate region is an object"
    )
    others = f"{middle} decides what is inside an object" if single else others
    unnamed = f", which {legend.where} does not name" if legend is not None else ""
    raise DataError(
        f"{where}: masks with soft edges, as resizing, smoothing or JPEG make them, in {len(faded)} of {len(sample)} "
        f"files looked at: {first.path.name} holds {len(first.values)} grey values up to {max(first.values)}{unnamed}",
        hint=f"--threshold {others}; --masks instances takes every grey value for an object all the same",
    )
