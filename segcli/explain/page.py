"""All views of an image as one HTML page that needs no network: pictures, and what one can click."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from segcli.data.png import encode_png
from segcli.drawing.page import page
from segcli.explain.pictures import fitted
from segcli.explain.scene import Scene
from segcli.explain.view import Boxes, Maps, Matrix, Shown, Solids, View, Widget

SIDE = 900  # pixels of the longest side of the image that is clicked at
MOST_TIMES = 80  # pixels of a cell at most
QUALITY = 80  # of JPEG
COUNTABLE = 128  # cells of a side: of finer maps nobody sees single ones
FINE = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)  # colour in every pixel
Json = dict[str, object]


class Section(NamedTuple):
    name: str
    view: View
    shown: Shown


def explain_page(title: str, scene: Scene, sections: list[Section]) -> str:
    """HTML text; the script is drawing/explain.js."""
    height, width = scene.size
    data: Json = {
        "title": title,
        "image": _jpeg(fitted(scene.canvas, SIDE)[0]),
        "width": width,
        "height": height,
        "sections": [_section(*section) for section in sections],
    }
    solid = any(isinstance(widget, Solids) for section in sections for widget in section.shown.widgets)
    return page(data, title=title, scripts=("page.js", "explain.js"), with_plotly=solid)


def _section(name: str, view: View, shown: Shown) -> Json:
    line, text = view.source()
    return {
        "name": name,
        "title": view.title,
        "sees": view.sees,
        "paper": view.paper,
        "code": [f"{view.place}, line {line}", text],
        "facts": shown.facts,
        "columns": shown.in_a_row(),
        "pictures": [
            [_picture(p.pixels), p.caption, p.group, p.pixels.shape[1], p.pixels.shape[0]] for p in shown.pictures
        ],
        "widgets": [_widget(one) for one in shown.widgets],
    }


def _widget(widget: Widget) -> Json:
    if isinstance(widget, Maps):
        return _maps(widget)
    if isinstance(widget, Boxes):
        sets = [
            {"name": name, "boxes": _rounded(boxes), "texts": list(texts), "strengths": _rounded(strengths, 3)}
            for name, (boxes, texts, strengths) in widget.sets.items()
        ]
        return {"kind": "boxes", "sets": sets, "shown": widget.shown}
    if isinstance(widget, Solids):
        meshes = [
            {"name": name, "points": _rounded(points.ravel(), 3), "corners": corners.ravel().tolist()}
            for name, (points, corners) in widget.meshes.items()
        ]
        return {"kind": "solids", "meshes": meshes}
    assert isinstance(widget, Matrix)
    return {
        "kind": "matrix",
        "values": _rounded(widget.values, 4),
        "rows": list(widget.rows),
        "columns": list(widget.columns),
        "marked": [list(place) for place in widget.marked],
        "parts": {name: _rounded(values, 4) for name, values in widget.parts.items()},
    }


def _maps(widget: Maps) -> Json:
    """Maps as bytes, each scaled to its own maximum, in one grey PNG: map k begins at row (k // across)·h of column
    (k % across)·w."""
    count, h, w = widget.values.shape
    scaled = widget.values / np.maximum(widget.values.max((1, 2), keepdims=True), 1e-12)
    values = np.clip(scaled * 255, 0, 255).round().astype(np.uint8)
    across = max(1, round((count * h / w) ** 0.5))
    down = -(-count // across)
    sprite = np.zeros((down * h, across * w), np.uint8)
    for k, one in enumerate(values):
        row, column = divmod(k, across)
        sprite[row * h : row * h + h, column * w : column * w + w] = one
    return {
        "kind": "maps",
        "sprite": "data:image/png;base64," + base64.b64encode(encode_png(sprite, level=6)).decode("ascii"),
        "size": [h, w],
        "across": across,
        "names": list(widget.names),
        "most": _rounded(widget.values.max((1, 2)), 6),
        "covered": list(widget.covered),
        "boxes": None if widget.boxes is None else _rounded(widget.boxes),
        "cells": widget.cells,
        "points": None if widget.points is None else [_rounded(points, 2) for points in widget.points],
    }


def _rounded(values: np.ndarray, digits: int = 1) -> list[object]:
    return np.asarray(values, np.float64).round(digits).tolist()


def _picture(pixels: np.ndarray) -> str:
    """Enlarged cells as a small PNG of one pixel a cell, which the page enlarges again; all else as JPEG, and so cells
    that are too many to be counted, one pixel each."""
    for times in range(MOST_TIMES, 1, -1):
        if pixels.shape[0] % times or pixels.shape[1] % times:
            continue
        rows = pixels[::times]
        if not np.array_equal(rows[0], np.repeat(rows[0, ::times], times, 0)):  # a photograph is told by its first row
            continue
        small = rows[:, ::times]
        if not np.array_equal(pixels, np.repeat(np.repeat(small, times, 0), times, 1)):
            continue
        if max(small.shape) > COUNTABLE:
            return _jpeg(small, FINE)
        return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode("ascii")
    return _jpeg(pixels)


def _jpeg(pixels: np.ndarray, settings: Sequence[int] = ()) -> str:
    done, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *settings])
    assert done, "pictures here are small"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
