"""Read a COCO file of any size: annotations are parsed one at a time, and only where each one stands is kept."""

import codecs
import json
import re
from array import array
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from segcli.core.coco_json import Annotation, CocoFile
from segcli.core.errors import DataError

CHUNK = 1 << 20  # bytes that are read at a time
SPACE = re.compile(r"[ \t\n\r]*")
Id = int | float | str
decode = json.JSONDecoder().raw_decode


class Streamed:
    """A COCO file without its annotations in memory.

    head: everything else, `images` among it. codes: image id -> number of the images that annotations name, in the
    order of their first annotation. categories: the category ids that annotations name. samples: of each key that has a
    value, the first annotation. Of each image's annotations sixteen bytes are held: where they stand.
    """

    def __init__(self, path: Path):
        """Read `path` once, to its end. Raises DataError where it is no valid JSON or no COCO file."""
        self.path = path
        self.codes: dict[Id, int] = {}
        self.categories: set[Id] = set()
        self.samples: dict[str, dict[str, object]] = {}
        try:
            with open(path, "rb") as file:
                content = self._read(_Text(path, file))
        except OSError as error:
            raise DataError(f"{path}: can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # also numbers and nesting beyond what Python parses
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: not valid JSON: {error}") from error
        self.head = require_lists(path, content, empty=True)

    def _read(self, text: "_Text") -> dict[str, object]:
        content: dict[str, object] = {}
        if text.peek() != "{":
            text.value()
        else:
            for key in text.members():
                if key == "annotations" and text.peek() == "[":
                    content[key] = self._index(text.items())
                elif key == "annotations" and text.peek() == "{":  # by their ids: LIVECell's of one cell type
                    wrong = self._index(text.values())
                    content[key] = wrong if len(self.code) or wrong else {}
                elif key == "images" and text.peek() == "[":
                    content[key] = [item for item, _, _ in text.items()]
                else:
                    content[key] = text.value()
        if text.peek():
            raise text.wrong("extra data")
        return content

    def _index(self, annotations: Iterator[tuple[object, int, int]]) -> list[object]:
        """Note where the annotations stand; -> the last one that is no object, which is then refused by its name."""
        codes, starts, lengths = array("i"), array("q"), array("i")
        self.codes = {}
        wrong: list[object] = []
        for item, start, end in annotations:
            if not isinstance(item, dict):
                wrong = [item]
                continue
            for key in item.keys() - self.samples.keys():
                if item[key]:
                    self.samples[key] = item
            image, category = item.get("image_id"), item.get("category_id")
            if isinstance(category, (int, float, str)):
                self.categories.add(category)
            codes.append(self.codes.setdefault(image, len(self.codes)) if isinstance(image, (int, float, str)) else -1)
            starts.append(start)
            lengths.append(end - start)
        self.code = np.array(codes, np.int32)
        self.starts, self.lengths = np.array(starts, np.int64), np.array(lengths, np.int32)
        self.order = np.argsort(self.code, kind="stable").astype(np.int32)  # by image, each in the file's order
        self.first = np.searchsorted(self.code[self.order], np.arange(len(self.codes) + 1))
        return wrong

    def positions(self, image: Id) -> np.ndarray:
        """Which annotations belong to the image of that id, as the file counts them."""
        code = self.codes.get(image)
        return self.order[:0] if code is None else self.order[self.first[code] : self.first[code + 1]]

    def adopt(self, images: Collection[Id]) -> int:
        """Give images whose id no annotation names those that name it in the other kind (7 and "7"), where no image has
        that id. -> the number of such annotations."""
        found = 0
        for image in [key for key in images if key not in self.codes]:
            other = int(image) if isinstance(image, str) and image.isdecimal() and len(image) < 19 else str(image)
            if other in self.codes and other not in images:
                self.codes[image] = self.codes[other]
                found += len(self.positions(image))
        return found

    def without_image(self, images: Iterable[Id]) -> np.ndarray:
        """Which annotations belong to none of the images of these ids."""
        listed = np.zeros(len(self.codes) + 1, np.bool_)  # the last one stands for the code -1
        listed[[self.codes[image] for image in images if image in self.codes]] = True
        return np.flatnonzero(~listed[self.code])

    def read(self, positions: np.ndarray, file: BinaryIO) -> list[Annotation]:
        """These annotations, from the open file. Raises DataError where it has changed since."""
        out = []
        for start, length in zip(self.starts[positions].tolist(), self.lengths[positions].tolist(), strict=True):
            file.seek(start)
            try:
                out.append(decode(file.read(length).decode())[0])
            except ValueError as error:
                raise DataError(f"{self.path}: has changed while it was read") from error
        return out


def require_lists(path: Path, data: object, *, empty: bool = False) -> CocoFile:
    """`data`, if it has a COCO file's three lists of objects and an image (`empty`: or none, and no annotation).

    Raises DataError naming `path` if not.
    """
    data = data if isinstance(data, dict) else {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise DataError(f"{path}: not a COCO file: it has no list {key!r}")
        wrong = [item for item in data[key] if not isinstance(item, dict)]
        if wrong:
            raise DataError(f"{path}: {key} must hold objects, not {wrong[0]!r:.200}")
    if not data["images"] and not (empty and not data["annotations"]):
        raise DataError(f"{path}: lists no image")
    return cast(CocoFile, data)


class _Text:
    """The text of a JSON file, read piece by piece; `at` is the place in the piece `text`."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file = path, file
        self.text, self.at, self.done = "", 0, False
        self.plain = True  # whether the piece is ASCII
        self.mark = 0, 0  # a place in `text`, and its byte
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        if file.read(3) == codecs.BOM_UTF8:
            self.mark = 0, 3
        else:
            file.seek(0)

    def byte(self, at: int) -> int:
        """The byte of the file at which the character `at` of the piece stands; `at` never goes back."""
        place, byte = self.mark
        self.mark = at, byte + (at - place if self.plain else len(self.text[place:at].encode()))
        return self.mark[1]

    def more(self) -> None:
        """Read on: at least as much as is there, so that a long value is not parsed too often."""
        data = self.file.read(max(CHUNK, len(self.text) - self.at))
        byte = self.byte(self.at)
        self.text = self.text[self.at :] + self.decoder.decode(data, final=not data)
        self.at, self.mark, self.done = 0, (0, byte), not data
        self.plain = self.text.isascii()

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            spaces = SPACE.match(self.text, self.at)
            assert spaces is not None  # none at all will do
            self.at = spaces.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.done:
                return ""
            self.more()

    def value(self) -> object:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                value, end = decode(self.text, self.at)
                if end < len(self.text) or self.done:  # else a number may go on
                    self.at = end
                    return value
            except json.JSONDecodeError as error:
                if self.done:
                    self.at = max(self.at, error.pos)
                    raise self.wrong(error.msg) from None
            self.more()

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; the value of each must be read before the next."""
        self.at += 1
        while (found := self.peek()) != "}":
            if found != '"':
                raise self.wrong("a name in double quotes is expected")
            key = self.value()
            self._expect(":")
            yield str(key)
            if self._expect(",}") == "}":
                return
        self.at += 1

    def values(self) -> Iterator[tuple[object, int, int]]:
        """(value, first byte, end) of each value of the object that begins here."""
        for _ in self.members():
            self.peek()
            start = self.byte(self.at)
            value = self.value()
            yield value, start, self.byte(self.at)

    def items(self) -> Iterator[tuple[object, int, int]]:
        """(value, first byte, end) of each item of the list that begins here."""
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.peek()
            start = self.byte(self.at)
            value = self.value()
            yield value, start, self.byte(self.at)
            if self._expect(",]") == "]":
                return

    def _expect(self, characters: str) -> str:
        found = self.peek()
        if not found or found not in characters:
            raise self.wrong(f"{' or '.join(characters)} is expected")
        self.at += 1
        return found

    def wrong(self, what: str) -> DataError:
        return DataError(f"{self.path}: not valid JSON: {what} at byte {self.byte(self.at)}")
