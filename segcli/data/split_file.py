"""A split file: a text file that names the val images, one a line; everything else is train."""

import unicodedata
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.files import read_text

LARGEST = 256 * 2**20  # bytes: names of some million images


def named_images(path: Path, file_names: list[str]) -> set[int]:
    """Positions in `file_names` of the images that the file names; folder and suffix may be left out, empty lines and
    lines that begin with # do not count. Raises DataError for a line that names no image, or several."""
    lines = read_text(path, largest=LARGEST).splitlines()
    known: dict[str, set[int]] = {}
    for i, file_name in enumerate(file_names):
        name = Path(_normal(file_name))
        for key in {str(name), str(name.with_suffix("")), name.name, name.stem}:
            known.setdefault(key, set()).add(i)
    chosen: set[int] = set()
    for number, line in enumerate(lines, 1):
        written = _normal(line.strip())
        if "\0" in written:
            raise DataError(f"{path}, line {number}: {written!r:.200} is no name of an image")
        if not written or written.startswith("#"):
            continue
        # as it stands first; then with the folder or suffix that it has elsewhere taken off
        keys = (written, Path(written).name, Path(written).stem)
        hits: set[int] = next((known[k] for k in keys if k in known), set())
        if len(hits) != 1:
            problem = f"{len(hits)} images" if hits else "no image"
            raise DataError(f"{path}, line {number}: {written!r} names {problem} of the dataset")
        chosen |= hits
    return chosen


def _normal(name: str) -> str:
    # the same name may be composed (Linux, Windows) or decomposed (macOS): 한 or ㅎ + ㅏ + ㄴ
    return unicodedata.normalize("NFC", name)
