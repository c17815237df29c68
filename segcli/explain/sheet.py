"""A view as one PNG: what it is, its pictures, and what was counted."""

import numpy as np

from segcli.drawing.sheets import GAP, TEXT, contact_sheet, text_panel
from segcli.drawing.text import text_width
from segcli.explain.view import Shown, View

WIDTH = 1600  # pixels


def sheet(view: View, shown: Shown) -> np.ndarray:
    """uint8 RGB [H,WIDTH,3]: of pictures in groups the first group alone."""
    first = shown.pictures[0].group if shown.pictures else ""
    pictures = [picture for picture in shown.pictures if picture.group == first]
    title = view.title + (f" · {first}" if first else "")
    place = f"{view.paper[0]} · segcli/{view.code}"
    lines = [title, *wrapped(" ".join([view.sees, *shown.facts]), WIDTH - 2 * GAP), place]
    panel = text_panel(lines, WIDTH)
    if not pictures:
        return panel
    columns = shown.columns or 3
    captions = [picture.caption for picture in pictures]
    return np.concatenate([panel, contact_sheet([p.pixels for p in pictures], captions, columns=columns, width=WIDTH)])


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, TEXT) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
