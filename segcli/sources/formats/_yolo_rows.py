"""What YOLO's files hold beside boxes and polygons: the words of a data.yaml, and keypoints."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.yaml_file import read_yaml
from segcli.sources.formats._coco_head import flip_pairs

HINT = "write a data.yaml with kpt_shape: [points, values a point]"
FEWEST = 6  # rows by which keypoints of two values are told from polygons
EMPTY = ("", "~", "null", "Null", "NULL")


class Loader(yaml.SafeLoader):
    """The safe loader, in which a class may be called no, on, null or 1.0: only whole numbers are no text."""


Loader.yaml_implicit_resolvers = {}
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^(?:0|[1-9][0-9]*)$"), list("0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])
Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def load(file: Path) -> dict[str, object]:
    """The content of a data.yaml: text, whole numbers, lists and mappings; None for an empty value but of `names`.

    Raises DataError.
    """
    content = read_yaml(file, load=lambda text: yaml.load(text, Loader=Loader))
    if not isinstance(content, dict):
        raise DataError(f"{file}: holds no keys")
    content = {k: None if k != "names" and isinstance(v, str) and v in EMPTY else v for k, v in content.items()}
    return content


@dataclasses.dataclass(frozen=True)
class Pose:
    """Keypoints of a data.yaml. values: numbers a point, 2 (x, y) or 3 (and COCO's visibility); names: of the points of
    each class; pairs: those that change places in a mirror image, None: by their names; named: whether it names them.
    """

    count: int
    values: int
    names: Mapping[int, tuple[str, ...]]
    pairs: tuple[tuple[int, int], ...] | None
    named: bool

    def category(self, name: str, key: int) -> Category:
        """A class with its keypoints."""
        points = self.names.get(key) or tuple(str(number) for number in range(1, self.count + 1))
        return Category(
            name, key, keypoints=points, flip_pairs=flip_pairs(points) if self.pairs is None else self.pairs
        )

    def read(self, rest: np.ndarray, size: tuple[int, int], where: str) -> list[float]:
        """What stands behind a box, as COCO's x, y, visibility times K. Of two values a point that is negative or at 0
        is not labelled. Raises DataError."""
        wanted = self.count * self.values
        if len(rest) != wanted:
            raise DataError(f"{where}: {len(rest)} numbers behind the box, and kpt_shape says {wanted}")
        points = rest.reshape(self.count, self.values)
        if self.values == 2:
            seen = np.where((points < 0).any(1) | (points == 0).all(1), 0, 2)
        else:
            seen = points[:, 2]
        if not np.isin(seen, (0, 1, 2)).all():
            raise DataError(f"{where}: a visibility is {seen[~np.isin(seen, (0, 1, 2))][0]:g}, not 0, 1 or 2")
        out = np.column_stack([points[:, :2] * (size[1], size[0]), seen]) * (seen > 0)[:, None]
        return [float(v) for v in out.ravel()]


def pose_of(content: Mapping[str, object], file: Path) -> Pose | None:
    """The keypoints that a data.yaml declares; None where it declares none. Raises DataError for broken ones."""
    shape, flip, named = (content.get(key) for key in ("kpt_shape", "flip_idx", "kpt_names"))
    if shape is None:
        return None
    if not (
        isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[0] > 0 and shape[1] in (2, 3)
    ):
        raise DataError(f"{file}: kpt_shape: {shape!r:.60} is not the number of points and 2 or 3")
    count = shape[0]
    if flip is not None and (not isinstance(flip, list) or {*map(repr, flip)} != {*map(repr, range(count))}):
        raise DataError(f"{file}: flip_idx: {flip!r:.60} does not order the {count} points")
    pairs = None if flip is None else tuple((i, other) for i, other in enumerate(flip) if i < other)
    listed = dict(enumerate(named)) if isinstance(named, list) else named if isinstance(named, dict) else {}
    if any(not isinstance(points, list) or len(points) != count for points in listed.values()):
        raise DataError(f"{file}: kpt_names: must list {count} names for each class")
    names = {key: tuple(str(point) for point in points) for key, points in listed.items()}
    return Pose(count, shape[1], names, pairs, bool(names))


def refuse_keypoints(rows: Iterable[tuple[Path, Sequence[str]]]) -> None:
    """Raise DataError where rows of labels are a box with keypoints: 5 + 2k or 5 + 3k numbers that make no polygons.

    rows: of some files. All have one length then, their first numbers are a box inside the image, and each third number
    is a visibility (0, 1, 2), or the size of the box makes no second corner: it lies further off than all other points,
    or goes its own way from row to row, where neighbouring corners move together.
    """
    numbers: list[list[float]] = []
    first = None
    for file, words in rows:
        try:
            values = [float(word) for word in words]
        except ValueError:
            continue  # is named where it is read
        if len(values) > 6:
            first = first or file
            numbers.append(values)
        elif len(values) != 5:
            return
    if first is None or len({len(values) for values in numbers}) > 1:
        return
    table = np.array(numbers)
    if not np.isfinite(table).all():
        return
    boxes, rest = table[:, 1:5], table[:, 5:]
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    if (boxes[:, 2:] <= 0).any() or low.min() < -0.01 or high.max() > 1.01:
        return
    count = rest.shape[1]
    seen = count % 3 == 0 and bool(np.isin(rest[:, 2::3], (0, 1, 2)).all())
    corners = table[:, 1:].reshape(len(table), -1, 2) if count % 2 == 0 else None
    visible = seen and (len(table) >= 3 or bool((rest[:, 2::3] == 2).any()))
    if visible or (corners is not None and len(table) >= FEWEST and (_far(corners) or _apart(corners))):
        how = f"{count // 3} keypoints of three values" if visible else f"{count // 2} keypoints of two values"
        raise DataError(
            f"{first}: its rows are no polygons, but a box with {how} each, and no kpt_shape says so", hint=HINT
        )


def _far(points: np.ndarray) -> bool:
    """Whether in [N,P,2] the second point lies further from the middle of the others than any other from its own."""
    total = points.sum(1, keepdims=True)
    others = (total - points) / (points.shape[1] - 1)
    distance = np.linalg.norm(points - others, axis=2)
    return bool((distance.argmax(1) == 1).mean() >= 0.8)


def _apart(points: np.ndarray) -> bool:
    """Whether in [N,P,2] the second point does not move with the first, in neither direction."""
    one, two = points[:, 0] - points[:, 0].mean(0), points[:, 1] - points[:, 1].mean(0)
    length = np.sqrt((one**2).sum(0) * (two**2).sum(0))
    moves = length > 1e-9
    together = np.divide((one * two).sum(0), length, out=np.zeros(2), where=moves)
    return bool((together < 0.5).all()) and bool((one**2).sum(0).max() > 1e-6)
