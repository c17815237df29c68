"""Training augmentation, from the recipe's `data.augment` mapping to a function of (sample, generator, another sample).

Everything random comes from the generator that is passed, so a sample depends on its own key alone. The geometric part
is `geometry.py` on purpose: one exact map must move the image, boxes, masks, semantic maps and fields alike. Colour and
blur are albumentations', which is imported here and nowhere else.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.plugins import nearest
from segcli.data.augment import copy_paste
from segcli.data.augment.mosaic import mosaic
from segcli.data.geometry import Geometry, Scene, transform
from segcli.types import Sample

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import: it asks a server for its newest version
import albumentations

LEAST_PIXELS = 60  # an object that was cut and has fewer left is dropped


@dataclasses.dataclass(frozen=True)
class Settings:
    """The keys of `data.augment`; probabilities are 0..1, and true stands for the usual one.

    flip, flip_vertical: mirror left to right, top to bottom. rot90: a random number of quarter turns.
    rotate: by up to +-so many degrees about the centre; corners that turn out of the image are cut, needs masks.
    scale: [lo, hi], the image's size relative to fitting the canvas, then a random crop or placement on it (large-scale
    jitter is [0.1, 2.0]).
    crop: pixels; a square of this side takes the canvas's place, and scale is relative to a short side of this length.
    aspect: log-uniform jitter of the aspect ratio by up to +-s. colour: strength of brightness, contrast (1: +-30 %),
    saturation (0.5 to 1.4) and hue jitter. blur: a light Gaussian blur. copy_paste: one to three objects of another
    image on top. mosaic: four images, each filling one part of the canvas. short_side: the lengths in pixels of which
    one becomes the short side, in place of the model's own rule; scale_crop: DETR's policy, a random crop before that.
    min_visible: objects of which a smaller share is left, or that were cut to below 60 pixels, are
    dropped from the target (crowd regions are kept while a pixel is left; an uncut object is never too small).
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    rot90: float = 0.0
    scale: tuple[float, float] | None = None
    crop: int = 0
    short_side: tuple[int, ...] = ()
    scale_crop: float = 0.0
    rotate: float = 0.0
    aspect: float = 0.0
    colour: float = 0.0
    blur: float = 0.0
    copy_paste: float = 0.0
    mosaic: float = 0.0
    min_visible: float = 0.2


USUAL = {
    "flip": 0.5,
    "flip_vertical": 0.5,
    "rot90": 1.0,
    "blur": 0.1,
    "copy_paste": 0.5,
    "mosaic": 0.5,
    "scale_crop": 0.5,
    "rotate": 15.0,
    "colour": 1.0,
}  # what true means


# DETR's policy for short sides up to 800: the short side becomes 400, 500 or 600, and a crop's sides are 384 to 600
BEFORE_CROP = (0.5, 0.625, 0.75)  # of the longest of `short_side`
CROP = (0.48, 0.75)


def build_augment(
    settings: dict[str, Any], *, canvas: tuple[int, int] | None, info: DatasetInfo, longest: int = 1333
) -> Callable[[Sample, np.random.Generator, Callable[[], Sample]], Sample] | None:
    """The augmentation that `settings` (see `Settings`) describe; None for {}.

    canvas: (H, W) that `scale` and `aspect` fill; without those two, images keep their sizes. longest: the long side at
    most, after `short_side`. The third argument of the result draws another random sample. The result's masks are bool
    [N,H,W], its panoptic map None.
    Raises UsageError for an unknown key or a bad value.
    """
    if not settings:
        return None
    chosen = _parse(settings)
    if (chosen.scale or chosen.aspect) and canvas is None and not chosen.crop:
        raise UsageError(
            "data.augment.scale and data.augment.aspect need an input of one size",
            hint="set data.size to a number, or data.augment.crop",
        )
    if chosen.copy_paste and not info.num_things:
        raise UsageError(f"data.augment.copy_paste: the dataset {info.name!r} has no things to paste")
    if chosen.short_side and (chosen.scale or chosen.aspect or chosen.crop):
        raise UsageError("data.augment.short_side decides the size: leave scale, aspect and crop away")
    if chosen.scale_crop and not chosen.short_side:
        raise UsageError("data.augment.scale_crop needs data.augment.short_side", hint="short_side: [480, 640, 800]")
    return Augment(chosen, canvas, longest)


class Augment:
    """See `build_augment`. Picklable, so that worker processes can be started in any way.

    final: images have their size already, the model's own resize rule must not follow.
    """

    def __init__(self, settings: Settings, canvas: tuple[int, int] | None, longest: int):
        self.settings, self.longest, self.final = settings, longest, bool(settings.short_side)
        self.canvas = (settings.crop, settings.crop) if settings.crop else canvas
        if not (settings.crop or settings.scale or settings.aspect):
            self.canvas = None
        s = settings.colour
        spread = lambda down, up: (max(0.0, 1 - down * s), 1 + up * s)
        jitter = albumentations.ColorJitter(
            spread(0.3, 0.3), spread(0.3, 0.3), spread(0.5, 0.4), (-0.02 * s, 0.02 * s), p=1
        )
        blur = albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=settings.blur)
        steps = ([jitter] if s else []) + ([blur] if settings.blur else [])
        self.pixels = albumentations.Compose(steps) if steps else None

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Callable[[], Sample]) -> Sample:
        # settings that came later draw only where they are set: recipes without them keep the numbers that they had
        if self.settings.mosaic and rng.random() < self.settings.mosaic:
            scene = self._mosaic([sample, draw(), draw(), draw()], rng)
        else:
            scene = transform(sample, self._geometry(sample.target.size, rng))
        if rng.random() < self.settings.copy_paste:
            copy_paste.paste(scene, draw(), rng)
        if self.pixels is not None:
            self.pixels.set_random_seed(int(rng.integers(2**31)))
            scene.image = self.pixels(image=scene.image)["image"]
        return scene.sample(sample, self._kept(scene))

    def _mosaic(self, samples: list[Sample], rng: np.random.Generator) -> Scene:
        """Four samples in the four parts of one canvas, which meet at a point in its middle."""
        size = samples[0].target.size
        height, width = self.canvas or (self._sizes(*size, rng)[1] if self.settings.short_side else size)
        y, x = (rng.uniform(0.3, 0.7, 2) * (height, width)).round().astype(int).clip(1).tolist()
        tiles = [(y, x), (y, width - x), (height - y, x), (height - y, width - x)]
        geometries = [self._geometry(s.target.size, rng, tile) for s, tile in zip(samples, tiles, strict=True)]
        return mosaic([transform(s, g) for s, g in zip(samples, geometries, strict=True)])

    def _geometry(
        self, size: tuple[int, int], rng: np.random.Generator, tile: tuple[int, int] | None = None
    ) -> Geometry:
        """tile: (H, W) of a mosaic's part, which the image fills."""
        s = self.settings
        # every number is drawn whether it is used or not: one setting more leaves the other draws as they were
        turned, vertical, mirrored = rng.random(3) < (s.rot90, s.flip_vertical, s.flip)
        turns = int(rng.integers(4)) if turned else 0
        h, w = size[::-1] if turns % 2 else size
        scale, stretch = rng.uniform(*(s.scale or (1.0, 1.0))), rng.uniform(-s.aspect, s.aspect)
        place = rng.random(2)
        degrees = rng.uniform(-s.rotate, s.rotate) if s.rotate else 0.0
        turned = turns, bool(vertical), bool(mirrored)
        canvas = tile or self.canvas
        if canvas is None:
            full, canvas, offset = self._sizes(h, w, rng) if s.short_side else ((h, w), (h, w), (0, 0))
            return Geometry(*turned, full, canvas, offset, degrees)
        height, width = canvas
        scale *= max(height / h, width / w) if tile or s.crop else min(height / h, width / w)
        new_h = max(1, round(h * scale * math.exp(stretch / 2)))
        new_w = max(1, round(w * scale * math.exp(-stretch / 2)))
        # from flush with one border to flush with the other, whichever of image and canvas is larger
        offset = round(place[0] * (height - new_h)), round(place[1] * (width - new_w))
        return Geometry(*turned, (new_h, new_w), canvas, offset, degrees)

    def _sizes(self, h: int, w: int, rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
        """What `short_side` and `scale_crop` make of an image of h x w: its new size, the canvas, the offset on it."""
        s, most = self.settings, max(self.settings.short_side)
        side, crop = int(rng.choice(s.short_side)), (h, w)
        if s.scale_crop and rng.random() < s.scale_crop:
            first = rng.choice(BEFORE_CROP) * most / min(h, w)
            h, w = round(h * first), round(w * first)
            lo, hi = (round(c * most) for c in CROP)
            tall, wide = (int(rng.integers(min(lo, v), min(hi, v) + 1)) for v in (h, w))
            crop = tall, wide
        scale = min(side / min(crop), self.longest / max(crop))
        full = max(1, round(h * scale)), max(1, round(w * scale))
        canvas = min(full[0], max(1, round(crop[0] * scale))), min(full[1], max(1, round(crop[1] * scale)))
        place = rng.random(2)
        return full, canvas, (round(place[0] * (canvas[0] - full[0])), round(place[1] * (canvas[1] - full[1])))

    def _kept(self, scene: Scene) -> np.ndarray:
        visible = scene.visible()
        enough = (visible >= self.settings.min_visible * scene.area) & (~scene.cut | (visible >= LEAST_PIXELS))
        return np.flatnonzero((visible > 0) & (enough | scene.crowd))


def _parse(settings: dict[str, Any]) -> Settings:
    known = [f.name for f in dataclasses.fields(Settings)]
    problems: list[str] = []
    out: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            problems.append(f"data.augment.{key} is not a setting ({nearest(str(key), known)})")
        elif value is None or value is False:
            continue
        elif key == "scale":
            pair = value if isinstance(value, (list, tuple)) else [value, value]
            if len(pair) != 2 or not all(_is_number(v) for v in pair) or not 0.05 <= pair[0] <= pair[1] <= 20:
                problems.append(f"data.augment.scale: {value!r} is not [lo, hi] with 0.05 <= lo <= hi <= 20")
            else:
                out[key] = (float(pair[0]), float(pair[1]))
        elif key == "short_side":
            sides = value if isinstance(value, (list, tuple)) else [value]
            if not sides or not all(type(v) is int and 16 <= v <= 8192 for v in sides):
                problems.append(f"data.augment.short_side: {value!r} is not a list of whole numbers from 16 to 8192")
            else:
                out[key] = tuple(sides)
        elif key == "crop":
            if not isinstance(value, int) or isinstance(value, bool) or not 16 <= value <= 8192:
                problems.append(f"data.augment.crop: {value!r} is not a whole number from 16 to 8192")
            else:
                out[key] = value
        else:
            number = USUAL.get(key) if value is True else value
            most = {"colour": 2.0, "rotate": 180.0}.get(key, 1.0)
            if not _is_number(number) or not 0 <= number <= most:  # type: ignore[operator]
                problems.append(f"data.augment.{key}: {value!r} is not a number from 0 to {most:g}")
            else:
                out[key] = float(number)  # type: ignore[arg-type]
    if problems:
        raise UsageError("; ".join(problems))
    return Settings(**out)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
