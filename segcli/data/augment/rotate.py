"""Rotate an image about its centre by any angle. Corners that turn out of it are cut; needs masks."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import numpy as np
import pydantic

from segcli.data.augment.stages import Plan, Rotate, Usual, refuse_turned
from segcli.types import Field

Degrees = Annotated[float, pydantic.Field(strict=True, ge=0, le=180)]


@dataclasses.dataclass
class FreeRotation(Rotate):
    most: float

    def rotate(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.degrees += rng.uniform(-self.most, self.most)


def build(
    *, rotate: Annotated[Degrees, Usual(15.0)], fields: Mapping[str, type[Field]] = MappingProxyType({})
) -> FreeRotation | None:
    """rotate: degrees at most, either way. Raises UsageError for fields that can't follow."""
    if rotate:
        refuse_turned("rotate", fields)
    return FreeRotation(rotate) if rotate else None
