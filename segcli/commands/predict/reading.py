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
    tensor: Tensor
    dark: tuple[float, float] | None


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
            reading.append((file, readers.submit(_read, predictor, file, position)))
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


def _read(predictor: Predictor, file: Path, position: int) -> Read:
    given = predictor.info.value_range
    image = read_image(file, given)
    dark = dark_values(file, image) if given is None else None
    return Read(position, image, predictor.model.preprocess.image(image), dark)
