"""Which detections of overlapping tiles are the same object.

Two tiles both see what lies where they overlap, so two detections of one class are one object where they agree there:
by intersection over union, or, where a tile's border cuts one of them, by intersection over the smaller one (the
measure of SAHI's merging, Akyon et al. 2022, here asked of the overlap alone, where both had the chance to see the
same pixels). Each detection has at most one partner in another tile, so that neighbours that touch stay apart.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Rle
from segcli.data.annotations import crop_rle

SAME = 0.5
COVERED = 0.8  # a cut piece without partner is dropped where another object has so much of it
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2, half-open


@dataclasses.dataclass
class Piece:
    """One detection of one tile. box: xyxy on the whole image; mask: on the tile; entry: its fields as JSON values;
    cut: whether a border of the tile that is none of the image's runs along it."""

    tile: Rect
    label: int
    score: float
    box: np.ndarray
    mask: Rle | None
    entry: dict[str, object]
    cut: bool


def is_cut(box: np.ndarray, tile: Rect, size: tuple[int, int]) -> bool:
    """Whether an object of that box goes on beyond its tile, for all that the tile shows. size: (H, W) of the image."""
    near = max(2.0, (tile[2] - tile[0]) / 100)
    inner = (tile[0] > 0, tile[1] > 0, tile[2] < size[1], tile[3] < size[0])
    gaps = (box[0] - tile[0], box[1] - tile[1], tile[2] - box[2], tile[3] - box[3])
    return any(border and gap <= near for border, gap in zip(inner, gaps, strict=True))


def groups_of(pieces: Sequence[Piece]) -> list[list[int]]:
    """The pieces of each object, by position."""
    parent = list(range(len(pieces)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    by_tile: dict[Rect, list[int]] = {}
    for i, piece in enumerate(pieces):
        by_tile.setdefault(piece.tile, []).append(i)
    tiles = [*by_tile]
    corners = np.array(tiles).reshape(-1, 4)
    for k, tile in enumerate(tiles):
        rest = corners[k + 1 :]
        near = (rest[:, :2] < tile[2:]).all(1) & (rest[:, 2:] > tile[:2]).all(1)
        for other in (np.flatnonzero(near) + k + 1).tolist():
            for i, j in _partners(pieces, by_tile[tile], by_tile[tiles[other]]):
                parent[root(i)] = root(j)
    groups: dict[int, list[int]] = {}
    for i in range(len(pieces)):
        groups.setdefault(root(i), []).append(i)
    return [*groups.values()]


def _partners(pieces: Sequence[Piece], first: list[int], second: list[int]) -> list[tuple[int, int]]:
    """One-to-one pairs of two tiles' pieces that are one object, the best first."""
    a, b = pieces[first[0]].tile, pieces[second[0]].tile
    shared: Rect = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    there = [(i, _within(pieces[i], shared)) for i in first if _touches(pieces[i].box, shared)]
    here = [(j, _within(pieces[j], shared)) for j in second if _touches(pieces[j].box, shared)]
    found = []
    for i, one in there:
        for j, other in here:
            if pieces[i].label == pieces[j].label and _touches(pieces[i].box, pieces[j].box):
                both = np.count_nonzero(one & other)
                areas = np.count_nonzero(one), np.count_nonzero(other)
                cut = pieces[i].cut or pieces[j].cut
                whole = min(areas) if cut else sum(areas) - both
                if both and both >= SAME * whole:
                    found.append((both / whole, both, i, j))
    out: list[tuple[int, int]] = []
    taken: set[int] = set()
    for _, _, i, j in sorted(found, reverse=True):
        if not {i, j} & taken:
            taken |= {i, j}
            out.append((i, j))
    return out


def _touches(box: np.ndarray, other: np.ndarray | Rect) -> bool:
    return bool(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3])


def _within(piece: Piece, place: Rect) -> np.ndarray:
    """What of a piece lies in a place of its tile, bool [h,w]."""
    x1, y1, x2, y2 = place
    if piece.mask is None:
        out = np.zeros((y2 - y1, x2 - x1), bool)
        bx1, by1, bx2, by2 = (int(v) for v in np.rint(piece.box))
        out[max(by1 - y1, 0) : max(by2 - y1, 0), max(bx1 - x1, 0) : max(bx2 - x1, 0)] = True
        return out
    return crop_rle(piece.mask, x1 - piece.tile[0], y1 - piece.tile[1], x2 - piece.tile[0], y2 - piece.tile[1])


def place_mask(mask: np.ndarray, x: int, y: int, size: tuple[int, int]) -> Rle:
    """A bool mask [h,w] at (x, y) of an image of `size` (H, W) as RLE; nothing of the image's size is ever made."""
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = mask.T
    change = np.diff(columns, axis=1)
    ends = [(column + x) * size[0] + row + y for column, row in (np.nonzero(change == 1), np.nonzero(change == -1))]
    start, stop = ends[0].astype(np.int64), ends[1].astype(np.int64)
    apart = np.ones(len(start) + 1, bool)  # a column that ends at the bottom goes on at the top of the next
    apart[1:-1] = start[1:] != stop[:-1]
    edges = np.stack([start[apart[:-1]], stop[apart[1:]]], 1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [size[0] * size[1]]]))
    return coco_mask.frPyObjects({"size": list(size), "counts": counts.tolist()}, *size)


def on_image(piece: Piece, size: tuple[int, int]) -> Rle:
    """The piece's mask on the whole image of `size` (H, W)."""
    assert piece.mask is not None
    x, y, w, h = (int(v) for v in coco_mask.toBbox(piece.mask))
    cut = crop_rle(piece.mask, x, y, x + max(w, 1), y + max(h, 1))
    return place_mask(cut, x + piece.tile[0], y + piece.tile[1], size)
