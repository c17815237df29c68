"""Keypoints read from a region's maps without enlarging every map to its region's own size, for exported graphs."""

import torch
from torch import Tensor

CUBIC = -0.75  # the constant of torch's bicubic interpolation
AROUND = 2  # cells to each side of a map's highest one among which the place is sought
LARGEST = 1400  # pixels of a region's longer side; of a longer one not every pixel is looked at


def read(maps_NKSS: Tensor, boxes_N4: Tensor) -> tuple[Tensor, Tensor]:
    """torchvision's `heatmaps_to_keypoints`: the highest pixel of each map enlarged bicubically to its box, as places
    [N,K,2] on the canvas, and its value [N,K]. Of sides longer than some hundred pixels only those within AROUND cells
    of the map's highest cell are read: the same places but where two cells far apart are nearly as high."""
    side = maps_NKSS.shape[-1]
    best_NK = maps_NKSS.flatten(2).argmax(-1)
    window = 2 * AROUND * (-(-LARGEST // side)) + 2
    weights, valid, pixels = [], [], []
    for axis, cell_NK in ((1, best_NK // side), (0, best_NK % side)):
        length_N11 = (boxes_N4[:, axis + 2] - boxes_N4[:, axis]).clamp(min=1).ceil()[:, None, None]
        near = ((cell_NK[..., None] + 0.5 - AROUND) * length_N11 / side).floor()
        first = torch.where(length_N11 <= window, 0.0, near)
        pixel_NKP = first + torch.arange(window, device=maps_NKSS.device)
        weights.append(_bicubic((pixel_NKP + 0.5) * side / length_N11 - 0.5, side))
        valid.append((pixel_NKP >= 0) & (pixel_NKP < length_N11))
        pixels.append(pixel_NKP)
    values_NKPP = weights[0] @ maps_NKSS @ weights[1].mT
    values_NKPP = values_NKPP.masked_fill(~(valid[0][..., :, None] & valid[1][..., None, :]), -torch.inf)
    highest_NK, at_NK = values_NKPP.flatten(2).max(-1)
    places = []
    for axis, of_axis, at in ((0, pixels[1], at_NK % window), (1, pixels[0], at_NK // window)):
        pixel_NK = of_axis.gather(-1, at[..., None])[..., 0]
        low_N1 = boxes_N4[:, axis, None]
        extent_N1 = (boxes_N4[:, axis + 2, None] - low_N1).clamp(min=1)
        places.append((pixel_NK + 0.5) * (extent_N1 / extent_N1.ceil()) + low_N1)
    return torch.stack(places, -1), highest_NK


def _bicubic(places: Tensor, cells: int) -> Tensor:
    """[...,cells]: the weights of bicubic interpolation at `places`, in cells; beyond the border its cell counts on."""
    first = places.floor()
    number = torch.arange(cells, device=places.device)
    total = torch.zeros_like(places[..., None] * number)
    for step in range(-1, 3):
        cell = first + step
        distance = (places - cell).abs()
        near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
        far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
        weight = torch.where(distance <= 1, near, far)
        total = total + weight[..., None] * (cell.clamp(0, cells - 1)[..., None] == number)
    return total
