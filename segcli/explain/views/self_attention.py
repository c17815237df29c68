"""The encoder's self-attention: from which cells of the image a cell takes what it becomes."""

import torch.nn.functional as F

from segcli.explain.pictures import dot, heat_over
from segcli.explain.scene import Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.layers.transformer import Attention

MOST = 1_500_000  # numbers of the page; of larger maps every second row and column is shown
AT = ((0.35, 0.3), (0.35, 0.7), (0.65, 0.3), (0.65, 0.7), (0.5, 0.5))  # (row, column) of points without objects


def build() -> View:
    return View(
        "Encoder self-attention",
        "Where the cell under the blue dot looks, in the last encoder layer, mean over the heads. In the paper's "
        "DETR that is mostly its own object; what all cells look at alike holds something about the whole image.",
        ("DETR, figure 3", "https://arxiv.org/abs/2005.12872"),
        Attention.forward,
        ("encoder_attention",),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    attention = scene.tensor("encoder_attention")[0].mean(0)  # [T,h,w]
    covered = scene.covered(attention)
    rows, columns = scene.content(attention).shape[1:]
    square = scene.content(attention.unflatten(0, attention.shape[1:])[:rows, :columns])
    maps = square.flatten(0, 1)
    pictures = []
    for row, column in _places(scene, rows, columns, covered):
        picture = heat_over(scene.canvas, square[row, column], covered)
        factor = picture.shape[1] / scene.size[1]
        y, x = (  # the middle of what the image has of the cell
            (at + min(at + 1, side / cover * cells)) / 2 * cover / cells * factor
            for at, cells, cover, side in zip((row, column), (rows, columns), covered, scene.size, strict=True)
        )
        dot(picture, x, y, (90, 200, 255), 7)
        own = float(square[row, column].flatten().topk(min(9, rows * columns)).values.sum())
        pictures.append(Picture(picture, f"row {row + 1}, column {column + 1}: 9 cells have {100 * own:.0f} % of it"))
    while maps.numel() > MOST:
        rows, columns = rows // 2, columns // 2
        maps = F.avg_pool2d(square[: 2 * rows : 2, : 2 * columns : 2].flatten(0, 1)[:, None], 2, ceil_mode=True)[:, 0]
        maps = maps[:, :rows, :columns]
        covered = covered[0] * rows * 2 / square.shape[0], covered[1] * columns * 2 / square.shape[1]
        square = maps.unflatten(0, (rows, columns))
    return Shown(pictures, [Maps(maps.numpy(), [], covered, cells=True)], columns=3)


def _places(scene: Scene, rows: int, columns: int, covered: tuple[float, float]) -> list[tuple[int, int]]:
    """Cells: the middles of what was found and one far from them, or places spread over the image."""
    cell = lambda y, x: (min(rows - 1, int(y / covered[0] * rows)), min(columns - 1, int(x / covered[1] * columns)))
    height, width = scene.size
    places = [cell(row * height, column * width) for row, column in AT]
    if "boxes" in scene.inside:
        query, scores, _ = scene.sure(5)
        if float(scores[0]) >= scene.score:
            boxes = scene.tensor("boxes")[0][query]
            places = [cell((y1 + y2) / 2, (x1 + x2) / 2) for x1, y1, x2, y2 in boxes.tolist()] + places[:1]
    return list(dict.fromkeys(places))[:6]
