"""What `prepare` refuses by itself, before anyone trains on it: labels that would load and be wrong as a whole."""

from collections import Counter
from collections.abc import Iterable, Iterator

from segcli.data.canonical import Record
from segcli.data.overview import VOTES, order_of
from segcli.errors import DataError


class PlainFaults:
    """Watches records as they are written."""

    def __init__(self) -> None:
        self.crowds = self.singles = 0
        self.orders: Counter[str] = Counter()  # rows, columns: by what the boxes of the first RLE masks say

    def watched(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records as they are."""
        for record in records:
            for annotation in record.annotations:
                if annotation.get("iscrowd"):
                    self.crowds += 1
                else:
                    self.singles += 1
                if self.orders.total() < VOTES and (order := order_of(annotation, record.size)):
                    self.orders[order] += 1
            yield record

    def judge(self, name: str) -> None:
        """Raise DataError where every object is a crowd region, or RLE masks run along the rows."""
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
