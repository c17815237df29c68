"""Image files: that they are there, their size, what they show, and which show the same.

What is wrong: a file is missing, can't be decoded, has another size than its labels were made on, is turned by EXIF, is
black or of one colour; the same picture, or nearly the same, is in two splits.
Why: labels lie elsewhere than their objects; scores on pictures that were trained on are too high.
Example: a phone's photograph that viewers turn, labelled before that turn; frames of one video in train and in val.
Mended: `--fix` leaves out what can't be read, and turns or scales labels onto the file's pixels; equal pictures are
only named.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segcli.core import trust
from segcli.core.coco_json import ImageEntry
from segcli.core.errors import DataError
from segcli.data.findings import Item
from segcli.data.image import SIDEWAYS, exif_turn, read_content, read_image
from segcli.data.near_duplicates import groups, thumbnail
from segcli.data.value_range import Range

AHEAD = 64  # images decoded in threads at a time; of each only what `Facts` has is kept
BLACK = 16  # an image is dark where nearly all of its pixels are below this grey level (of 255)
FLAT = 2  # an image is empty where its grey levels differ by no more than this
PIXELS = 2**16  # about as many pixels of an image are compared

Note = Callable[[str, Item], None]


class Facts(NamedTuple):
    """What is kept of a decoded image: (h, w), EXIF orientation, sha256 of the file, thumbnail, and what is wrong with
    what it shows: empty, or a few words."""

    size: tuple[int, int]
    turn: int
    content: bytes
    small: np.ndarray
    shown: str


class Images:
    """The image files of a dataset, as far as they were examined. place: where they are read; value_range: of
    images of more than 8 bits; note: takes (code, item)."""

    def __init__(self, place: trust.Images, value_range: Range | None, note: Note):
        self.place, self.value_range, self.note = place, value_range, note
        self.ids: dict[int, str] = {}
        self.splits: dict[str, str] = {}  # file name -> split
        self.contents: dict[bytes, tuple[str, str]] = {}  # sha256 -> (split, file name)
        self.thumbnails: list[tuple[str, str, np.ndarray]] = []  # (split, file name, thumbnail), one a content

    def examine(self, split: str, images: Sequence[ImageEntry], where: Path) -> Iterator[tuple[ImageEntry, bool]]:
        """Look at the files of usable image records, a few ahead in threads. -> each record, and whether it is the
        first one of a file that can be read. where: the annotation file, for messages.
        """
        look = lambda image: read_facts(self.place, image["file_name"], where, self.value_range)
        rest = iter(images)
        with ThreadPoolExecutor() as pool:
            while part := list(itertools.islice(rest, AHEAD)):
                for image, facts in zip(part, pool.map(look, part), strict=True):
                    yield image, self._examine(split, image, facts)

    def _examine(self, split: str, image: ImageEntry, facts: "Facts | DataError") -> bool:
        name, size = image["file_name"], (image["height"], image["width"])
        if image["id"] in self.ids:
            self.note(
                "duplicate_image_id", Item(split, name, detail=f"id {image['id']} is also {self.ids[image['id']]}")
            )
        self.ids.setdefault(image["id"], name)
        if name in self.splits:
            self.note("image_listed_twice", Item(split, name, detail=f"also in {self.splits[name]}"))
            return False  # its content is that of the other listing
        self.splits[name] = split
        if isinstance(facts, DataError):
            missing = not os.path.isfile(self.place.folder / name)
            self.note("image_missing" if missing else "image_unreadable", Item(split, name, detail=str(facts)))
            return False
        if facts.size != size:
            (h, w), (ah, aw) = facts.size, size
            code = "exif_rotated" if facts.turn in SIDEWAYS and (h, w) == (aw, ah) else "image_size"
            self.note(code, Item(split, name, detail=f"{w} x {h}, labelled as {aw} x {ah}"))
        elif facts.turn in (2, 3, 4) or (facts.turn in SIDEWAYS and size[0] == size[1]):
            self.note("exif_unsure", Item(split, name))
        if facts.shown:
            self.note("blank_image", Item(split, name, detail=facts.shown))
        other_split, other = self.contents.setdefault(facts.content, (split, name))
        if other == name:
            self.thumbnails.append((split, name, facts.small))
        else:
            code = "same_image" if other_split != split else "same_image_twice"
            self.note(code, Item(split, name, detail=f"as {other} in {other_split}"))
        return True

    def compare(self) -> None:
        """Pictures that look alike in different splits; files of the same content count once, as such."""
        for group in groups([small for _, _, small in self.thumbnails]):
            first_split, first, _ = self.thumbnails[group[0]]
            for i in group[1:]:
                split, name, _ = self.thumbnails[i]
                if split != first_split:
                    self.note("near_duplicate", Item(split, name, detail=f"like {first} in {first_split}"))


def shown(pixels: np.ndarray) -> str:
    """Why nothing can be seen on uint8 RGB [H,W,3]: it has one colour or is nearly black; else empty."""
    step = max(1, round((pixels.shape[0] * pixels.shape[1] / PIXELS) ** 0.5))
    rows = pixels[::step]
    rows = rows.reshape(len(rows), -1)  # NumPy takes thirty times as long over columns of three
    low, high = rows.min(0).reshape(-1, 3)[::step].min(0), rows.max(0).reshape(-1, 3)[::step].max(0)
    if int((high - low).max()) <= FLAT:
        return f"one colour, {pixels[0, 0].tolist()}"
    if int(high.max()) < BLACK:
        return f"nearly black: its values end at {int(high.max())} of 255"
    return ""


def read_facts(images: trust.Images, name: str, where: Path, value_range: Range | None) -> "Facts | DataError":
    """What is to be known of an image file, or why it can't be read."""
    try:
        path = images.path(name, where)
        data = read_content(path)
        pixels = read_image(path, value_range, data)
    except DataError as error:
        return error
    content = hashlib.sha256(data).digest()
    return Facts((pixels.shape[0], pixels.shape[1]), exif_turn(data), content, thumbnail(pixels), shown(pixels))
