"""What a view is: a file of explain/views/ whose `build()` returns a View. Adding one is adding a file."""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import torch

from segcli.explain.pictures import STRIP
from segcli.explain.scene import Scene


@dataclasses.dataclass
class Picture:
    """pixels: uint8 RGB [h,w,3]. group: what it belongs to, such as one of several objects: the PNG shows the first
    group, on the page one is chosen."""

    pixels: np.ndarray
    caption: str
    group: str = ""


@dataclasses.dataclass
class Maps:
    """Heat maps over the image, of which the page shows one: chosen by its name, by a click on its cell (`cells`: map k
    belongs to cell k of the maps' own grid) or into its box.

    values [K,h,w] ≥ 0, each drawn from 0 to its own maximum; boxes [K,4] xyxy in pixels of the canvas; covered: (h, w)
    in pixels of the canvas that the maps lie over; points: for each map [P,3], x, y in canvas pixels and weight 0..1.
    """

    values: np.ndarray
    names: Sequence[str]
    covered: tuple[float, float]
    boxes: np.ndarray | None = None
    cells: bool = False
    points: Sequence[np.ndarray] | None = None


@dataclasses.dataclass
class Boxes:
    """Sets of boxes over the image, of which the page shows one, as many as a slider says; best first.

    sets: name -> (boxes [N,4] xyxy in pixels of the canvas, texts [N], strengths [N] 0..1).
    """

    sets: dict[str, tuple[np.ndarray, Sequence[str], np.ndarray]]
    shown: int = 20


@dataclasses.dataclass
class Matrix:
    """A table of numbers, coloured from low to high. marked: (row, column) of cells with a frame; parts: name -> [R,C],
    what a clicked cell is made of."""

    values: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    marked: Sequence[tuple[int, int]] = ()
    parts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Solids:
    """Meshes to turn about, of which the page shows one. meshes: name -> (points [V,3], y up and z to the viewer;
    corners [F,3])."""

    meshes: dict[str, tuple[np.ndarray, np.ndarray]]


Widget = Maps | Boxes | Matrix | Solids


@dataclasses.dataclass
class Shown:
    """What a view has to show. facts: sentences with what was counted; columns: of its pictures, None for three."""

    pictures: list[Picture] = dataclasses.field(default_factory=list)
    widgets: list[Widget] = dataclasses.field(default_factory=list)
    facts: list[str] = dataclasses.field(default_factory=list)
    columns: int | None = None

    def in_a_row(self) -> int:
        """How many of its pictures lie side by side: of nothing but strips, one."""
        strips = self.pictures and all(p.pixels.shape[1] >= STRIP * p.pixels.shape[0] for p in self.pictures)
        return 1 if strips else self.columns or 3


@dataclasses.dataclass(frozen=True)
class View:
    """title, sees: what it is and, in one sentence, what one sees. paper: (place, address). code: the function that
    computes it; pages show its source, since a link to a file leads nowhere on another machine. needs: the keys of
    `model.inspect` that it draws from; a model without one of them has no such view. labels: it needs the image's
    labels, too. split: it is of a whole split, not of one image."""

    title: str
    sees: str
    paper: tuple[str, str]
    code: Callable[..., object]
    needs: tuple[str, ...]
    draw: Callable[[Scene], Shown]
    labels: bool = False
    split: bool = False

    @property
    def place(self) -> str:
        """Where the code is in any copy of the package, such as "segcli/ops/paste.py: paste_masks"."""
        return f"{self.code.__module__.replace('.', '/')}.py: {self.code.__qualname__}"

    def source(self) -> tuple[int, str]:
        """(its line there, its text)."""
        lines, number = inspect.getsourcelines(self.code)
        return number, textwrap.dedent("".join(lines)).rstrip()

    def shown(self, scene: Scene) -> Shown:
        """What `draw` has to show, or that there is nothing."""
        with torch.inference_mode():
            shown = self.draw(scene)
        if not shown.pictures and not shown.facts:
            shown.facts = ["The model found nothing on this image."]
        return shown
