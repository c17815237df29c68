"""A light Gaussian blur."""

from typing import Annotated

import albumentations

from segcli.data.augment.stages import Pixels, Share, Usual


def build(*, blur: Annotated[Share, Usual(0.1)]) -> Pixels | None:
    """blur: the probability."""
    return Pixels(albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.5), p=blur)) if blur else None
