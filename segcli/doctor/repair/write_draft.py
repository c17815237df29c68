"""From a draft to a prepared folder: every record is read, counted, mended and cut on its way."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from segcli.core.errors import DataError
from segcli.data.canonical import SEE_ALL, UNDECIDED, Draft, Entry, Record
from segcli.data.findings import Item
from segcli.data.write_folder import write_folder
from segcli.doctor.repair.mask_boxes import MaskBoxes
from segcli.doctor.repair.overview import Survey, overview
from segcli.doctor.repair.plain_faults import PlainFaults, refuse_coordinates
from segcli.doctor.repair.removals import Counts
from segcli.doctor.repair.repair import Repairs
from segcli.doctor.rules.crowds import Singled
from segcli.sources.images import is_there
from segcli.sources.survey import survey
from segcli.sources.tile import Tiling


def surveyed(draft: Draft, splits: Mapping[str, Sequence[Entry]]) -> Survey:
    """What holds for the whole of a draft; what it notes while it is read, it will note again.

    Raises DataError where coordinates are written in a way that can't be mended.
    """
    before = len(draft.notes)
    known = overview(
        ((name, draft.records(entries)) for name, entries in splits.items()),
        draft.info,
        divided=UNDECIDED in draft.splits,
    )
    del draft.notes[before:]
    for split, coordinates in known.coordinates.items():
        if not coordinates.mendable():
            name = draft.info.name  # of splits that were drawn from one, all objects were counted together
            refuse_coordinates(name if UNDECIDED in draft.splits else f"{name}, {split}", coordinates)
    names = dict(zip(draft.info.source_ids, draft.info.names, strict=True))
    draft.notes += [f"{count:,} crowd regions of {names[key]} are made objects" for key, count in known.crowds.items()]
    return known


def write_draft(
    target: Path,
    draft: Draft,
    splits: Mapping[str, Sequence[Entry]],
    recorded: Mapping[str, object],
    *,
    link: bool | None,
    strict: bool = True,
    force: bool = False,
    repairs: Repairs | None = None,
    tiling: Tiling | None = None,
    singled: Singled | None = None,
    drop: bool = False,
) -> None:
    """Write the images and labels of a draft, divided into `splits`, as the folder `target`: read, mended and cut one
    record at a time. Raises DataError where repairs leave out too much (see `removals`), nothing is left, or labels are
    wrong as a whole (see `plain_faults`)."""
    info = draft.info
    if link is None:
        link = draft.image_root is not None and not draft.stored and tiling is None
    if link:
        info = dataclasses.replace(info, image_root=str(draft.image_root))
    before, after = Counts(), Counts()
    boxes = MaskBoxes()
    faults = PlainFaults(divided=UNDECIDED in draft.splits)

    def through(split: str, entries: Sequence[Entry]) -> Iterator[Record]:
        records = before.counted(draft.records(entries))
        if singled is not None:
            records = singled.read(records)
        if repairs is not None:
            records = repairs.mend(split, records)
        if repairs is None:
            records = records if draft.measured else boxes.read(records)
            if strict:
                records = faults.watched(split, records, measured=draft.measured)
        yield from after.counted(_cut(draft, split, records, tiling))
        before.splits += 1
        if before.splits < len(splits):
            return
        if strict:  # nothing is published yet
            if repairs is not None:
                repairs.removed.judge(draft.image_root or target, before.objects, draft.lost, drop)
            faults.judge(info.name)
            after.require_some(before, draft.lost, info.name)
        draft.notes += [*([singled.note()] if singled is not None else []), *boxes.note()]

    write_folder(
        target,
        info,
        {name: through(name, entries) for name, entries in splits.items()},
        settings=recorded,
        notes=draft.notes,
        repairs=repairs.done if repairs else None,
        masks=draft.masks,
        link=link,
        strict=strict,
        force=force,
        total=sum(map(len, splits.values())),
        files=draft.files,
        encoded=draft.measured and repairs is None,
    )


def _cut(draft: Draft, split: str, records: Iterable[Record], tiling: Tiling | None) -> Iterator[Record]:
    """The records of one split; tiles are made after the split, so those of an image share its split."""
    if tiling is None:
        for record in records:
            if isinstance(record.problem, DataError):
                draft.refused.append(Item(split, record.file_name, detail=str(record.problem)))
            yield record
        return
    part = dataclasses.replace(tiling, value_range=draft.info.value_range)
    part.dropped = []
    yield from part.cut(records, set(draft.info.source_ids))
    draft.notes.append(part.note())


def look_at_images(draft: Draft, refuse: bool) -> None:
    """Decide how values of more than 8 bits are read, and note it. Raises DataError for images that can't be, unless
    the doctor or --fix is to name them."""
    if draft.image_root is None or draft.info.value_range is not None:  # made by segcli; prepared before
        return
    names = dict.fromkeys(entry.file_name for entries in draft.splits.values() for entry in entries)
    files = [draft.image_root / name for name in names]
    if refuse and not draft.stored and (missing := [file for file in files if not is_there(file)]):
        more = f", and so are {len(missing) - 1:,} more of the {len(files):,} listed ones" if len(missing) > 1 else ""
        message = f"{missing[0]}: the image file is missing{more}"
        raise DataError(message, hint=f"{SEE_ALL}; --fix --drop leaves them out with their objects")
    values = survey(files)
    if values.refused and refuse:
        first = next(iter(values.refused.values()))
        more = f" (and {len(values.refused) - 1} more such images)" if len(values.refused) > 1 else ""
        raise DataError(f"{first}{more}", hint=first.hint)
    draft.info = dataclasses.replace(draft.info, value_range=values.value_range)
    draft.notes += values.notes
    if values.cut and refuse:  # else the doctor or --fix names each
        draft.notes.append(values.cut)
