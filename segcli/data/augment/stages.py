"""What an augmentation can be. A file of this folder, or a plugin `augmentation:NAME`, defines `build(*, NAME, ...)`,
which returns one of these classes, or None for a setting that changes nothing.

The parameters of `build` are keys of `data.augment`: their annotations are the schema, and `Usual` says what `true`
stands for. `info` (DatasetInfo), `longest` (the long side at most, in pixels) and `fields` (name -> class of what
objects carry beside box and mask) are given to a `build` that names them. One whose parameters all have defaults takes
part in every augmentation, also where the recipe lacks its keys: so it draws its random numbers always, and a setting
more leaves the draws of the others as they were.

Everything random comes from the generator that is passed: a sample depends on its own key alone.
"""

import dataclasses
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import numpy as np
import pydantic

from segcli.core.errors import UsageError
from segcli.data.geometry import Geometry, Scene
from segcli.types import Field, Rotatable, Sample

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import: it asks a server for its newest version
import albumentations

Size = tuple[int, int]  # (height, width) in pixels
Draw = Callable[[], Sample]  # gives another random sample of the dataset
Share = Annotated[float, pydantic.Field(strict=True, ge=0, le=1)]
Side = Annotated[int, pydantic.Field(strict=True, ge=16, le=8192)]  # pixels


class Usual(NamedTuple):
    """In the annotation of a `build` parameter: the value that `true` stands for."""

    value: float


def chosen(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings of a recipe's `data.augment` that are on: null and false turn one off."""
    return {key: value for key, value in settings.items() if value is not None and value is not False}


def refuse_mixed(key: str, fields: Mapping[str, type[Field]]) -> None:
    """Raise UsageError where objects have fields, which can't be mixed with those of another image."""
    if fields:
        raise UsageError(f"data.augment.{key}: can't be used with {min(fields)}; set it to 0")


def refuse_turned(key: str, fields: Mapping[str, type[Field]]) -> None:
    """Raise UsageError where a field can't follow an image that is turned."""
    if fixed := [name for name, kind in fields.items() if not issubclass(kind, Rotatable)]:
        raise UsageError(f"data.augment.{key}: {fixed[0]} can be mirrored left to right only (no rotate); set it to 0")


@dataclasses.dataclass
class Plan:
    """How an image of `size` gets onto its canvas, as one augmentation after another decides it.

    turns: quarter turns counter-clockwise; scale: factor on the size at which the image fits the canvas; stretch:
    logarithm of the factor on its height over its width; degrees: counter-clockwise rotation about its centre.
    """

    size: Size
    turns: int = 0
    flip_vertical: bool = False
    flip: bool = False
    scale: float = 1.0
    stretch: float = 0.0
    degrees: float = 0.0

    @property
    def turned(self) -> Size:
        """The image's size after its quarter turns."""
        return (self.size[1], self.size[0]) if self.turns % 2 else self.size

    def onto(self, canvas: Size, place: np.ndarray, *, cover: bool) -> Geometry:
        """The map onto `canvas`: the image fits it at scale 1, or covers it. place [2]: 0..1 each way, from flush with
        one border to flush with the other, whichever of image and canvas is larger."""
        (h, w), (height, width) = self.turned, canvas
        scale = self.scale * (max if cover else min)(height / h, width / w)
        new_h = max(1, round(h * scale * math.exp(self.stretch / 2)))
        new_w = max(1, round(w * scale * math.exp(-self.stretch / 2)))
        offset = round(place[0] * (height - new_h)), round(place[1] * (width - new_w))
        return self.with_sizes((new_h, new_w), canvas, offset)

    def with_sizes(self, size: Size, canvas: Size, offset: Size = (0, 0)) -> Geometry:
        """The map that makes the image `size` large, and puts it at `offset` of `canvas`."""
        return Geometry(self.turns, self.flip_vertical, self.flip, size, canvas, offset, self.degrees)


@dataclasses.dataclass
class Turn(ABC):
    """Happens with a probability, before the size is decided: quarter turns, mirrors."""

    probability: float

    @abstractmethod
    def turn(self, plan: Plan, rng: np.random.Generator) -> None: ...


@dataclasses.dataclass
class Resize(ABC):
    """Changes the size relative to the canvas. active: whether it needs a canvas, so inputs of one size."""

    active: bool

    @abstractmethod
    def resize(self, plan: Plan, rng: np.random.Generator) -> None: ...


class Rotate(ABC):
    """Turns the image by any angle, once size and place are decided."""

    @abstractmethod
    def rotate(self, plan: Plan, rng: np.random.Generator) -> None: ...


@dataclasses.dataclass
class Canvas:
    """Every input becomes this large, and the image covers it at scale 1."""

    size: Size


class Sizing(ABC):
    """Decides each image's size by itself, in place of the model's own rule."""

    @abstractmethod
    def sizes(self, size: Size, rng: np.random.Generator) -> tuple[Size, Size, Size]:
        """Of an image of `size`: its new size, the canvas, the offset on it (y, x)."""


@dataclasses.dataclass
class Combine(ABC):
    """With a probability, several samples share one canvas; each is augmented in its own part. others: how many."""

    probability: float
    others = 3

    @abstractmethod
    def parts(self, canvas: Size, rng: np.random.Generator) -> list[Size]:
        """The sizes of the parts."""

    @abstractmethod
    def join(self, scenes: list[Scene]) -> Scene: ...


class Change(ABC):
    """Changes the scene on its canvas, image and labels, in place. draw: gives another sample."""

    @abstractmethod
    def change(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> None: ...


@dataclasses.dataclass
class Pixels:
    """Changes the image's colours alone: one of albumentations' transforms."""

    transform: albumentations.BasicTransform


class Keep(ABC):
    """Decides which objects stay in the target."""

    @abstractmethod
    def kept(self, scene: Scene) -> np.ndarray:
        """bool [N]."""


Stage = Turn | Resize | Rotate | Canvas | Sizing | Combine | Change | Pixels | Keep
