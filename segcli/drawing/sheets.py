"""Many pictures on one page, each with a caption."""

import itertools
from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.dataset_info import DatasetInfo
from segcli.drawing.colours import Rgb, class_colours, object_colours
from segcli.drawing.overlays import draw
from segcli.drawing.text import draw_text, shorten, text_size, text_width
from segcli.types import Instances, Prediction, Target

PAPER = (250, 249, 247)
INK = (32, 32, 36)
FAINT = (112, 112, 118)
GAP = 14  # pixels between pictures
TEXT = 17  # pixels
LEGEND = 60  # classes that a legend has room for


def contact_sheet(
    pictures: list[np.ndarray], captions: list[str], *, columns: int | None = None, width: int = 1600, title: str = ""
) -> np.ndarray:
    """Pictures (uint8 RGB, any sizes) in rows, each with its caption below: -> uint8 RGB [H,width,3].

    columns: None chooses by number and shape. A picture keeps its proportions; a row is as high as its highest one.
    Drawn `cell_width(width, columns)` wide, pictures need no scaling here, and lines and text look alike in all.
    """
    if not pictures:
        raise ValueError("a sheet needs at least one picture")
    columns = columns or choose_columns([(p.shape[0], p.shape[1]) for p in pictures])
    cell = cell_width(width, columns)
    pictures = [_fit(p, cell, 2 * cell) for p in pictures]
    rows = [range(i, min(i + columns, len(pictures))) for i in range(0, len(pictures), columns)]
    line = round(1.6 * TEXT)
    top = GAP + (round(2.4 * TEXT) if title else 0)
    height = top + sum(max(pictures[i].shape[0] for i in row) + line + GAP for row in rows)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    if title:
        size = round(1.3 * TEXT)
        draw_text(sheet, shorten(title, size, width - 2 * GAP), GAP, GAP, size, INK)
    y = top
    for row in rows:
        high = max(pictures[i].shape[0] for i in row)
        for column, i in enumerate(row):
            picture = pictures[i]
            x = GAP + column * (cell + GAP) + (cell - picture.shape[1]) // 2
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            draw_text(sheet, shorten(captions[i], TEXT, cell), x, y + picture.shape[0] + 4, TEXT, FAINT)
        y += high + line + GAP
    return sheet


def draw_labels_beside_predictions(
    image: np.ndarray,
    target: Target,
    prediction: Prediction,
    info: DatasetInfo,
    *,
    score: float = 0.5,
    width: int | None = None,
) -> np.ndarray:
    """One image twice: what is labelled, and what is predicted with at least `score`. -> uint8 RGB [H,W,3].

    A prediction has the colour of the label that it overlaps most, one of its own where it overlaps none by half.
    width: of the whole; None keeps the image's own size (small ones are enlarged, see `draw`).
    """
    gap = 6
    half = (width - gap) // 2 if width else None
    of_labels, of_predictions = _shared_colours(target.instances, prediction.instances, info)
    left = draw(image, target, info, width=half, colours=of_labels)
    right = draw(image, prediction, info, width=half, colours=of_predictions, score=score)
    size = text_size(left.shape[:2])
    head = round(1.7 * size)
    pair = np.full((left.shape[0] + head, 2 * left.shape[1] + gap, 3), PAPER, np.uint8)
    for x, picture, text in (
        (0, left, _counted("labelled", target, 0)),
        (left.shape[1] + gap, right, _counted("predicted", prediction, score)),
    ):
        pair[head:, x : x + picture.shape[1]] = picture
        draw_text(pair, shorten(text, size, picture.shape[1]), x, round(0.25 * size), size, INK)
    return pair


def legend_of(shown: Sequence[Target | Prediction], info: DatasetInfo, width: int) -> np.ndarray | None:
    """`legend` of all classes, where it has room for them; else of those that most of the pictures `shown` have, and
    how many more there are. None for a single class, or where none of many is shown."""
    if len(info.names) == 1:
        return None
    colours = class_colours(info)
    if len(info.names) <= LEGEND:
        return legend(info.names, colours, width)
    counts = Counter(label for found in shown for label in _labels(found) if label < len(colours))
    if not counts:
        return None
    most = sorted(label for label, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:LEGEND])
    names, hues = [info.names[i] for i in most], [colours[i] for i in most]
    if (more := len(counts) - len(most)) > 0:
        names, hues = [*names, f"and {more:,} more"], [*hues, PAPER]
    return legend(names, hues, width)


def _labels(found: Target | Prediction) -> set[int]:
    """The classes that `draw` shows of it."""
    if found.panoptic is not None:
        return {segment.label for segment in found.panoptic.segments}
    if found.semantic is not None:
        return set(np.unique(np.asarray(found.semantic)).tolist())
    return set() if found.instances is None else set(found.instances.labels.tolist())


def legend(names: list[str], colours: list[tuple[int, int, int]], width: int) -> np.ndarray:
    """Class names beside their colours, wrapped to `width` pixels: uint8 RGB [H,width,3]."""
    line, x, y = round(1.7 * TEXT), GAP, GAP // 2
    places = []
    for name in names:
        need = text_width(name, TEXT) + 2 * TEXT + GAP
        if x + need > width and x > GAP:
            x, y = GAP, y + line
        places.append((x, y))
        x += need
    strip = np.full((y + line + GAP // 2, width, 3), PAPER, np.uint8)
    for name, colour, (x, y) in zip(names, colours, places, strict=True):
        cv2.rectangle(strip, (x, y + 2), (x + TEXT, y + 2 + TEXT), colour, -1)
        draw_text(strip, name, x + round(1.4 * TEXT), y + 1, TEXT, INK)
    return strip


def text_panel(lines: Sequence[str], width: int) -> np.ndarray:
    """Lines of text, cut at the right border: uint8 RGB [H,width,3]. Tabs part the columns of neighbouring lines."""
    line = round(1.6 * TEXT)
    panel = np.full((2 * GAP + line * len(lines), width, 3), PAPER, np.uint8)
    y = GAP
    for count, block in itertools.groupby((text.split("\t") for text in lines), len):
        rows = list(block)
        wide = [max(text_width(row[i], TEXT) for row in rows) + 2 * GAP for i in range(count)]
        for row in rows:
            x = GAP
            for i, cell in enumerate(row):
                if x < width - 2 * GAP:
                    draw_text(panel, shorten(cell, TEXT, width - GAP - x), x, y, TEXT, FAINT if i else INK)
                x += wide[i]
            y += line
    return panel


def _shared_colours(
    labelled: Instances, predicted: Instances | None, info: DatasetInfo
) -> tuple[list[Rgb], list[Rgb] | None]:
    """Colours of labels and predictions: the best-scored prediction that overlaps a label by half takes its colour."""
    if predicted is None:
        return object_colours(labelled.labels.tolist(), info), None
    colours = object_colours(labelled.labels.tolist() + predicted.labels.tolist(), info)
    of_labels, own = colours[: len(labelled)], colours[len(labelled) :]
    if not len(labelled) or not len(predicted):
        return of_labels, own
    overlap = _overlaps(predicted, labelled)
    overlap[predicted.labels.cpu().numpy()[:, None] != labelled.labels.cpu().numpy()] = 0
    scores = np.zeros(len(predicted)) if predicted.scores is None else predicted.scores.cpu().numpy()
    for i in np.argsort(-scores, kind="stable").tolist():
        best = int(overlap[i].argmax())
        if overlap[i, best] >= 0.5:
            own[i] = of_labels[best]
            overlap[:, best] = 0
    return of_labels, own


def _overlaps(predicted: Instances, labelled: Instances) -> np.ndarray:
    """IoU [P,L] of masks where both sides have them, else of boxes."""
    if predicted.masks is not None and labelled.masks is not None:
        return np.array(coco_mask.iou(predicted.rles(), labelled.rles(), [0] * len(labelled)))
    sides = [i.boxes.double().cpu().numpy().copy() for i in (predicted, labelled)]
    for xywh in sides:
        xywh[:, 2:] -= xywh[:, :2]
    return np.array(coco_mask.iou(*sides, [0] * len(labelled)))


def _counted(word: str, found: Target | Prediction, score: float) -> str:
    if found.panoptic is not None:
        return f"{word}: {len(found.panoptic.segments)} segments"
    if found.semantic is not None or found.instances is None:
        return word
    scores = found.instances.scores
    count = len(found.instances) if scores is None else int((scores >= score).sum())
    if scores is None or count or not len(scores):
        return f"{word}: {count}"
    return f"{word}: 0 (best score {round(100 * float(scores.max()))} %)"


def sheet_names(name: str, count: int, per_sheet: int) -> list[str]:
    """The files of `count` pictures: NAME.jpg, NAME-2.jpg, …"""
    return [f"{name}{f'-{number}' if number > 1 else ''}.jpg" for number in range(1, -(-count // per_sheet) + 1)]


def choose_columns(sizes: list[tuple[int, int]]) -> int:
    """Columns, 1 to 6, that make a sheet of pictures (h, w) about as wide as high."""
    aspect = float(np.median([w / h for h, w in sizes]))
    return int(np.clip(round((1.2 * len(sizes) / aspect) ** 0.5), 1, min(6, len(sizes))))


def cell_width(width: int, columns: int) -> int:
    """How wide one picture is on a sheet, in pixels."""
    return (width - GAP * (columns + 1)) // columns


def _fit(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
