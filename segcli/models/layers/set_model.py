"""Models that predict sets: they match queries with targets one to one."""

import warnings
from collections.abc import Sequence

from torch import Tensor

from segcli.models.interface import Model
from segcli.models.layers.targets import Targets
from segcli.ops.matcher import Matching
from segcli.types import Batch, Prediction


class SetModel(Model):
    """task: whose targets are found; num_things: of the classes; queries: at most so many targets an image. Warns once
    of an image with more."""

    queries: int

    def __init__(self, task: str, num_things: int, queries: int):
        super().__init__()
        self.task, self.num_things, self.queries = task, num_things, queries
        self._warned = False

    def targets(self, batch: Batch) -> Targets:
        """The batch's labels as the losses need them. Raises DataError naming an image whose labels are missing."""
        raise AssertionError("a family defines this")

    def count(self, targets: Targets) -> dict[str, float]:
        """The divisors of the losses."""
        raise AssertionError("a family defines this")

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """The divisors of the losses: plain counts, which ranks and accumulation steps may average."""
        return self.count(self.targets(batch))

    def warn_of_many(self, targets: Targets, image_ids: list[int]) -> None:
        most = max(targets.counts)
        if most > self.queries and not self._warned:
            self._warned = True
            image_id = image_ids[targets.counts.index(most)]
            warnings.warn(
                f"image {image_id} has {most} objects and model.queries is {self.queries}: "
                f"{most - self.queries} of them teach nothing at each step, and can't be found. "
                f"Set model.queries to at least {most}",
                stacklevel=3,
            )


def last_and_earlier(by_layer: dict[str, Tensor], auxiliary: bool) -> dict[str, Tensor]:
    """Losses [L] of every layer -> those of the last one and, with `auxiliary`, the earlier ones' sums {"…_aux"}."""
    out = {name: value[-1] for name, value in by_layer.items()}
    return out | {f"{name}_aux": value[:-1].sum() for name, value in by_layer.items() if auxiliary}


def pairs_by_image(matching: Matching, layer: int, images: int) -> list[tuple[Tensor, Tensor]]:
    """For each image (queries, targets) [m] of one layer, targets counted over the batch."""
    return [matching.pairs(layer, i) for i in range(images)]


def only(reading: Prediction, ways: Sequence[str]) -> Prediction:
    """Of a prediction that may hold more, what `ways` name: semantic, instance, panoptic."""
    return Prediction(
        reading.image_id,
        reading.size,
        reading.instances if "instance" in ways else None,
        reading.semantic if "semantic" in ways else None,
        reading.panoptic if "panoptic" in ways else None,
    )


def last_costs(costs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The last layer's [Q,N] of every image's parts of the matching cost [L,Q,N]."""
    return [{name: part[-1] for name, part in parts.items()} for parts in costs]
