"""MaskFormer (Cheng et al., 2021): semantic, instance and panoptic segmentation as one problem, mask classification.

backbone -> pixel decoder -> an embedding for every pixel; the coarsest map and N learned queries -> transformer decoder
-> for each query a class (or "no object") and a mask embedding, whose product with the pixel embeddings is its mask.
Training matches queries and labelled segments one to one. All three tasks read the same outputs.

B images, Q queries, L decoder layers, C channels, M matched pairs, N segments of the batch; h w the masks' size (a
quarter of the canvas). Parameter names are the official ones but for a ResNet's (weights/detectron2_resnet.py).
"""

import dataclasses
import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segcli.errors import UsageError
from segcli.models import build_backbone
from segcli.models.layers.flop_rule import count
from segcli.models.layers.mask_predictor import MaskPredictor
from segcli.models.layers.pixel_decoder import FpnPixelDecoder, TransformerPixelDecoder
from segcli.ops import losses, mask_inference
from segcli.ops.mask_inference import Enlarge
from segcli.ops.mask_losses import mask_losses
from segcli.ops.matcher import Matching, class_cost, dice_cost, focal_cost, match
from segcli.ops.panoptic import panoptic
from segcli.ops.preprocess import Preprocess
from segcli.ops.segments import segments, shrink
from segcli.types import Batch, Prediction

TASKS = ("semantic", "instance", "panoptic")
Output = Literal["semantic", "instance", "panoptic"]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Of the losses, and of the same terms in the matching costs; no_object: of that class in the cross-entropy."""

    classes: float = 1.0
    mask: float = 20.0
    dice: float = 1.0
    no_object: float = 0.1


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    backbone: dict[str, Any] | None = None,
    pixel_decoder: Literal["fpn", "transformer"] = "fpn",
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    queries: int = 100,
    dropout: float = 0.1,
    auxiliary: bool = True,
    class_weight: float = 1.0,
    mask_weight: float = 20.0,
    dice_weight: float = 1.0,
    no_object: float = 0.1,
    outputs: list[Output] | None = None,
    upsampling: Literal["official", "direct"] = "official",
    score: float | None = None,
    overlap: float = 0.8,
) -> "MaskFormer":
    """backbone: a ResNet-50 by default. pixel_decoder: fpn, or transformer with encoder_layers (the papers' COCO
    ResNets). queries: at most so many segments an image. auxiliary: losses on every decoder layer. class_weight,
    mask_weight (focal), dice_weight, no_object: of the losses and of the matching.

    Prediction: outputs: which of semantic, instance, panoptic predict() gives (null: the task's own). upsampling:
    official (masks to the input's size, there combined, then to the original's), or direct (one step; semantic scores
    combined at stride 4, a sixteenth of the work). score, overlap: panoptic thresholds (score null: 0.8).
    """
    if task not in TASKS:
        raise UsageError(f"model maskformer does not do task {task!r}", hint="tasks: " + ", ".join(TASKS))
    settings = backbone or {}
    if settings.get("name", "resnet") == "resnet":
        settings = {"name": "resnet", "frozen_stages": 0, **settings}
    body: Any = build_backbone(settings)
    pixels: FpnPixelDecoder
    if pixel_decoder == "transformer":
        pixels = TransformerPixelDecoder(body.channels, layers=encoder_layers, dropout=dropout)
    else:
        pixels = FpnPixelDecoder(body.channels)
    predictor = MaskPredictor(
        pixels.memory_channels,
        queries,
        classes=num_classes,
        layers=decoder_layers,
        project=pixel_decoder == "fpn",
        dropout=dropout,
    )
    return MaskFormer(
        body,
        pixels,
        predictor,
        task=task,
        num_classes=num_classes,
        num_things=num_things,
        weights=Weights(class_weight, mask_weight, dice_weight, no_object),
        auxiliary=auxiliary,
        outputs=tuple(outputs or [task]),
        direct=upsampling == "direct",
        thresholds=(0.8 if score is None else score, overlap),
    )


class MaskFormer(nn.Module):
    """`backbone`, `sem_seg_head.pixel_decoder`, `sem_seg_head.predictor`."""

    def __init__(
        self,
        backbone: Any,
        pixel_decoder: FpnPixelDecoder,
        predictor: MaskPredictor,
        *,
        task: str,
        num_classes: int,
        num_things: int,
        weights: Weights,
        auxiliary: bool,
        outputs: tuple[str, ...],
        direct: bool,
        thresholds: tuple[float, float],
    ):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.pixel_decoder = pixel_decoder
        self.sem_seg_head.predictor = predictor
        self.queries = predictor.num_queries
        self.task, self.num_classes, self.num_things = task, num_classes, num_things
        self.weights, self.auxiliary = weights, auxiliary
        self.outputs, self.direct, self.thresholds = outputs, direct, thresholds
        if task == "semantic":
            self.preprocess = Preprocess(512, 2048, "pil", divisor=32)
        else:
            self.preprocess = Preprocess(800, 1333, "pil", divisor=1)
        self.fields: dict[str, Any] = {}
        self.max_detections = 100
        self._warned = False

    def embed(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """class logits [L,B,Q,C+1], mask embeddings [L,B,Q,C], pixel embeddings [B,C,h,w]."""
        head: Any = self.sem_seg_head
        pixels_BChw, memory_BCHW = head.pixel_decoder(self.backbone(images_BCHW))
        return *head.predictor(memory_BCHW), pixels_BChw

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's class logits [B,Q,C+1] and mask logits [B,Q,h,w]."""
        logits_LBQC, masks_LBQC, pixels_BChw = self.embed(images_BCHW)
        return logits_LBQC[-1], mask_logits(masks_LBQC[-1], pixels_BChw)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses {"class", "mask", "dice"} of the last layer and, summed, {"…_aux"} of the earlier ones."""
        logits_LBQC, masks_LBQC, pixels_BChw = self.embed(batch.images)
        if not self.auxiliary:
            logits_LBQC, masks_LBQC = logits_LBQC[-1:], masks_LBQC[-1:]
        labels, masks_NHW, counts = self._segments(batch)
        matching = self._match(batch, logits_LBQC, masks_LBQC, pixels_BChw, labels, masks_NHW, counts)
        layers, images, queries, _ = logits_LBQC.shape
        w = self.weights
        classes = losses.target_classes(
            (layers, images, queries),
            (matching.layer, matching.image, matching.query),
            labels[matching.object],
            self.num_classes,
        )
        matched = len(matching.query) // layers
        by_class = losses.cross_entropy(logits_LBQC, classes, w.no_object)
        by_class = by_class / losses.cross_entropy_count(matched, images * queries, w.no_object)
        chosen_Mhw = matched_logits(matching, masks_LBQC, pixels_BChw)
        focal_M, dice_M = mask_losses(chosen_Mhw, masks_NHW, matching.object)
        segments_ = max(1, len(labels))
        terms = {
            "class": w.classes * by_class,
            "mask": w.mask / segments_ * losses.per_layer(focal_M, layers),
            "dice": w.dice / segments_ * losses.per_layer(dice_M, layers),
        }
        out = {name: term[-1] for name, term in terms.items()}
        if layers > 1:
            out.update({f"{name}_aux": term[:-1].sum() for name, term in terms.items()})
        return out

    def _segments(self, batch: Batch) -> tuple[Tensor, Tensor, list[int]]:
        """labels [N] and masks [N,H,W] of the whole batch, and how many each image has."""
        assert batch.targets is not None
        canvas = (batch.images.shape[2], batch.images.shape[3])
        found = [segments(t, self.task, num_things=self.num_things, canvas=canvas) for t in batch.targets]
        counts = [len(labels) for labels, _ in found]
        queries = self.queries
        if max(counts) > queries and not self._warned:
            self._warned = True
            image = batch.image_ids[counts.index(max(counts))]
            warnings.warn(
                f"image {image} has {max(counts)} segments and the model {queries} queries: the rest is never learned. "
                f"Set model.queries to at least {max(counts)}",
                stacklevel=2,
            )
        return torch.cat([labels for labels, _ in found]), torch.cat([masks for _, masks in found]), counts

    @torch.no_grad()
    def _match(
        self,
        batch: Batch,
        logits_LBQC: Tensor,
        masks_LBQC: Tensor,
        pixels_BChw: Tensor,
        labels: Tensor,
        masks_NHW: Tensor,
        counts: list[int],
    ) -> Matching:
        """Costs layer by layer and image by image: all queries' masks exist for one layer of one image at a time."""
        size = (pixels_BChw.shape[2], pixels_BChw.shape[3])
        small_NP = shrink(masks_NHW, size)
        costs = []
        for i, (wanted, masks_NP) in enumerate(zip(labels.split(counts), small_NP.split(counts), strict=True)):
            by_mask = [self._mask_cost(masks_QC, pixels_BChw[i], masks_NP) for masks_QC in masks_LBQC[:, i]]
            p_LQC = logits_LBQC[:, i].float().softmax(-1)
            costs.append(torch.stack(by_mask) + self.weights.classes * class_cost(p_LQC, wanted))
        return match(costs, batch.image_ids)

    def _mask_cost(self, masks_QC: Tensor, pixels_Chw: Tensor, masks_NP: Tensor) -> Tensor:
        logits_1QP = (masks_QC @ pixels_Chw.flatten(1)).float()[None]
        return (
            self.weights.mask * focal_cost(logits_1QP, masks_NP) + self.weights.dice * dice_cost(logits_1QP, masks_NP)
        )[0]

    def predict(self, batch: Batch) -> list[Prediction]:
        """What `outputs` names, on the original images' pixels."""
        logits_BQC, masks_BQhw = self.network(batch.images)
        canvas = (batch.images.shape[2], batch.images.shape[3])
        return [
            self._read(logits_BQC[i], masks_BQhw[i], Enlarge(canvas, size, original, self.direct), image_id)
            for i, (size, original, image_id) in enumerate(
                zip(batch.sizes, batch.original_sizes, batch.image_ids, strict=True)
            )
        ]

    def _read(self, logits_QC: Tensor, masks_Qhw: Tensor, enlarge: Enlarge, image_id: int) -> Prediction:
        out = Prediction(image_id, enlarge.original)
        if "semantic" in self.outputs:
            out.semantic = mask_inference.semantic(logits_QC, masks_Qhw, enlarge)
        if "instance" in self.outputs:
            classes = self.num_classes if self.task == "instance" else self.num_things
            out.instances = mask_inference.instances(
                logits_QC, masks_Qhw, enlarge, classes=classes, limit=self.max_detections
            )
        if "panoptic" in self.outputs:
            score, overlap = self.thresholds
            out.panoptic = panoptic(
                logits_QC, masks_Qhw, enlarge, num_things=self.num_things, score=score, overlap=overlap
            )
        return out

    def inspect(self, batch: Batch) -> dict[str, Any]:
        """What explain views draw.

        features: the backbone's maps; pixels [B,C,h,w]; class_probabilities [B,Q,C+1]; mask_logits [B,Q,h,w];
        attention [L,B,Q,H,W]: of every decoder layer on the coarsest map, mean over heads. With targets also labels
        [N], masks [N,H,W] and matching: for each image (queries, segments), segments counted over the batch.
        """
        head: Any = self.sem_seg_head
        features = self.backbone(batch.images)
        pixels_BChw, memory_BCHW = head.pixel_decoder(features)
        attention: list[Tensor] = []
        logits_LBQC, masks_LBQC = head.predictor(memory_BCHW, attention)
        out: dict[str, Any] = {
            "features": features,
            "pixels": pixels_BChw,
            "class_probabilities": logits_LBQC[-1].softmax(-1),
            "mask_logits": mask_logits(masks_LBQC[-1], pixels_BChw),
            "attention": torch.stack(attention).mean(2).unflatten(-1, memory_BCHW.shape[2:]),
        }
        if batch.targets is not None:
            labels, masks_NHW, counts = self._segments(batch)
            matching = self._match(batch, logits_LBQC[-1:], masks_LBQC[-1:], pixels_BChw, labels, masks_NHW, counts)
            out["labels"], out["masks"] = labels, masks_NHW
            out["matching"] = [matching.pairs(0, i) for i in range(len(batch.images))]
        return out

    def paper_gflops(self, size: tuple[int, int] | None = None) -> float:
        """Multiply-adds / 1e9 as the paper's tables count them.

        Semantic (table 1): on a square of the input's short side (the training crop), with the sum over queries that
        makes the semantic map. Otherwise (table 3): on 800×1130, the mean size of COCO's images, with the mask product
        of every decoder layer.
        """
        side = self.preprocess.shortest or self.preprocess.longest
        semantic = self.task == "semantic"
        size = size or ((side, side) if semantic else (800, 1130))
        total = count(self, size)
        predictor: Any = self.sem_seg_head.predictor
        queries, dim = predictor.num_queries, predictor.dim
        if semantic:
            return total + queries * self.num_classes * size[0] * size[1] / 1e9
        pixels = -(-size[0] // 4) * -(-size[1] // 4)
        return total + (predictor.num_layers - 1) * queries * dim * pixels / 1e9


def mask_logits(masks_BQC: Tensor, pixels_BChw: Tensor) -> Tensor:
    """[B,Q,h,w]: the dot product of every mask embedding with every pixel embedding."""
    return torch.einsum("bqc,bchw->bqhw", masks_BQC, pixels_BChw)


def matched_logits(matching: Matching, masks_LBQC: Tensor, pixels_BChw: Tensor) -> Tensor:
    """[M,h,w]: the same for the matched queries alone, in the order of the matching."""
    chosen_MC = matching.take(masks_LBQC)
    out = chosen_MC.new_zeros(len(chosen_MC), *pixels_BChw.shape[2:])
    for i, pixels_Chw in enumerate(pixels_BChw):
        here = (matching.image == i).nonzero()[:, 0]
        out = out.index_add(0, here, torch.einsum("mc,chw->mhw", chosen_MC[here], pixels_Chw))
    return out
