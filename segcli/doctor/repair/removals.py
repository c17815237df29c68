"""How much `--fix` may leave out: a twentieth of the objects, and no image that is there, unless --drop allows more."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.formatting import count as counted
from segcli.core.formatting import shortened
from segcli.data.canonical import Record

SHARE = 0.05  # of the objects, or of the pixels of maps
SHOWN = 3  # places that a message names


@dataclasses.dataclass(frozen=True)
class Repair:
    """What was done: to an image (annotation_id None) or an annotation, because of a finding of that code."""

    split: str
    file_name: str
    annotation_id: int | None
    code: str
    action: str


@dataclasses.dataclass
class Removals:
    """What repairs cost so far."""

    lost: int = 0  # objects
    why: Counter[str] = dataclasses.field(default_factory=Counter)  # objects by code
    whole: Counter[str] = dataclasses.field(default_factory=Counter)  # images with objects by code
    costly: int = 0  # repairs that cost objects
    repairs: list[Repair] = dataclasses.field(default_factory=list)  # the first that cost objects
    images: list[Repair] = dataclasses.field(default_factory=list)  # one for each image that is there
    emptied: list[Repair] = dataclasses.field(default_factory=list)  # one for each map of which nothing is kept
    mapped: int = 0  # pixels of all maps
    unlabelled: int = 0  # of them, made void or ignored
    partly: list[Repair] = dataclasses.field(default_factory=list)  # the first maps of which a part is lost

    def object(self, repair: Repair) -> None:
        """One object is left out."""
        self.objects(repair, 1)

    def objects(self, repair: Repair, count: int) -> None:
        """So many objects are left out."""
        self.lost += count
        if count:
            self.why[repair.code] += count
            self.costly += 1
            if len(self.repairs) < SHOWN:
                self.repairs.append(repair)

    def image(self, repair: Repair, objects: int, there: bool) -> None:
        """An image is left out, with its objects. there: its file is on the disk."""
        self.objects(repair, objects)
        self.whole[repair.code] += objects > 0
        if there:
            self.images.append(repair)

    def map(self, repair: Repair, there: bool) -> None:
        """Of an image's map nothing is kept. there: it has content."""
        if there:
            self.emptied.append(repair)

    def pixels(self, repair: Repair, count: int) -> None:
        """So many pixels of a map lose their label."""
        self.unlabelled += count
        if len(self.partly) < SHOWN:
            self.partly.append(repair)

    def judge(self, source: Path | str, total: int, dangling: int, drop: bool) -> None:
        """Raise DataError where more is left out than a repair may. total: objects of the source; dangling: those of
        them that belong to no image."""
        lost, total = self.lost + dangling, total + dangling
        if drop:
            return
        losses: list[str] = []
        if lost > SHARE * total:
            why = Counter(self.why) + Counter({"dangling_image": dangling})
            kinds = ", ".join(self._kind(code, n) for code, n in why.most_common())
            losses.append(f"{lost:,} of {total:,} objects ({kinds}){_places(self.repairs, self.costly)}")
        if self.images:
            losses.append(f"{len(self.images):,} images that are there{_places(self.images, len(self.images))}")
        if self.emptied:
            losses.append(f"all of {len(self.emptied):,} label maps{_places(self.emptied, len(self.emptied))}")
        if self.unlabelled > SHARE * self.mapped:
            share = 100 * self.unlabelled / self.mapped
            losses.append(f"the labels of {share:.0f} % of the maps' pixels{_places(self.partly, len(self.partly))}")
        if losses:
            raise DataError(
                f"{source}: --fix would leave out {'; and '.join(losses)}",
                hint="mend that in the source, or leave it out with --drop",
            )

    def _kind(self, code: str, objects: int) -> str:
        """How many objects a finding of that code costs, and with how many images."""
        name = code.replace("_", " ")
        if self.whole[code]:
            return f"{objects:,} in {counted(self.whole[code], 'image')}: {name}"
        return f"{objects:,} × {name}"


def _places(repairs: list[Repair], count: int) -> str:
    """The first repairs in words, as a part of a sentence."""
    named = [
        f"{shortened(r.file_name, 100)}{'' if r.annotation_id is None else f' annotation {r.annotation_id}'}: "
        f"{shortened(r.action, 240)}"
        for r in repairs[:SHOWN]
    ]
    more = f"; and {count - len(named):,} more" if named and count > len(named) else ""
    return f": {'; '.join(named)}{more}" if named else ""


@dataclasses.dataclass
class Counts:
    """Images and objects of the records that went by."""

    splits: int = 0
    images: int = 0
    objects: int = 0

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each counted."""
        for record in records:
            self.images += 1
            self.objects += len(record.annotations)
            yield record

    def require_some(self, before: "Counts", dangling: int, name: str) -> None:
        """Raise DataError where nothing is left of what was there. dangling: objects that belong to no image."""
        had = before.objects + dangling
        if before.images and not self.images:
            raise DataError(f"{name}: no image is left of {before.images:,}", hint=SEE)
        if had and not self.objects:
            raise DataError(f"{name}: no object is left of {had:,}", hint=SEE)


SEE = "segcli prepare SOURCE --check says what is wrong"
