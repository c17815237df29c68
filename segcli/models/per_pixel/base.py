"""Per-pixel classification, the baselines that MaskFormer is measured against: what fcn.py, per_pixel.py and
per_pixel_plus.py share."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core import distributed
from segcli.models.interface import Backbone, Model
from segcli.models.layers.flop_rule import count
from segcli.models.layers.mask_predictor import MaskPredictor
from segcli.models.layers.pixel_decoder import FpnPixelDecoder, SegmentationHead
from segcli.models.layers.task_check import check_task
from segcli.ops import dense_masks
from segcli.ops.mask_inference import Enlarge, largest
from segcli.ops.mask_losses import pixel_cross_entropy
from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import Framed
from segcli.ops.segments import label_maps
from segcli.types import Batch, Prediction

DOES = ("semantic",)


def check_semantic(model: str, task: str, num_classes: int) -> None:
    """Raises UsageError for a task that per-pixel models do not do."""
    reason = "it has one label for each pixel"
    check_task(model, DOES, task, num_classes=num_classes, reason=reason, with_masks="maskformer")


def with_defaults(settings: dict[str, object] | None, given: dict[str, object]) -> dict[str, object]:
    """The family's defaults hold for its own backbone; another one has its own."""
    settings = settings or {}
    return {**given, **settings} if settings.get("name", given["name"]) == given["name"] else settings


class PerPixel(Model):
    """What all per-pixel models share: cross-entropy on the canvas, argmax on the original pixels.

    A model gives `maps(features)`: logits [B,C,h,w] of any resolution, the one that counts first, and `auxiliary`, the
    weight of the others.
    """

    backbone: Backbone
    preprocess: Preprocess
    auxiliary: float

    def maps(self, features: list[Tensor], every: bool) -> list[Tensor]:
        """The backbone's maps -> [logits [B,C,h,w]], with `every` those of the auxiliary losses behind."""
        raise AssertionError("a model defines this")

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """What the losses are divided by, a plain count that ranks and accumulation steps may average."""
        labels_BHW, ignore = _labels(batch)
        return {"pixels": float((labels_BHW != ignore).sum())}

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """{"pixel": mean cross-entropy over labelled pixels, "pixel_aux": weighted sum of the auxiliary ones}.

        normalisers: counts averaged over ranks and accumulation steps; None: this batch's own.
        """
        labels_BHW, ignore = _labels(batch)
        pixels = max((normalisers or self.normalisers(batch))["pixels"], 1 / distributed.parts())
        main, *others = [
            pixel_cross_entropy(maps, labels_BHW, ignore).sum() / pixels
            for maps in self.maps(self.backbone(batch.images), every=self.auxiliary > 0)
        ]
        losses = {"pixel": main}
        if others:
            losses["pixel_aux"] = self.auxiliary * torch.stack(others).sum()
        return losses

    def predict(self, batch: Batch) -> list[Prediction]:
        """A label for every pixel of the original images."""
        return self._read(self._logits(batch.images), batch)

    def _logits(self, images_BCHW: Tensor) -> Tensor:
        (logits_BChw,) = self.maps(self.backbone(images_BCHW), every=False)
        return logits_BChw

    def _read(self, logits_BChw: Tensor, batch: Batch) -> list[Prediction]:
        canvas = (batch.images.shape[2], batch.images.shape[3])
        predictions = []
        for i, logits in enumerate(logits_BChw.float()):
            enlarge = Enlarge(canvas, batch.sizes[i], batch.original_sizes[i])
            labels = largest(partial(_enlarge_part, logits, enlarge), len(logits), enlarge)
            predictions.append(Prediction(batch.image_ids[i], batch.original_sizes[i], semantic=labels))
        return predictions

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        return {"semantic": dense_masks.largest(dense_masks.enlarge(self._logits(framed.image)[0].float(), framed))}

    def inspect(self, batch: Batch) -> dict[str, object]:
        """{"logits" [B,C,h,w], "probabilities" [B,C,h,w], "features": the backbone's maps, "predictions"}."""
        features = self.backbone(batch.images)
        (logits,) = self.maps(features, every=False)
        views = {"logits": logits, "probabilities": logits.softmax(1), "features": features}
        return views | {"predictions": self._read(logits, batch)}

    def network(self, images_BCHW: Tensor) -> Tensor:
        """Logits of every class at the input's size, [B,C,H,W]."""
        return F.interpolate(
            self._logits(images_BCHW), size=images_BCHW.shape[2:], mode="bilinear", align_corners=False
        )

    def paper_gflops(self, size: tuple[int, int] | None = None) -> float:
        """Multiply-adds / 1e9 as the MaskFormer paper counts them, by default on a square of the input's short side."""
        side = self.preprocess.shortest or self.preprocess.longest
        return count(self, PerPixel.network, size or (side, side), fvcore=True)


def _labels(batch: Batch) -> tuple[Tensor, int]:
    """(labels [B,H,W], the one of pixels that don't count)."""
    assert batch.targets
    return label_maps(batch.targets, (batch.images.shape[2], batch.images.shape[3])), batch.targets[0].ignore


def _enlarge_part(logits_Chw: Tensor, enlarge: Enlarge, part: slice) -> Tensor:
    return enlarge(logits_Chw[part])


class PixelDecoderModel(PerPixel):
    """per_pixel and per_pixel_plus: `sem_seg_head.{pixel_decoder,predictor}` on a backbone."""

    # the 1×1 classifier, or the queries, each of which is a class
    class_layers = tuple(f"sem_seg_head.predictor.{name}" for name in ("weight", "bias", "query_embed."))
    first_divisor = 32

    def __init__(self, backbone: Backbone, pixel_decoder: FpnPixelDecoder, predictor: nn.Module, auxiliary: float):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = SegmentationHead(pixel_decoder, predictor)
        self.auxiliary = auxiliary
        self.preprocess = Preprocess(512, 2048, "detectron2", "nearest", divisor=1)  # its configurations pad nothing

    def maps(self, features: list[Tensor], every: bool) -> list[Tensor]:
        head = self.sem_seg_head
        pixels_BChw, memory_BChw, _ = head.pixel_decoder(features)
        if not isinstance(head.predictor, MaskPredictor):
            return [head.predictor(pixels_BChw)]
        masks_LBQC = head.predictor(memory_BChw)[1]
        layers = masks_LBQC.flip(0) if every else masks_LBQC[-1:]
        return [torch.einsum("bqc,bchw->bqhw", masks, pixels_BChw) for masks in layers]
