"""The doctor's report, kept for this user until a file of its folder changes, and held against a recipe.

It is kept outside of the folder (core/state.py): a dataset that came with a report could say of itself what it likes.
"""

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError
from segcli.core.recipe.recipe import Recipe
from segcli.core.state import remember, remembered
from segcli.core.tasks import TASKS
from segcli.core.trust import images_of
from segcli.data.findings import Item, Report
from segcli.doctor.check import check
from segcli.sources.folders import walk

KIND = "checked"
FILE = "checked.json"  # what earlier versions left in the folder itself: not read, and no reason to check again
SAMPLES = "samples.jpg"  # the sheet of samples in a prepared folder
RULES = 4  # counts up when the doctor's rules change: reports of older rules are made anew
NAMED_CLASSES = 10  # classes that a note names
NAMED = 3  # places that an error names


def checked(root: Path, *, fresh: bool = False) -> Report:
    """The report on a prepared folder: the kept one where no file has changed since, unless it must be `fresh`.

    Raises DataError where `root` is no prepared folder.
    """
    info = DatasetInfo.load(root)
    place = images_of(root, info.image_root)
    state = f"{RULES} {listing([root, *([place.folder] if info.image_root else [])])}"
    if not fresh:
        try:
            kept = remembered(KIND, root)
            if kept is not None and kept["state"] == state:
                return Report.from_json(kept["report"], "its content")
        except (KeyError, TypeError, ValueError) as error:
            print(f"note: the report that was kept on {root} can't be used ({error}): checking again", file=sys.stderr)
    report = check(root)
    try:
        remember(KIND, root, {"state": state, "report": report.to_json()})
    except SegcliError as error:
        print(f"note: {error}: the next training checks again", file=sys.stderr)
    return report


def admit(recipe: Recipe, queries: int | None = None, quiet: bool = False) -> Report:
    """Check a recipe's dataset before it is trained on. Warnings are counted on stderr; errors raise DataError.

    queries: how many objects the model can find on an image, where its architecture has a fixed number. quiet: say
    nothing of warnings.
    """
    root = Path(recipe.data.root)
    report = checked(root)
    limits = {"model.queries": queries, "eval.max_detections": recipe.eval.max_detections}
    for key, limit in limits.items():
        too_full = [] if limit is None or not TASKS[recipe.task].things else _above(report, limit)
        if too_full and not quiet:
            most, name = max(too_full)
            more = "" if len(too_full) == 1 else f" and {len(too_full) - 1} more"
            fixed = key == "model.queries" and "checkpoint" in recipe.model  # its weights are for that number
            advice = "the others are never found" if fixed else "raise it"
            print(f"note: {name}{more}: up to {most} objects, but {key} is {limit}: {advice}", file=sys.stderr)
    if report.ok:
        if (lacking := _lacking(report)) and not quiet:
            print(f"note: {root}: train has nothing to learn {', '.join(lacking)} from", file=sys.stderr)
        doubts = [f for f in report.findings if f.severity == "warning" and f.code != "many_objects"]
        if doubts and not quiet:
            counts = "; ".join(f"{f.count:,} × {f.code}" for f in doubts)
            print(f"note: {root}: {counts} (segcli prepare {root} --check explains)", file=sys.stderr)
        return report
    errors = [f for f in report.findings if f.severity == "error"]
    raise DataError(
        f"{root}: " + "; ".join(f"{f.count:,} {f.message} ({_places(f.items, f.count)})" for f in errors),
        hint=f"segcli prepare {root} --check lists all, --fix repairs",
    )


def listing(folders: Iterable[Path], out: Path | None = None) -> str:
    """sha256 over names, sizes and times of files: says whether they changed, without reading them. Reports, sheets of
    samples, and what lies in `out`, are left aside."""
    digest = hashlib.sha256()
    aside = None if out is None else out.absolute()
    for path in folders:
        for name, facts in sorted(_files(path, aside)) if path.is_dir() else [((".",), path.stat())]:
            digest.update(f"{'/'.join(name)}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _files(root: Path, aside: Path | None) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    """(parts of its path below `root`, facts) of every file that `listing` counts."""
    for folder, _, names in walk(root, hidden=True, prepared=True):
        if aside is not None and folder.absolute().is_relative_to(aside):
            continue
        parts = folder.relative_to(root).parts
        for name in names:
            with contextlib.suppress(OSError, ValueError):  # a link that leads nowhere, or a name that no file has
                facts = os.stat(os.path.join(folder, name))
                if stat.S_ISREG(facts.st_mode) and name not in (FILE, SAMPLES):
                    yield (*parts, name), facts


def _lacking(report: Report) -> list[str]:
    """The classes that the train split has nothing of, the first NAMED_CLASSES of them by name."""
    names = []
    for finding in report.findings:
        if finding.code == "unused_category":
            names += [item.detail for item in finding.items]
        elif finding.code == "split_lacks_category":
            names += [item.detail.rsplit(" (", 1)[0] for item in finding.items if item.split == "train"]
    more = [f"and {len(names) - NAMED_CLASSES} more"] if len(names) > NAMED_CLASSES else []
    return [*map(repr, names[:NAMED_CLASSES]), *more]


def _above(report: Report, limit: int) -> list[tuple[int, str]]:
    return [(count, name) for images in report.busiest.values() for count, name in images if count > limit]


def _places(items: list[Item], count: int) -> str:
    named = [item.detail or f"{item.file_name} {item.annotation_id or ''}".strip() for item in items[:NAMED]]
    return "; ".join(named) + (f" and {count - NAMED} more" if count > NAMED else "")
