"""Training images that a maker draws when they are needed, so that nothing of them lies on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast, overload

import cv2
import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.errors import UsageError
from segcli.core.tasks import TASKS
from segcli.data import views
from segcli.data.canonical import Record
from segcli.data.dataset import Dataset, ImageRecord
from segcli.sources.plan import plan_for
from segcli.types import Field, Instances, Panoptic, Segment


class DrawnDataset(Dataset):
    """`count` images of the embedded data `name`, drawn one by one: the same that `prepare` would write as its train
    split. root: a folder prepared with the same `settings`, whose description holds for them.

    Raises UsageError where `name` is not made by segcli, DataError where `root` is not prepared.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        count: int,
        *,
        settings: dict[str, object],
        task: str,
        fields: dict[str, type[Field]],
    ):
        plan = plan_for(name, None, None, 0, {**settings, "train": count})
        if plan.path is not None or plan.known is not None:
            raise UsageError(f"data.drawn: {name} is not made by segcli, and can't be drawn", hint="leave it out")
        super().__init__(root, "train", task=task, fields=fields)
        draft = plan.build()
        self._entries = draft.splits["train"]
        self._make = draft.records
        self._last: tuple[int, Record] | None = None
        self._records = _Drawn(self, range(count))  # type: ignore[assignment]  # stands for the list of all records
        self.image_ids = list(range(1, count + 1))
        self.file_names = [entry.file_name for entry in self._entries]
        self.sizes = [self.made(0).size] * count

    def made(self, i: int) -> Record:
        """Image i with its labels, as the maker gives it; the last one is kept."""
        last = self._last
        if last is None or last[0] != i:
            self._last = last = i, next(iter(self._make(self._entries[i : i + 1])))
        return last[1]

    def image(self, i: int) -> np.ndarray:
        """uint8 RGB [H,W,3]."""
        return _pixels(self.made(i).image)

    def _maps(self, record: ImageRecord, instances: Instances) -> tuple[np.ndarray | None, Panoptic | None]:
        made, task = self.made(record.id - 1), TASKS[self.task]
        if not task.stuff or made.semantic is None or made.panoptic is None:
            return None, None
        segments = [
            Segment(s["id"], self._labels[s["category_id"]], crowd=bool(s.get("iscrowd"))) for s in made.segments
        ]
        panoptic = Panoptic(views.panoptic_ids(_pixels(made.panoptic)), segments)
        return _pixels(made.semantic), panoptic if task.things else None


class _Drawn(Sequence[ImageRecord]):
    """Records of a DrawnDataset, of the images `rows`, each made when it is asked for."""

    def __init__(self, dataset: DrawnDataset, rows: range):
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, i: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, i: slice) -> "_Drawn": ...
    def __getitem__(self, i: int | slice) -> "ImageRecord | _Drawn":
        if isinstance(i, slice):
            return _Drawn(self.dataset, self.rows[i])
        i = self.rows[i]
        made = self.dataset.made(i)
        held = [cast(Annotation, {"id": k + 1, "image_id": i + 1, **a}) for k, a in enumerate(made.annotations)]
        return ImageRecord(i + 1, made.file_name, made.size, "train", "", held)

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self[i] for i in range(len(self)))


def _pixels(content: Path | bytes) -> np.ndarray:
    """A PNG that a maker gave -> uint8 [H,W] or RGB [H,W,3]."""
    assert isinstance(content, bytes)
    out = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert out is not None
    return out if out.ndim == 2 else cv2.cvtColor(out, cv2.COLOR_BGR2RGB)
