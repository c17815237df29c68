"""Per-pixel classification: the baselines that MaskFormer is measured against.

fcn (Long et al., 2015): torchvision's, whose weights load as they are. per_pixel: MaskFormer's backbone and pixel
decoder with a 1×1 classifier. per_pixel_plus: adds the transformer decoder; each of its queries stands for one class,
and its mask is that class's logits. The last two bear the official names (Cheng et al., 2021, appendix).
"""

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.models import build_backbone
from segcli.models.layers.flop_rule import count
from segcli.models.layers.mask_predictor import MaskPredictor
from segcli.models.layers.pixel_decoder import FpnPixelDecoder
from segcli.ops.mask_inference import Enlarge, largest
from segcli.ops.mask_losses import pixel_cross_entropy
from segcli.ops.preprocess import Preprocess
from segcli.ops.segments import label_maps
from segcli.types import Batch, Prediction


def build(
    *,
    task: str,
    num_classes: int,
    backbone: dict[str, Any] | None = None,
    variant: Literal["fcn", "per_pixel", "per_pixel_plus"] = "per_pixel",
    decoder_layers: int = 6,
    dropout: float = 0.1,
    auxiliary: float | None = None,
    dim: int = 256,
    heads: int = 8,
    ffn: int = 2048,
) -> "PerPixel":
    """backbone: a ResNet-50 by default (for fcn with trainable norms and stride 8). variant: see above.

    decoder_layers, dropout: of per_pixel_plus's transformer. auxiliary: weight of the losses on fcn's second head (0.5)
    or on per_pixel_plus's earlier decoder layers (1); 0 leaves them out. dim: width of the pixel decoder and of
    per_pixel_plus's transformer, which heads and ffn belong to.
    """
    if task != "semantic":
        raise UsageError(
            f"model per_pixel does not do task {task!r}: it has one label for each pixel",
            hint="task: semantic, or model.name: maskformer",
        )
    body: Any
    if variant == "fcn":
        given = {"name": "resnet", "norm": "trainable", "frozen_stages": 0, "dilate_last": 2}
        auxiliary = 0.5 if auxiliary is None else auxiliary
        body = build_backbone(_with_defaults(backbone, given), maps=2 if auxiliary else 1)
        return Fcn(body, num_classes, auxiliary)
    body = build_backbone(_with_defaults(backbone, {"name": "resnet", "frozen_stages": 0}))
    plus = variant == "per_pixel_plus"
    predictor: nn.Module
    if plus:
        predictor = MaskPredictor(
            body.channels[-1],
            num_classes,
            classes=None,
            layers=decoder_layers,
            dim=dim,
            heads=heads,
            ffn=ffn,
            dropout=dropout,
        )
    else:
        predictor = _classifier(dim, num_classes)
    pixels = FpnPixelDecoder(body.channels, dim, dim)
    return PixelDecoderModel(body, pixels, predictor, 1.0 if auxiliary is None else auxiliary)


def _with_defaults(settings: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any]:
    """The family's defaults hold for its own backbone; another one has its own."""
    settings = settings or {}
    return {**given, **settings} if settings.get("name", given["name"]) == given["name"] else settings


def _classifier(inputs: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, classes, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class PerPixel(nn.Module):
    """What all variants share: cross-entropy on the canvas, argmax on the original pixels.

    A variant gives `maps(images)`: logits [B,C,h,w] of any resolution, the one that counts first, and `auxiliary`, the
    weight of the others.
    """

    backbone: Any
    preprocess: Preprocess
    auxiliary: float

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, Any] = {}
        self.max_detections = 100  # every model has it; label maps have no detections to limit

    def maps(self, images_BCHW: Tensor, every: bool) -> list[Tensor]:
        """[logits [B,C,h,w]], with `every` those of the auxiliary losses behind."""
        raise AssertionError("a variant defines this")

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
            for maps in self.maps(batch.images, every=self.auxiliary > 0)
        ]
        losses = {"pixel": main}
        if others:
            losses["pixel_aux"] = self.auxiliary * torch.stack(others).sum()
        return losses

    def predict(self, batch: Batch) -> list[Prediction]:
        """A label for every pixel of the original images."""
        (logits_BChw,) = self.maps(batch.images, every=False)
        canvas = (batch.images.shape[2], batch.images.shape[3])
        predictions = []
        for i, logits in enumerate(logits_BChw.float()):
            enlarge = Enlarge(canvas, batch.sizes[i], batch.original_sizes[i])
            labels = largest(partial(_enlarge_part, logits, enlarge), len(logits), enlarge)
            predictions.append(Prediction(batch.image_ids[i], batch.original_sizes[i], semantic=labels))
        return predictions

    def inspect(self, batch: Batch) -> dict[str, Any]:
        """{"logits" [B,C,h,w], "probabilities" [B,C,h,w], "features": the backbone's maps}."""
        (logits,) = self.maps(batch.images, every=False)
        return {"logits": logits, "probabilities": logits.softmax(1), "features": self.backbone(batch.images)}

    def network(self, images_BCHW: Tensor) -> Tensor:
        """Logits of every class at the input's size, [B,C,H,W]."""
        (logits,) = self.maps(images_BCHW, every=False)
        return F.interpolate(logits, size=images_BCHW.shape[2:], mode="bilinear", align_corners=False)

    def paper_gflops(self, size: tuple[int, int] | None = None) -> float:
        """Multiply-adds / 1e9 as the MaskFormer paper counts them, by default on a square of the input's short side."""
        side = self.preprocess.shortest or self.preprocess.longest
        return count(self, size or (side, side))


def _labels(batch: Batch) -> tuple[Tensor, int]:
    """(labels [B,H,W], the one of pixels that don't count)."""
    assert batch.targets
    return label_maps(batch.targets, (batch.images.shape[2], batch.images.shape[3])), batch.targets[0].ignore


def _enlarge_part(logits_Chw: Tensor, enlarge: Enlarge, part: slice) -> Tensor:
    return enlarge(logits_Chw[part])


class Fcn(PerPixel):
    """Two 3×3 heads, on the last and on the last but one feature map; the second one is for training alone."""

    class_layers = ("classifier.4.", "aux_classifier.4.")

    def __init__(self, backbone: Any, classes: int, auxiliary: float):
        super().__init__()
        self.backbone = backbone
        self.classifier = FCNHead(backbone.channels[-1], classes)
        self.aux_classifier = FCNHead(backbone.channels[-2], classes) if auxiliary else None
        self.auxiliary = auxiliary
        self.preprocess = Preprocess(520, 2080, "pil", "centre", divisor=1)

    def maps(self, images_BCHW: Tensor, every: bool) -> list[Tensor]:
        features = self.backbone(images_BCHW)
        maps = [self.classifier(features[-1])]
        if every and self.aux_classifier is not None:
            maps.append(self.aux_classifier(features[-2]))
        return maps


class PixelDecoderModel(PerPixel):
    """per_pixel and per_pixel_plus: `sem_seg_head.{pixel_decoder,predictor}` on a backbone."""

    # the 1×1 classifier, or the queries, each of which is a class
    class_layers = tuple(f"sem_seg_head.predictor.{name}" for name in ("weight", "bias", "query_embed."))

    def __init__(self, backbone: Any, pixel_decoder: nn.Module, predictor: nn.Module, auxiliary: float):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.pixel_decoder = pixel_decoder
        self.sem_seg_head.predictor = predictor
        self.auxiliary = auxiliary
        self.preprocess = Preprocess(512, 2048, "detectron2", "nearest", divisor=1)  # its configurations pad nothing

    def maps(self, images_BCHW: Tensor, every: bool) -> list[Tensor]:
        head: Any = self.sem_seg_head
        pixels_BChw, memory_BChw = head.pixel_decoder(self.backbone(images_BCHW))
        if not isinstance(head.predictor, MaskPredictor):
            return [head.predictor(pixels_BChw)]
        masks_LBQC = head.predictor(memory_BChw)[1]
        layers = masks_LBQC.flip(0) if every else masks_LBQC[-1:]
        return [torch.einsum("bqc,bchw->bqhw", masks, pixels_BChw) for masks in layers]
