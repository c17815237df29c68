"""What every model has, so that nothing outside this room asks what kind of model it is."""

from typing import Any

from torch import Tensor, nn

from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Prediction


class Model(nn.Module):
    """Base of every model. The attributes are what the rest of segcli reads; a family overrides those that differ.

    preprocess: how images become its input. fields: name -> the class of the per-instance data (types.Field) that its
    targets need. max_detections: predictions of an image. class_layers: beginnings of the names of those parameters
    that another number of classes replaces. metrics: plugins that score its fields, beside the task's own. queries: the
    most objects that it can find on an image; None: no such limit. shares_counts: its losses call `distributed.share`
    or `distributed.mean` on the way, so that an accumulated step counts first (engine/accumulation.py).
    """

    preprocess: Preprocess
    fields: dict[str, Any]
    max_detections: int
    metrics: tuple[str, ...] = ()
    queries: int | None = None
    shares_counts: bool = False

    @property
    def class_layers(self) -> tuple[str, ...]:
        return ()

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses, scalars. Every trainable parameter gets a gradient on every batch, empty images included.

        normalisers: counts averaged over ranks and accumulation steps; None: this batch's own.
        """
        raise AssertionError("a model defines this")

    def normalisers(self, batch: Batch) -> dict[str, float] | None:
        """What the losses are divided by, plain counts that the labels alone tell; None where only the forward pass
        does."""
        return None

    def predict(self, batch: Batch) -> list[Prediction]:
        """Predictions on the original images' pixels."""
        raise AssertionError("a model defines this")

    def inspect(self, batch: Batch) -> dict[str, Any]:
        """The intermediate tensors of `predict`, for views."""
        raise AssertionError("a model defines this")

    def network(self, images_BCHW: Tensor) -> Any:
        """The inference network at fixed shapes, for counting and timing."""
        raise AssertionError("a model defines this")

    def regions(self) -> dict[str, int]:
        """On how many regions of an image `network` runs a part, by the part's name; {} where nothing runs by
        region."""
        return {}

    def paper_gflops(self) -> float | None:
        """Multiply-adds / 1e9 as the paper's tables count them; None for a family whose papers have no rule."""
        return None
