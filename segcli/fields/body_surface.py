"""The charts that cover the surface of a body, and what becomes of them in a mirror image.

What a dataset declares in info.json under `declared.densepose` (all optional):
- charts: how many there are (24); coarse: coarse parts (14);
- mirror: of each chart, the one in its place in a mirror image; mirror_coarse: the same for coarse parts;
- mirror_uv: "1-u", where u runs the other way in a mirror image and v stays, or a side file (.npz) with arrays U and V
  [charts, R, R]: what u and v of chart c become at row v · (R - 1), column u · (R - 1).
- geodesics: a side file (.npz) with distances along the surface, see geodesics.py.
Without mirror and mirror_uv a flip is refused: for the body of DensePose-COCO they are the tables of its authors.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from segcli.core.errors import DataError, UsageError
from segcli.fields.side_files import read_arrays
from segcli.types import Origin


@dataclasses.dataclass(frozen=True)
class Surface:
    """The charts of a body: how many, how many coarse parts, and what becomes of them in a mirror image.

    mirror [charts + 1], mirror_coarse [coarse + 1]: with 0, the background, in front; mirror_uv: "1-u", a file, or
    None. geodesics: a file, or None.
    """

    charts: int = 24
    coarse: int = 14
    mirror: tuple[int, ...] | None = None
    mirror_coarse: tuple[int, ...] | None = None
    mirror_uv: str | Path | None = None
    geodesics: Path | None = None

    def flipped(self, points: Tensor) -> Tensor:
        """Chart, u and v [P,3] in a mirror image. Raises UsageError without tables."""
        if self.mirror is None or self.mirror_uv is None:
            raise UsageError(
                "data.augment.flip: the dataset declares no mirror tables of its DensePose charts",
                hint="--set data.augment.flip=0, or declare mirror and mirror_uv (docs/densepose.md)",
            )
        chart, u, v = points[:, 0].long(), points[:, 1], points[:, 2]
        other = torch.tensor(self.mirror, device=points.device)[chart].to(points)
        if self.mirror_uv == "1-u":
            return torch.stack([other, 1 - u, v], 1)
        tables = _tables(Path(self.mirror_uv), self.charts).to(points)
        side = tables.shape[-1] - 1
        row, column = (v * side).round().long(), (u * side).round().long()
        return torch.stack([other, *tables[:, (chart - 1).clamp(min=0), row, column]], 1)


def surface(declared: Mapping[str, object], origin: Origin | None = None) -> Surface:
    """What a dataset declares for densepose. origin: finds its tables; a head, which only counts, has none.

    Raises DataError for what is malformed, naming the key.
    """
    where = "info.json: declared.densepose"
    unknown = declared.keys() - {field.name for field in dataclasses.fields(Surface)}
    if unknown:
        raise DataError(f"{where}: {sorted(unknown)[0]!r:.80} is no key of it")
    counts = {"charts": declared.get("charts", 24), "coarse": declared.get("coarse", 14)}
    for key, count in counts.items():
        if type(count) is not int or not 1 <= count <= 254:
            raise DataError(f"{where}.{key}: is no number from 1 to 254, but {count!r:.80}")
    charts, coarse = cast("list[int]", [*counts.values()])
    mirror, mirror_coarse = (
        _places(declared.get(key), count, f"{where}.{key}")
        for key, count in (("mirror", charts), ("mirror_coarse", coarse))
    )
    uv, distances = declared.get("mirror_uv"), declared.get("geodesics")
    file = origin.file if origin is not None else lambda name: Path(str(name))
    return Surface(
        charts,
        coarse,
        mirror,
        mirror_coarse,
        mirror_uv="1-u" if uv == "1-u" else None if uv is None else file(uv),
        geodesics=None if distances is None else file(distances),
    )


def _places(given: object, count: int, where: str) -> tuple[int, ...] | None:
    """A list of 1 to count in another order, with 0 in front."""
    if given is None:
        return None
    if not isinstance(given, list) or {type(one) for one in given} != {int} or sorted(given) != [*range(1, count + 1)]:
        raise DataError(f"{where}: is no list of the numbers 1 to {count}, each once")
    return (0, *given)


@functools.lru_cache(maxsize=4)  # a flip asks for each object
def _tables(path: Path, charts: int) -> Tensor:
    """float32 [2, charts, R, R]. Raises DataError."""
    tables = read_arrays(path, "U", "V")
    side = tables[0].shape[-1] if tables[0].ndim else 0
    if side < 1 or any(one.shape != (charts, side, side) for one in tables):
        shapes = " and ".join(str(list(one.shape)) for one in tables)
        raise DataError(f"{path}: U and V must be [{charts}, R, R], and are {shapes}")
    return torch.from_numpy(np.stack(tables).astype(np.float32))
