"""Numbers as pictures: heat over the image, features as colours, boxes, cells that one can count."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.drawing.chips import Chip, draw_chips
from segcli.drawing.colours import Rgb, ink_on, oklch
from segcli.drawing.sheets import INK, PAPER, TEXT
from segcli.drawing.text import draw_text, text_size, text_width

SAMPLED = 2_000  # cells that decide a map's main directions
TABLE = 780  # pixels that a table is wide at least: text then has its own size on a sheet of two columns
MAP = 128  # cells of a map on the page at most
SIDE = 560  # pixels of the longest side of a picture, about
STRIP, MOST_LONGER = 4, 2.8  # times as long as wide, from which a picture is larger and has a row of its own
_SUB = 4  # bits after the point in OpenCV's coordinates


def fitted(image: np.ndarray, side: int = SIDE) -> tuple[np.ndarray, float]:
    """(the picture with its longest side of `side` pixels, how many of its pixels one of the image's has become). A
    strip is up to MOST_LONGER times as long."""
    short, long = sorted(image.shape[:2])
    factor = side * min(MOST_LONGER, max(1.0, long / short / STRIP)) / long
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), factor


def cells(values_hw: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A small map [h,w] or [h,w,3] uint8 with its cells as squares, its longest side about `side` pixels."""
    times = max(1, round(side / max(values_hw.shape[:2])))
    return np.repeat(np.repeat(values_hw, times, 0), times, 1)


def heat(values_hw: np.ndarray, most: float | None = None) -> np.ndarray:
    """Values ≥ 0 as colours, black (0) over red to yellow (`most`; None: the largest), uint8 RGB [h,w,3]."""
    top = float(values_hw.max(initial=0)) if most is None else most
    scaled = np.clip(values_hw / max(top, 1e-12) * 255, 0, 255).astype(np.uint8)
    return cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO)[:, :, ::-1].copy()


def heat_over(image: np.ndarray, values_hw: Tensor, covered: tuple[float, float], side: int = SIDE) -> np.ndarray:
    """Heat over the greyed image. covered: (h, w) in the image's pixels that the map lies over, see `Scene.covered`."""
    picture, factor = fitted(image, side)
    values = values_hw.float().cpu().numpy()
    large = cv2.resize(
        values,
        (max(1, round(covered[1] * factor)), max(1, round(covered[0] * factor))),
        interpolation=cv2.INTER_NEAREST,
    )
    large = cv2.copyMakeBorder(
        large[: picture.shape[0], : picture.shape[1]],
        *(0, max(0, picture.shape[0] - large.shape[0]), 0, max(0, picture.shape[1] - large.shape[1])),
        cv2.BORDER_REPLICATE,
    )
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.float32)
    share = np.clip(large / max(float(values.max(initial=0)), 1e-12), 0, 1)[:, :, None] ** 0.7
    colour = heat(large).astype(np.float32)
    return np.clip(grey * (0.75 - 0.6 * share) + colour * (0.1 + 0.85 * share), 0, 255).astype(np.uint8)


def feature_colours(
    map_Chw: Tensor, basis: tuple[Tensor, Tensor] | None = None
) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
    """(uint8 RGB [h,w,3], the basis): the map's three main directions as red, green and blue, from their 1st to their
    99th percentile; with a `basis` (mean [C], directions [C,3]) two maps are coloured alike."""
    rows = map_Chw.float().flatten(1).T
    if basis is None:
        mean = rows.mean(0)
        centred = rows - mean
        directions = _main_directions(centred[:: -(-len(centred) // SAMPLED)])
        basis = mean, directions
    axes = ((rows - basis[0]) @ basis[1]).unflatten(0, map_Chw.shape[1:]).cpu().numpy()
    if axes.shape[2] < 3:  # a map of one or two channels
        axes = np.repeat(axes[:, :, :1], 3, 2)
    low, high = np.percentile(axes, 1, (0, 1)), np.percentile(axes, 99, (0, 1))
    return np.clip((axes - low) / np.maximum(high - low, 1e-9) * 255, 0, 255).astype(np.uint8), basis


def _main_directions(rows_NC: Tensor) -> Tensor:
    """[C,3]: the directions in which centred rows differ most, by subspace iteration: an eigendecomposition of a
    backbone's 2,048 channels takes a minute."""
    start = torch.randn(rows_NC.shape[1], 8, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.qr(start).Q
    for _ in range(6):
        found = torch.linalg.qr(rows_NC.T @ (rows_NC @ found)).Q
    along = rows_NC @ found
    found = found @ torch.linalg.eigh(along.T @ along).eigenvectors.flip(1)[:, :3]  # largest first
    return found * torch.where(found.sum(0) < 0, -1.0, 1.0)  # a direction and its opposite are the same: choose one


def boxes_over(
    image: np.ndarray,
    boxes_N4: Tensor,
    colours: Sequence[Rgb],
    texts: Sequence[str] | None = None,
    *,
    width: int = 2,
    side: int = SIDE,
) -> np.ndarray:
    """The image under boxes (xyxy in its pixels), the last ones on top, each with its text where there is room."""
    picture, factor = fitted(image, side)
    corners = boxes_N4.float().cpu().numpy().reshape(-1, 4) * factor
    for box, colour in zip(corners, colours, strict=True):
        rectangle(picture, box, colour, width)
    if texts is not None:
        rows = [
            Chip([text], colour, tuple(box)) for text, colour, box in zip(texts, colours, corners, strict=True) if text
        ]
        draw_chips(picture, rows[::-1], text_size(picture.shape[:2]))
    return picture


def rectangle(picture: np.ndarray, box: np.ndarray, colour: Rgb, width: int) -> None:
    """The outline of a box (xyxy in the picture's pixels), with a dark seam that shows on any ground."""
    corners = np.rint((box - 0.5) * 2**_SUB).astype(int)
    for ink, wide in (((0, 0, 0), width + 2), (colour, width)):
        cv2.rectangle(picture, corners[:2].tolist(), corners[2:].tolist(), ink, wide, cv2.LINE_AA, _SUB)


def dot(picture: np.ndarray, x: float, y: float, colour: Rgb, radius: float) -> None:
    """A filled circle with a dark seam, at a place in the picture's pixels."""
    at = [round((v - 0.5) * 2**_SUB) for v in (x, y)]
    for ink, size in (((0, 0, 0), radius + 1), (colour, radius)):
        cv2.circle(picture, at, round(size * 2**_SUB), ink, -1, cv2.LINE_AA, _SUB)


def lay(
    picture: np.ndarray,
    box: np.ndarray,
    colours_hw3: np.ndarray,
    share: float | np.ndarray = 0.65,
    *,
    smooth: bool = False,
) -> None:
    """Lay a small picture over a box (xyxy in the large one's pixels), in place. share: of its colours, or [h,w] of
    each cell's."""
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)  # of a box below a pixel one is seen
    way = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    inside = picture[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)]
    if not inside.size:
        return
    weights = np.broadcast_to(np.asarray(share, np.float32), colours_hw3.shape[:2])
    own, part = (
        cv2.resize(one, (x2 - x1, y2 - y1), interpolation=way)[max(0, -y1) :, max(0, -x1) :]
        for one in (colours_hw3, weights)
    )
    own, part = own[: inside.shape[0], : inside.shape[1]], part[: inside.shape[0], : inside.shape[1], None]
    inside[:] = np.rint(inside * (1 - part) + own * part).astype(np.uint8)


def crop_around(image: np.ndarray, box_4: Tensor, margin: float = 0.3) -> tuple[np.ndarray, tuple[int, int]]:
    """(the part of an image around a box, (x, y) of its corner): the box and, on every side, a share of its longer
    one."""
    x1, y1, x2, y2 = box_4.tolist()
    more = margin * max(x2 - x1, y2 - y1, 8)
    left, top = max(0, int(x1 - more)), max(0, int(y1 - more))
    right, bottom = min(image.shape[1], int(x2 + more) + 1), min(image.shape[0], int(y2 + more) + 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)], (left, top)


def shrunk(maps_Khw: Tensor) -> np.ndarray:
    """Maps with at most MAP cells on their longer side, for the page."""
    factor = MAP / max(maps_Khw.shape[1:])
    return (F.interpolate(maps_Khw[None], scale_factor=factor, mode="area")[0] if factor < 1 else maps_Khw).numpy()


def hues(count: int) -> list[Rgb]:
    """As many colours as one can tell apart."""
    return [oklch(0.74 - 0.08 * (k % 2), 0.17, 40 + 360 * (k * 0.618034 % 1)) for k in range(count)]


def table(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], marked: Sequence[tuple[int, int]] = ()
) -> np.ndarray:
    """Numbers [R,C] as a table with colours from low to high, uint8 RGB; `marked` cells have a frame."""
    wide = max(70, *(text_width(name, TEXT) + 16 for name in columns))
    left, line = max(text_width(name, TEXT) for name in rows) + 24, 30
    picture = np.full((line * (len(rows) + 1), max(TABLE, left + wide * len(columns)), 3), PAPER, np.uint8)
    share = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    colours = heat(share, 1.0)
    for c, name in enumerate(columns):
        draw_text(picture, name, left + c * wide + 6, 5, TEXT, INK)
    for r, name in enumerate(rows):
        draw_text(picture, name, 8, (r + 1) * line + 5, TEXT, INK)
        for c in range(len(columns)):
            x, y = left + c * wide, (r + 1) * line
            picture[y + 1 : y + line - 1, x + 1 : x + wide - 1] = colours[r, c]
            red, green, blue = colours[r, c].tolist()
            draw_text(picture, f"{values[r, c]:.2f}", x + 8, y + 5, TEXT, ink_on((red, green, blue)))
            if (r, c) in marked:
                cv2.rectangle(picture, (x + 1, y + 1), (x + wide - 3, y + line - 3), (90, 200, 255), 3)
    return picture
