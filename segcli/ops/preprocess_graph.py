"""`Preprocess` as tensor operations alone, so that it can lie inside an exported graph.

Every resizing rule is separable: one matrix for the rows, one for the columns, made of the image's size as it comes.
The canvas is fixed; what lies beyond the content is zero, as padding is.
Legend: H W the image, h w its content on the canvas, Y X the canvas.
"""

import dataclasses

import torch
from torch import Tensor

from segcli.ops.preprocess import Preprocess

LINEAR_STEPS = 2048  # OpenCV's 8-bit bilinear weights are multiples of 1 / 2048 (INTER_RESIZE_COEF_SCALE)
PILLOW_STEPS = 2**22  # and Pillow's of 2^-22 (PRECISION_BITS in its Resample.c)


@dataclasses.dataclass(frozen=True)
class Framed:
    """image [1,3,Y,X] normalised; padding [1,Y,X] bool, True = padded; size (H, W) of the original; the same, original,
    and content (h, w) as float64 scalars."""

    image: Tensor
    padding: Tensor
    size: tuple[int, int]
    content: tuple[Tensor, Tensor]
    original: tuple[Tensor, Tensor]


def frame(rule: Preprocess, image_HW3: Tensor) -> Framed:
    """A uint8 RGB image as `rule.image` and `rule.pad` make a model's input of it. An 8-bit value that lies between two
    whole numbers may fall to the other side, where OpenCV enlarges a few in a million."""
    height, width = image_HW3.shape[:2]
    one = torch.ones((), dtype=torch.float64, device=image_HW3.device)
    original = (height * one, width * one)
    canvas = fixed_canvas(rule)
    h, w = content_size(rule, *original)
    content = (h.clamp(max=canvas[0]), w.clamp(max=canvas[1]))  # DETR's rounding may exceed `longest`
    sides = list(zip(canvas, (height, width), content, original, strict=True))
    pixels_3HW = image_HW3.permute(2, 0, 1)
    if rule.method == "torchvision":
        rows_YH, columns_XW = (_linear(*side).float() for side in sides)
        resized = rows_YH @ (pixels_3HW.float() @ columns_XW.T)
    elif rule.method == "opencv":
        resized = _opencv(pixels_3HW.float(), sides)
    else:
        rows_YH, columns_XW = (_pillow(*side) for side in sides)
        across = torch.floor(pixels_3HW.double() @ columns_XW.T + 0.5)  # Pillow rounds after each of its two passes
        resized = torch.floor(rows_YH @ across + 0.5).float()
    rows_Y, columns_X = (torch.arange(n, device=one.device) < c for n, _, c, _ in sides)
    shown_YX = rows_Y[:, None] & columns_X
    mean, std = (torch.tensor(v, device=one.device)[:, None, None] for v in (rule.mean, rule.std))
    normalised = (resized / 255 - mean) / std * shown_YX
    return Framed(normalised[None], ~shown_YX[None], (height, width), content, original)


def fixed_canvas(rule: Preprocess) -> tuple[int, int]:
    """The canvas (Y, X) that every image fits on."""
    assert not rule.keep_size, "an image of any size fits on no canvas"
    return rule.canvas([(rule.longest, rule.longest)])


def content_size(rule: Preprocess, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """`rule.output_size` of float64 scalars."""
    short, long = torch.minimum(height, width), torch.maximum(height, width)
    if rule.method == "pil" and rule.shortest is not None:
        fits = torch.round(rule.longest * short / long)
        side = torch.where(long / short * rule.shortest > rule.longest, fits, torch.full_like(fits, rule.shortest))
        return torch.floor(side * height / short).clamp(min=1), torch.floor(side * width / short).clamp(min=1)
    if rule.method == "detectron2" and rule.shortest is not None:
        scale = rule.shortest / short
        first = scale * height, scale * width
        largest = torch.maximum(*first)
        shrink = torch.where(largest > rule.longest, rule.longest / largest, torch.ones_like(largest))
        return torch.floor(first[0] * shrink + 0.5), torch.floor(first[1] * shrink + 0.5)
    scale = rule.longest / long
    if rule.shortest is not None:
        scale = torch.minimum(scale, rule.shortest / short)
    to_int = torch.floor if rule.method == "torchvision" else torch.round
    return to_int(height * scale).clamp(min=1), to_int(width * scale).clamp(min=1)


def linear_places(side: int, content: Tensor, original: Tensor) -> Tensor:
    """Where `side` cells read, [side] float64 in cells of `original`, clamped to its first and last one, when
    `original` cells are resampled bilinearly to `content`."""
    at = torch.arange(side, device=content.device, dtype=torch.float64)
    return torch.minimum(((at + 0.5) * (original / content) - 0.5).clamp(min=0), original - 1)


# Weights are quotients of whole numbers below 2^31, each computed by one division: a runtime that has no 64-bit floats
# gets the same ones, and means that lie between two 8-bit values fall to the same side.


def _steps(side: int, length: int, content: Tensor, original: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole numbers: rows of the canvas [side,1], rows of the image [length], content, original."""
    rows = torch.arange(side, device=content.device)[:, None]
    return rows, torch.arange(length, device=content.device), content.long(), original.long()


def _linear(side: int, length: int, content: Tensor, original: Tensor) -> Tensor:
    """[side, length] float64: how much each of an image's `length` rows counts in each row of the canvas."""
    at, source, inside, whole = _steps(side, length, content, original)
    place = torch.minimum(((2 * at + 1) * whole - inside).clamp(min=0), 2 * inside * (whole - 1))  # times 2 · inside
    return (2 * inside - (place - 2 * inside * source).abs()).clamp(min=0).double() / (2 * inside)


def _pillow(side: int, length: int, content: Tensor, original: Tensor) -> Tensor:
    """Pillow's antialiased triangle."""
    at, source, inside, whole = _steps(side, length, content, original)
    reach = 2 * torch.maximum(inside, whole)
    triangle = (reach - ((2 * source + 1) * inside - (2 * at + 1) * whole).abs()).clamp(min=0).double()
    return torch.round(triangle / triangle.sum(1, keepdim=True).clamp(min=1) * PILLOW_STEPS) / PILLOW_STEPS


def _area(side: int, length: int, content: Tensor, original: Tensor) -> Tensor:
    """The share of each source row in what a row of the canvas covers."""
    at, source, inside, whole = _steps(side, length, content, original)
    low, high = torch.maximum(at * whole, source * inside), torch.minimum((at + 1) * whole, (source + 1) * inside)
    return (high - low).clamp(min=0).double() / whole


def _linear_rows(side: int, length: int, content: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """`_linear` in 2048ths, of the upper and of the lower one of two mixed rows, [side, length] each; beyond the first
    and last row both are that row, with the weights that two would have had (of columns there one is read)."""
    at, source, inside, whole = _steps(side, length, content, original)
    place = (2 * at + 1) * whole + inside  # times 2 · inside, and one row too far, so that none is below 0
    lower = place // (2 * inside)
    share = (place - lower * 2 * inside).double() / (2 * inside)
    last = whole - 1
    weights = torch.round((1 - share) * LINEAR_STEPS), torch.round(share * LINEAR_STEPS)
    rows = (lower - 1).clamp(min=0), lower
    upper_YH, lower_YH = (w * (source == torch.minimum(row, last)) for w, row in zip(weights, rows, strict=True))
    return upper_YH, lower_YH


def _opencv(pixels_3HW: Tensor, sides: list[tuple[int, int, Tensor, Tensor]]) -> Tensor:
    """INTER_AREA where the image shrinks, rounding halves to even (upwards where both sides are halved exactly); else
    INTER_LINEAR, which computes in whole numbers and drops the last bits of each of its two terms."""
    (_, _, h, height), (_, _, w, width) = sides
    shrunk, halved = h * w < height * width, (height == 2 * h) & (width == 2 * w)
    area_YH, area_XW = (_area(*side) for side in sides)
    columns_XW = torch.where(shrunk, area_XW, torch.round(_linear(*sides[1]) * LINEAR_STEPS)).float()
    across = pixels_3HW @ columns_XW.T
    upper_YH, lower_YH = _linear_rows(*sides[0])
    first_YH = torch.where(shrunk, area_YH, upper_YH).float()
    second_YH = torch.where(shrunk, 0.0, lower_YH).float()
    across = torch.where(shrunk, across, torch.floor(across / 16) / 65536)
    one, two = first_YH @ across, second_YH @ across
    mean = torch.where(halved, torch.floor(one + 0.5), torch.round(one))
    return torch.where(shrunk, mean, torch.floor((one.floor() + two.floor() + 2) / 4))
