"""Training augmentation: from a recipe's `data.augment` to a function of (sample, generator, another sample).

The files of this folder say what each key does (`stages.py`: how to write one). The geometric ones only decide on one
exact map (`data/geometry.py`), which then moves image, boxes, masks, semantic maps and fields alike.
"""

import inspect
import typing
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import TypeVar

import albumentations
import numpy as np

from segcli.core import plugins
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.augment.stages import (
    Canvas,
    Change,
    Combine,
    Draw,
    Keep,
    Pixels,
    Plan,
    Resize,
    Rotate,
    Size,
    Sizing,
    Stage,
    Turn,
    Usual,
    chosen,
)
from segcli.data.geometry import Geometry, Scene, transform
from segcli.types import Coloured, Field, Sample

# the order in which augmentations of a stage draw, which the numbers of every recipe depend on: others follow by name
ORDER = ("rot90", "flip_vertical", "flip", "scale", "aspect", "colour", "blur")
GIVEN = {"info", "longest", "fields"}  # arguments of a `build` that are no keys of the recipe
S = TypeVar("S", bound=Stage)


def build_augment(
    settings: Mapping[str, object],
    *,
    canvas: Size | None,
    info: DatasetInfo,
    longest: int = 1333,
    fields: Mapping[str, type[Field]] = MappingProxyType({}),
) -> "Augment | None":
    """The augmentation that `settings` describe, a recipe's `data.augment`; None for {}.

    canvas: (H, W) that `scale` and `aspect` fill; without those two, images keep their sizes. longest: the long side at
    most, after `short_side`. fields: what objects carry beside box and mask. Raises UsageError for an unknown key, a
    bad value, and what the fields can't follow.
    """
    if not settings:
        return None
    modules = plugins.every("augmentation", asked=settings)
    owner = {key: name for name, module in modules.items() for key in _keys(module)}
    unknown = [str(key) for key in settings if key not in owner and key not in modules]
    known = [*{*owner, *plugins.names("augmentation")}] if unknown else []
    problems = [f"data.augment.{key} is not a setting ({plugins.nearest(key, known)})" for key in unknown]
    stages: dict[str, Stage] = {}
    for name in sorted(modules, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        own = {key: value for key, value in chosen(settings).items() if owner.get(key) == name}
        own = {key: _usual(modules[name], key) if value is True else value for key, value in own.items()}
        if name not in own and not _optional(modules[name]):
            idle = {key: one.default for key, one in inspect.signature(modules[name].build).parameters.items()}
            used = [key for key, value in own.items() if value != idle[key]]
            problems += [f"data.augment.{key} needs data.augment.{name}" for key in used]
            continue
        try:
            stage = plugins.call(modules[name].build, own, "data.augment", info=info, longest=longest, fields=fields)
        except UsageError as error:
            problems.append(str(error))
            continue
        if stage is not None:
            stages[name] = stage
    if problems:
        raise UsageError("; ".join(problems))
    _refuse_contradictions(stages, canvas)
    return Augment([*stages.values()], canvas)


def _keys(module: ModuleType) -> list[str]:
    """The keys of `data.augment` that a plugin takes."""
    return [key for key in inspect.signature(module.build).parameters if key not in GIVEN]


def _optional(module: ModuleType) -> bool:
    """Whether a plugin takes part where the recipe has none of its keys."""
    parameters = inspect.signature(module.build).parameters
    return all(parameters[key].default is not inspect.Parameter.empty for key in _keys(module))


def _usual(module: ModuleType, key: str) -> object:
    """What `true` stands for as the value of `key`; true itself, which is then refused, where nothing says so."""
    annotation = typing.get_type_hints(module.build, include_extras=True)[key]
    return next((mark.value for mark in typing.get_args(annotation) if isinstance(mark, Usual)), True)


def _refuse_contradictions(stages: Mapping[str, Stage], canvas: Size | None) -> None:
    """Raise UsageError where nothing, or more than one setting, decides how large inputs are."""
    relative = [name for name, stage in stages.items() if isinstance(stage, Resize) and stage.active]
    fixed = [name for name, stage in stages.items() if isinstance(stage, Canvas)]
    sizing = [name for name, stage in stages.items() if isinstance(stage, Sizing)]
    if relative and canvas is None and not fixed:
        raise UsageError(
            f"{' and '.join(f'data.augment.{name}' for name in relative)} need an input of one size",
            hint="set data.size to a number, or data.augment.crop",
        )
    if sizing and (others := [*relative, *fixed]):
        raise UsageError(f"data.augment.{sizing[0]} decides the size: leave {' and '.join(others)} away")


class Augment:
    """See `build_augment`. Picklable, so that worker processes can be started in any way.

    final: images have their size already, the model's own resize rule must not follow.
    """

    def __init__(self, stages: list[Stage], canvas: Size | None):
        of = lambda kind: [stage for stage in stages if isinstance(stage, kind)]
        self.turns: list[Turn] = of(Turn)
        self.resizes: list[Resize] = of(Resize)
        self.rotations: list[Rotate] = of(Rotate)
        self.combinations: list[Combine] = of(Combine)
        self.changes: list[Change] = of(Change)
        self.keeps: list[Keep] = of(Keep)
        self.sizing: Sizing | None = next(iter(of(Sizing)), None)
        fixed: Canvas | None = next(iter(of(Canvas)), None)
        self.cover, self.final = fixed is not None, self.sizing is not None
        self.canvas = fixed.size if fixed is not None else canvas
        if fixed is None and not any(one.active for one in self.resizes):
            self.canvas = None
        pixels: list[Pixels] = of(Pixels)
        self.pixels = albumentations.Compose([one.transform for one in pixels]) if pixels else None

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        """sample: masks are bool [N,H,W]; draw: gives another random sample. The result has no panoptic map."""
        combination = next((one for one in self.combinations if rng.random() < one.probability), None)
        if combination is not None:
            scene = self._combined(combination, sample, draw, rng)
        else:
            scene = transform(sample, self._geometry(sample.target.size, rng))
        for one in self.changes:
            one.change(scene, draw, rng)
        if self.pixels is not None:
            self.pixels.set_random_seed(int(rng.integers(2**31)))
            before, scene.image = scene.image, self.pixels(image=scene.image)["image"]
            for name, field in scene.fields.items():
                if isinstance(field, Coloured):
                    scene.fields[name] = field.recolour(before, scene.image)
        return scene.sample(sample, self.kept(scene))

    def kept(self, scene: Scene) -> np.ndarray:
        """Positions of the objects that stay."""
        return np.flatnonzero(np.logical_and.reduce([one.kept(scene) for one in self.keeps]))

    def _combined(self, combination: Combine, sample: Sample, draw: Draw, rng: np.random.Generator) -> Scene:
        samples, size = [sample, *(draw() for _ in range(combination.others))], sample.target.size
        canvas = self.canvas or (size if self.sizing is None else self.sizing.sizes(size, rng)[1])
        parts = combination.parts(canvas, rng)
        maps = [self._geometry(one.target.size, rng, part) for one, part in zip(samples, parts, strict=True)]
        return combination.join([transform(one, geometry) for one, geometry in zip(samples, maps, strict=True)])

    def _geometry(self, size: Size, rng: np.random.Generator, part: Size | None = None) -> Geometry:
        """The map of an image of `size`. part: the part of a common canvas that the image covers."""
        plan = Plan(size)
        happens = [rng.random() < turn.probability for turn in self.turns]
        for turn, happening in zip(self.turns, happens, strict=True):
            if happening:
                turn.turn(plan, rng)
        for one in self.resizes:
            one.resize(plan, rng)
        place = rng.random(2)
        for rotation in self.rotations:
            rotation.rotate(plan, rng)
        if (canvas := part or self.canvas) is not None:
            return plan.onto(canvas, place, cover=self.cover or part is not None)
        if self.sizing is not None:
            return plan.with_sizes(*self.sizing.sizes(plan.turned, rng))
        return plan.with_sizes(plan.turned, plan.turned)
