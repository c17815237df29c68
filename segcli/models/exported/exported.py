"""An exported model's file as a Model that predicts: what `predict` and `eval` do with a run, they do with the file."""

from collections.abc import Callable

import numpy as np
import torch

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import ModelError, UsageError
from segcli.fields.keypoints import Keypoints
from segcli.models.exported.description import Description
from segcli.models.interface import Model
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Field, Instances, Panoptic, Prediction, Segment, encode_masks, label_type

PIXELS = Preprocess(None, 1, keep_size=True, divisor=1, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
FIELDS: dict[str, type[Field]] = {"keypoints": Keypoints}


class ExportedModel(Model):
    """Images are given to it as they are, with values 0..255; resizing and all else lies in the file. run: the file, as
    a function from a uint8 image to its outputs."""

    def __init__(self, description: Description, info: DatasetInfo, run: Callable[[np.ndarray], dict[str, np.ndarray]]):
        super().__init__()
        self.description, self.info, self.run = description, info, run
        self.preprocess = PIXELS
        self.fields = {name: field for name, field in FIELDS.items() if name in description.outputs}
        self.metrics = tuple(description.metrics)

    def predict(self, batch: Batch) -> list[Prediction]:
        found = []
        for pixels, (h, w), image_id in zip(batch.images, batch.sizes, batch.image_ids, strict=True):
            image = pixels[:, :h, :w].round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
            found.append(self.read(self.run(image), image_id, (h, w)))
        return found

    def inspect(self, batch: Batch) -> dict[str, object]:
        raise UsageError(
            "an exported file gives predictions alone, and nothing of how they come about", hint="give the run"
        )

    def read(self, out: dict[str, np.ndarray], image_id: int, size: tuple[int, int]) -> Prediction:
        """The file's outputs as a Prediction. Raises ModelError where one that it should have is missing."""
        if missing := [name for name in self.description.outputs if name not in out]:
            raise ModelError(f"the exported file gives no {', '.join(missing)}, which its description names")
        prediction = Prediction(image_id, size)
        if "semantic" in out:
            prediction.semantic = out["semantic"].astype(label_type(len(self.info.categories)))
        if "panoptic" in out:
            pairs = zip(out["segment_labels"].tolist(), out["segment_scores"].tolist(), strict=True)
            segments = [Segment(i, label, score) for i, (label, score) in enumerate(pairs, 1)]
            prediction.panoptic = Panoptic(out["panoptic"].astype(np.int32), segments)
        if "boxes" in out:
            keep = slice(0, self.max_detections)
            tensor = lambda name: torch.from_numpy(np.array(out[name][keep]))
            prediction.instances = Instances(
                boxes=tensor("boxes"),
                labels=tensor("labels").long(),
                scores=tensor("scores"),
                masks=encode_masks(out["masks"][keep]) if "masks" in out else None,
                fields={"keypoints": Keypoints(tensor("keypoints"))} if "keypoints" in out else {},
            )
        return prediction
