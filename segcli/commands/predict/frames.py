"""Frames of videos and of cameras, read and written with their times. PyAV is the optional extra `video`."""

import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from segcli.core.errors import DataError, UsageError

SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"}
CODECS = ("libx264", "mpeg4")  # the first that is there
TICKS = Fraction(1, 90000)  # of a second: the usual unit of times in videos


def is_video(given: str | Path) -> bool:
    """Whether an input is a video's file or the number of a camera."""
    return is_camera(given) or (Path(given).suffix.lower() in SUFFIXES and Path(given).is_file())


def is_camera(given: str | Path) -> bool:
    return str(given).isdecimal() and not Path(given).exists()


def library() -> ModuleType:
    """PyAV. Raises UsageError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UsageError("videos need PyAV", hint="pip install 'segcli[video]'") from error
    return av


class Frames:
    """The frames of a video or a camera: iterating gives (seconds, RGB uint8 [H,W,3]), upright.

    rate: frames a second, as the source says; total: how many, 0 where that is not known; broken: packets that could
    not be decoded so far. Raises DataError for what is no video or a camera that is not there.
    """

    def __init__(self, source: str | Path):
        self.source, self.broken, self.total = str(source), 0, 0
        self.rate = Fraction(30)
        if is_camera(source):
            with _quiet():
                self.camera = cv2.VideoCapture(int(str(source)))
                there = self.camera.isOpened()
            if not there:
                raise DataError(f"camera {source}: there is none of this number, or another program uses it")
            rate = self.camera.get(cv2.CAP_PROP_FPS)  # 0, less or no number where the camera does not say
            self.rate = Fraction(round(rate)) if rate >= 1 else self.rate
            return
        av = library()
        try:
            self.file = av.open(self.source, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"{source}: is no video that can be read: {_cause(error)}") from error
        if not self.file.streams.video:
            self.file.close()
            raise DataError(f"{source}: has no pictures, only sound or text")
        self.stream = self.file.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.total = self.stream.frames

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        yield from self._of_camera() if is_camera(self.source) else self._of_file()

    def _of_camera(self) -> Iterator[tuple[float, np.ndarray]]:
        begun = time.monotonic()
        while True:
            there, image = self.camera.read()
            if not there:
                return
            yield time.monotonic() - begun, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _of_file(self) -> Iterator[tuple[float, np.ndarray]]:
        av = library()
        number = 0
        try:
            for packet in self.file.demux(self.stream):
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError:
                    self.broken += 1
                    continue
                for frame in decoded:
                    seconds = float(frame.time) if frame.time is not None else float(number / self.rate)
                    number += 1
                    image = frame.to_ndarray(format="rgb24")
                    yield seconds, np.ascontiguousarray(np.rot90(image, frame.rotation // 90))
        except av.error.FFmpegError:  # the file ends in the middle
            self.broken += 1

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, *error: object) -> None:
        if is_camera(self.source):
            self.camera.release()
        else:
            self.file.close()


class Film:
    """A video that is written frame by frame, each at its own time. Sides are made even, as codecs want them."""

    def __init__(self, path: Path, rate: Fraction):
        self.av, self.last = library(), -1
        self.file = self.av.open(str(path), "w", format="mp4")
        codec = next(name for name in CODECS if name in self.av.codecs_available)
        self.stream = self.file.add_stream(codec, rate=rate)
        self.stream.codec_context.time_base = TICKS
        self.begun = False

    def add(self, seconds: float, image: np.ndarray) -> None:
        """RGB uint8 [H,W,3]; all frames have the size of the first."""
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        if not self.begun:
            self.stream.width, self.stream.height, self.stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
            self.begun = True
        elif image.shape[:2] != (self.stream.height, self.stream.width):  # streams may change their size
            image = cv2.resize(image, (self.stream.width, self.stream.height), interpolation=cv2.INTER_AREA)
        frame = self.av.VideoFrame.from_ndarray(image, format="rgb24")
        self.last = frame.pts = max(round(seconds / TICKS), self.last + 1)
        frame.time_base = TICKS
        self.file.mux(self.stream.encode(frame))

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self.begun:
            self.file.mux(self.stream.encode())
        self.file.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV says on stderr what an error says here."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _cause(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
