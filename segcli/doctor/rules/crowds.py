"""Classes of which every object is marked as a crowd.

What is wrong: all objects of a class, or very many, have `iscrowd: 1`.
Why: crowds are neither trained on nor scored, so nothing would be learned, and nothing be missed.
Example: CVAT and Datumaro write each mask that was drawn with a brush as a crowd.
Mended: `--crowd as-objects` reads all of them as objects, `--fix` those of classes that have crowds alone.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from segcli.core.coco_json import Annotation, SegmentInfo
from segcli.data.canonical import Record

FEWEST = 3  # crowds of a class that are no accident: a rare class of a small excerpt may show one crowd alone
SHARE = 0.2  # of a class's objects: of COCO's own persons 4 % are crowds, of all other classes less
AS_OBJECTS = "as-objects"  # what --crowd takes


def crowds_alone(crowds: Mapping[str, int], singles: Mapping[str, int]) -> list[str]:
    """The classes that have crowd regions and no single object; all of them where there is no single object at all.

    crowds, singles: annotations by class.
    """
    alone = sum(singles.values()) == 0
    return [name for name, n in crowds.items() if n and not singles.get(name) and (alone or n >= FEWEST)]


def many_crowds(crowds: Mapping[str, int], singles: Mapping[str, int]) -> list[str]:
    """The classes of whose objects more are crowds than real ones have, single objects beside them."""
    return [name for name, n in crowds.items() if singles.get(name) and n >= FEWEST and n > SHARE * (n + singles[name])]


class Singled:
    """Makes crowd regions of records objects, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records without a crowd among their annotations and segments."""
        for record in records:
            crowds = [a for a in record.annotations if a.get("iscrowd")]
            self.count += len(crowds)
            if not crowds and not any(s.get("iscrowd") for s in record.segments):
                yield record
                continue
            annotations: list[Annotation] = [{**a, "iscrowd": 0} if a.get("iscrowd") else a for a in record.annotations]
            segments: list[SegmentInfo] = [{**s, "iscrowd": 0} if s.get("iscrowd") else s for s in record.segments]
            yield dataclasses.replace(record, annotations=annotations, segments=segments)

    def note(self) -> str:
        """What was done, for `prepared.json`."""
        return f"{self.count:,} crowd regions are read as objects (--crowd {AS_OBJECTS})"
