"""A view as one PNG: what it is, its pictures, and what was counted."""

import numpy as np

from segcli.drawing.sheets import GAP, TEXT, contact_sheet, text_panel
from segcli.drawing.text import text_width
from segcli.explain.view import Shown, View

WIDTH = 1600  # pixels


def sheet(view: View, shown: Shown, *, every_group: bool = False) -> np.ndarray:
    """uint8 RGB [H,WIDTH,3]: of pictures in groups the first group alone or, one below the other, all of them."""
    groups = list(dict.fromkeys(picture.group for picture in shown.pictures))
    first = groups[0] if groups else ""
    title = view.title + (f" | {first}" if first and not every_group else "")
    place = f"{view.paper[0]} | {view.place}"
    lines = [title, *wrapped(" ".join([view.sees, *shown.facts]), WIDTH - 2 * GAP), place]
    parts = [text_panel(lines, WIDTH)]
    for group in groups if every_group else groups[:1]:
        own = [picture for picture in shown.pictures if picture.group == group]
        captions, heading = [picture.caption for picture in own], group if every_group else ""
        pixels = [picture.pixels for picture in own]
        parts.append(contact_sheet(pixels, captions, columns=shown.in_a_row(), width=WIDTH, title=heading))
    return np.concatenate(parts)


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
