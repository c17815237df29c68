"""Jitter of brightness, contrast, saturation and hue."""

from typing import Annotated

import albumentations
import pydantic

from segcli.data.augment.stages import Pixels, Usual

Strength = Annotated[float, pydantic.Field(strict=True, ge=0, le=2)]


def build(*, colour: Annotated[Strength, Usual(1.0)]) -> Pixels | None:
    """colour: the strength; 1 is +-30 % of brightness and contrast, 0.5 to 1.4 of saturation, +-0.02 of the hue."""
    if not colour:
        return None
    spread = lambda down, up: (max(0.0, 1 - down * colour), 1 + up * colour)
    hue = (-0.02 * colour, 0.02 * colour)
    return Pixels(albumentations.ColorJitter(spread(0.3, 0.3), spread(0.3, 0.3), spread(0.5, 0.4), hue, p=1))
