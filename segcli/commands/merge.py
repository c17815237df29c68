"""Several sources, prepared or not, to one canonical dataset folder."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from segcli.commands.samples import write_samples
from segcli.core import trust
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.files import digest, is_plain
from segcli.core.folders import real
from segcli.core.formatting import count
from segcli.data import canonical
from segcli.data.canonical import UNDECIDED
from segcli.doctor.repair.write_draft import look_at_images, write_draft
from segcli.doctor.report_cache import listing
from segcli.sources.merged import Part, merge
from segcli.sources.plan import Plan, plan_for, reopen
from segcli.sources.split import assign_splits, is_file
from segcli.sources.tile import Tiling


def merge_sources(
    sources: Sequence[str | Path],
    out: Path | None,
    folder: Path,
    *,
    format: str | None = None,
    split: str | None = None,
    split_by: str | Path | None = None,
    seed: int = 0,
    tiling: Tiling | None = None,
    force: bool = False,
    samples: bool = True,
    trusted: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Write the images and labels of all `sources` as one folder, `out` or the names of all below `folder`.

    Every image keeps the split that its source has it in. A source without splits is for training where another one has
    val images, so that scores stay comparable; else, or with `split` or `split_by`, it is divided as it would be alone.
    format, seed, settings: as for `prepare`, of the sources that are not prepared yet. Raises UsageError and DataError.
    """
    plans = [_plan(str(source), format, seed, trusted, settings) for source in sources]
    names = _names(plans)
    called = "+".join(plan.name for plan in plans)
    if out is None and not is_plain(called):
        raise DataError(f"{called!r:.200} is the name of no folder", hint="give --out DIR")
    target = out if out is not None else folder / called
    raw = [not _is_prepared(source) for source in sources]
    for flag, value in (("--format", format), ("--split", split), ("--split-by", split_by), *(settings or {}).items()):
        if value and not any(raw):
            raise UsageError(f"{flag}: all of these are prepared already: their images keep their splits and labels")
    for plan in plans:
        if plan.path is not None and plan.path.resolve().is_relative_to(real(target)):
            raise UsageError(f"--out {target}: holds the source {plan.path}", hint="choose another --out")
    files = [None if plan.path is None else listing([plan.path], target) for plan in plans]
    recorded = {
        "sources": [{**plan.recorded, "source files": each} for plan, each in zip(plans, files, strict=True)],
        "split": split,
        "split_by": digest(Path(split_by), error=UsageError) if split_by and is_file(split_by) else split_by,
        "seed": seed,
        **({"tile": tiling.size, "overlap": tiling.overlap} if tiling else {}),
    }
    if canonical.existing(target, recorded, force) is not None:
        return target
    drafts = [plan.build() for plan in plans]
    fixed = any("val" in draft.splits for draft in drafts)
    parts = []
    for name, draft, alone in zip(names, drafts, raw, strict=True):
        splits = draft.splits
        if alone:
            look_at_images(draft, refuse=True)
            if (meaning := draft.masks.get("said")) and meaning not in draft.notes:
                draft.notes.insert(0, meaning)
            if split or split_by or not fixed:
                splits = assign_splits(draft, split, split_by, seed)
            elif UNDECIDED in splits:
                own = splits[UNDECIDED]
                which = "has no splits: all images" if len(splits) == 1 else f"{count(len(own), 'image')} of no split"
                splits = {split: part for split, part in splits.items() if split != UNDECIDED}
                splits["train"] = [*splits.get("train", []), *own]
                draft.notes.append(f"{which} are for training (--split divides them)")
        parts.append(Part(name, draft, splits))
    together = merge(target.name, parts)
    write_draft(target, together, together.splits, recorded, link=False, force=force, tiling=tiling)
    for draft in drafts:
        draft.close()
    if samples:
        write_samples(target)
    return target


def _is_prepared(source: str | Path) -> bool:
    return (Path(source) / "info.json").is_file()


def _plan(source: str, format: str | None, seed: int, trusted: bool, settings: Mapping[str, object] | None) -> Plan:
    if not _is_prepared(source):
        return plan_for(source, format, None, seed, settings, trusted)
    root = Path(source)
    if trusted:
        trust.grant(root, DatasetInfo.load(root).image_root, root, trusted=True)
    return reopen(root)


def _names(plans: Sequence[Plan]) -> list[str]:
    """A distinct name for each source."""
    out: list[str] = []
    for plan in plans:
        called = (plan.name if n == 1 else f"{plan.name}-{n}" for n in itertools.count(1))
        out.append(next(name for name in called if name not in out))
    return out
