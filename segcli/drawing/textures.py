"""Textures of bodies, put onto people and taken from them, by the charts, u and v that DensePose finds.

An atlas has a square a chart, laid out as DensePose's authors do: six below one another, then the next six to their
right; in each, u runs to the right and v upwards.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial import KDTree

from segcli.core.errors import DataError
from segcli.data.decoders import FAILURES, open_image
from segcli.data.image import read_content
from segcli.fields.densepose import DensePose

ROWS = 6
SIDE = 128  # pixels of a chart's square in atlases that are written


def read_atlas(path: Path, charts: int) -> np.ndarray:
    """uint8 RGBA [charts,N,N,4] of a picture; where it has no alpha, black is transparent, as in the published one.
    Raises DataError."""
    columns = -(-charts // ROWS)
    content = read_content(path)
    try:
        with open_image(content) as image:
            clear = image.has_transparency_data
            pixels = np.asarray(image.convert("RGBA"))
    except FAILURES as error:
        raise DataError(f"{path}: is no picture that can be read") from error
    height, width = pixels.shape[:2]
    side = width // columns
    if (height, width) != (ROWS * side, columns * side) or not side:
        raise DataError(
            f"{path}: a texture of {charts} charts is {columns} squares wide and {ROWS} high, "
            f"and this is {width} × {height}",
            hint="segcli predict --save texture writes such ones",
        )
    squares = pixels.reshape(ROWS, side, columns, side, 4).transpose(2, 0, 1, 3, 4).reshape(-1, side, side, 4)[:charts]
    if not clear:
        squares = squares.copy()
        squares[..., 3] = 255 * squares[..., :3].any(3)
    return squares


def dressed(image: np.ndarray, people: DensePose, atlas: np.ndarray) -> np.ndarray:
    """uint8 RGB [H,W,3] with the atlas [charts,N,N,4] on the people that were found, the first ones on top."""
    out, side = image.copy(), atlas.shape[1]
    for i in reversed(range(len(people))):
        rows, columns, chart, place = _on_body(image, people, i)
        x, y = ((place * [1, -1] + [0, 1]).T * (side - 1)).astype(int)  # cut off, not rounded: as the reference does
        ink = atlas[chart - 1, y, x].astype(np.float32)
        under, alpha = out[rows, columns], ink[:, 3:] / 255
        out[rows, columns] = np.rint(under + (ink[:, :3] - under) * alpha).astype(np.uint8)
    return out


def undressed(image: np.ndarray, people: DensePose, i: int) -> np.ndarray:
    """The atlas of person i, uint8 RGBA, from the image's pixels uint8 RGB [H,W,3]: each place on a chart has the
    colour of the pixel that is nearest to it there; transparent where none is about as near as pixels are to each
    other."""
    columns = -(-people.surface.charts // ROWS)
    out = np.zeros((columns, ROWS, SIDE, SIDE, 4), np.uint8)
    u, v = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(1, 0, SIDE))
    at = np.stack([u.ravel(), v.ravel()], 1)
    y, x, chart, place = _on_body(image, people, i)
    for c in np.unique(chart).tolist():
        own = chart == c
        # pixels of a chart that is seen whole lie 1 / √n apart, and further one way where it is foreshortened
        away, nearest = KDTree(place[own]).query(at, distance_upper_bound=1.5 / np.sqrt(own.sum()))
        near = np.isfinite(away)
        square = out[(c - 1) // ROWS, (c - 1) % ROWS].reshape(-1, 4)
        square[near, :3] = image[y[own], x[own]][nearest[near]]
        square[near, 3] = 255
    return out.transpose(1, 2, 0, 3, 4).reshape(ROWS * SIDE, columns * SIDE, 4)


def _on_body(image: np.ndarray, people: DensePose, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of an image's pixels on person i [P], their charts [P] and (u, v) [P,2]."""
    assert people.boxes is not None, "predictions have boxes"
    x1, y1, x2, y2 = people.boxes[i].tolist()
    rows = np.arange(max(0, int(y1)), min(image.shape[0], int(np.ceil(y2))))
    columns = np.arange(max(0, int(x1)), min(image.shape[1], int(np.ceil(x2))))
    y, x = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    said = people.at(i, torch.from_numpy(np.stack([x, y], 1).astype(np.float32) + 0.5)).numpy()
    on = said[:, 0] > 0
    return y[on], x[on], said[on, 0].astype(int), said[on, 1:]
