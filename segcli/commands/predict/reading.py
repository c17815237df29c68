"""Images read ahead of the model, a few at a time and in order."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor

from segcli.commands.predictor import Predictor
from segcli.core.errors import DataError
from segcli.data.image import dark_values, read_image

READERS = 2  # threads; OpenCV releases the interpreter while it works


@dataclasses.dataclass
class Read:
    """One image on its way: what the reader threads make of a file. position: among all files; dark: see
    `data.image.dark_values`."""

    position: int
    image: np.ndarray
    dark: tuple[float, float] | None
    preprocessed: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.image.shape[0], self.image.shape[1]

    def tensor(self) -> Tensor:
        """The model's input [3,h,w], which is handed out once."""
        tensor, self.preprocessed = self.preprocessed, None
        assert tensor is not None
        return tensor


def batches(
    predictor: Predictor,
    files: Iterable[tuple[int, Path]],
    readers: ThreadPoolExecutor,
    failed: list[tuple[Path, str]],
) -> Iterator[list[Read]]:
    """The images of `files` (position, path), as many at a time as the predictor takes; what can't be read goes to
    `failed` with its reason."""
    upcoming = iter(files)
    reading: deque[tuple[Path, Future[Read]]] = deque()
    ready: list[Read] = []
    while True:
        for position, file in itertools.islice(upcoming, predictor.batch_size + READERS - len(reading)):
            reading.append((file, readers.submit(_ready, predictor, file, position)))
        if not reading:
            break
        file, job = reading.popleft()
        try:
            ready.append(job.result())
        except DataError as error:
            failed.append((file, str(error)))
        if len(ready) == predictor.batch_size:
            yield ready
            ready = []
    if ready:
        yield ready


def read(predictor: Predictor, file: Path, position: int) -> Read:
    """One image as the model's dataset was read. Raises DataError."""
    given = predictor.info.value_range
    image = read_image(file, given)
    return Read(position, image, dark_values(file, image) if given is None else None)


def _ready(predictor: Predictor, file: Path, position: int) -> Read:
    out = read(predictor, file, position)
    out.preprocessed = predictor.model.preprocess.image(out.image)
    return out
