"""What `prepare` refuses by itself, before anyone trains on it: labels that would load and be wrong as a whole."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from segcli.core.errors import DataError
from segcli.data.canonical import Record
from segcli.doctor.repair.overview import VOTES, order_of, upright
from segcli.sources.coordinates import Coordinates


class PlainFaults:
    """Watches records as they are written. divided: their splits were drawn from one."""

    def __init__(self, *, divided: bool = False) -> None:
        self.divided = divided
        self.crowds = self.singles = 0
        self.orders: Counter[str] = Counter()  # rows, columns: by what the boxes of the first RLE masks say
        self.coordinates: dict[str, Coordinates] = defaultdict(Coordinates)  # of every split

    def watched(self, split: str, records: Iterable[Record], *, measured: bool = False) -> Iterator[Record]:
        """The records as they are. measured: as of `Draft`."""
        coordinates = self.coordinates["" if self.divided else split]
        for record in records:
            fits = upright(record)
            for annotation in record.annotations:
                if annotation.get("iscrowd"):
                    self.crowds += 1
                else:
                    self.singles += 1
                if measured:
                    continue
                if self.orders.total() < VOTES and (order := order_of(annotation, record.size)):
                    self.orders[order] += 1
                coordinates.add(annotation, record.size, fits)
            yield record

    def judge(self, name: str) -> None:
        """Raise DataError where every object is a crowd region, RLE masks run along the rows, or the coordinates
        of a split are written in another way than COCO's."""
        if self.crowds and not self.singles:
            raise DataError(
                f"{name}: all of its {self.crowds:,} objects are crowd regions (iscrowd: 1), which are neither trained "
                "on nor scored; annotation tools write brush masks so",
                hint="--crowd as-objects reads them as objects, and so does --fix",
            )
        if self.orders["rows"] > self.orders["columns"]:
            raise DataError(
                f"{name}: the RLE masks of {self.orders['rows']} of {self.orders.total()} objects looked at fit their "
                "boxes only when they are read along the rows; COCO's run down the columns",
                hint="--fix reads them so",
            )
        for split, coordinates in self.coordinates.items():
            refuse_coordinates(f"{name}, {split}" if split else name, coordinates)


def refuse_coordinates(where: str, coordinates: Coordinates) -> None:
    """Raise DataError where coordinates are written in another way than COCO's."""
    if (said := coordinates.sentences()) is not None:
        raise DataError(f"{where}: {said[0]}", hint=said[1])
