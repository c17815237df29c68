"""What every metric has, and what it may have besides. Bounded memory: it keeps counts of images, never the images."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from typing_extensions import Self

from segcli.types import Prediction, Target

CocoEntry = dict[str, Any]  # an image, an annotation or a detection as COCO's libraries take it


@runtime_checkable
class Metric(Protocol):
    """Scores predictions against targets, image by image. Scores are 0..1; their keys become columns of `compare`."""

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target], /) -> None:
        """Count a batch of images, both lists in the same order, on original pixels."""

    def merge(self, other: Self, /) -> None:
        """Add the images that `other` has counted."""

    def compute(self) -> dict[str, float]:
        """The scores so far; a score that the labels don't define (no small object, for example) has no key."""


@runtime_checkable
class PerClass(Protocol):
    """A metric with scores of each class."""

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> its scores."""


@runtime_checkable
class Resampled(Protocol):
    """A metric that can be computed again for resamples of the images, for confidence intervals."""

    def replicates(self, times: np.ndarray, /) -> dict[str, np.ndarray]:
        """`compute`'s scores in each resample, [B]; times [B,I]: how often each image is drawn, by image id."""


@runtime_checkable
class Diagnosed(Protocol):
    """A metric that explains its scores."""

    def diagnostics(self) -> dict[str, object]:
        """Plain values for JSON, such as the confusion matrix."""
