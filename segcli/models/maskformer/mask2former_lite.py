"""MaskFormer with Mask2Former's masked attention (Cheng et al., 2022) and, with kernels, K-Net's queries (Zhang et al.,
2021), for little data: on MaskFormer's own pixel decoder, not on Mask2Former's deformable one. See
docs/little_data.md."""

from typing import Any, Literal

from torch import Tensor

from segcli.core.errors import UsageError
from segcli.models.maskformer.mask_set_loss import Outputs, Weights
from segcli.models.maskformer.masked_decoder import MaskedPredictor
from segcli.models.maskformer.maskformer import MaskFormer, Output, build_pixel_decoder, check


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    backbone: dict[str, Any] | None = None,
    pixel_decoder: Literal["fpn", "transformer"] = "fpn",
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    queries: int | None = None,
    dropout: float = 0.1,
    auxiliary: bool = True,
    class_weight: float = 1.0,
    mask_weight: float = 20.0,
    dice_weight: float = 1.0,
    no_object: float = 0.1,
    outputs: list[Output] | None = None,
    upsampling: Literal["official", "direct"] = "official",
    score: float = 0.8,
    overlap: float = 0.8,
    divisor: int | None = None,
    dim: int = 256,
    mask_dim: int | None = None,
    heads: int = 8,
    ffn: int = 2048,
    levels: int = 3,
    points: int | None = None,
    matching: Literal["bipartite", "fixed"] = "bipartite",
    kernels: bool = False,
) -> "Mask2FormerLite":
    """As model maskformer, and: levels: queries attend to their masks so far on so many of the coarsest maps of the
    pixel decoder in turn. kernels: every query begins with a mask embedding of its own.
    """
    classes, queries = check("mask2former_lite", task, num_classes, num_things, queries, matching == "fixed")
    body, pixels = build_pixel_decoder(
        backbone, pixel_decoder, dim, mask_dim or dim, layers=encoder_layers, heads=heads, ffn=ffn, dropout=dropout
    )
    if not 1 <= levels <= len(body.channels):
        raise UsageError(f"model.levels must be from 1 to {len(body.channels)} with this backbone, not {levels}")
    predictor = MaskedPredictor(
        queries,
        classes=classes,
        maps=levels,
        layers=decoder_layers,
        kernels=kernels,
        dim=dim,
        mask_dim=mask_dim or dim,
        heads=heads,
        ffn=ffn,
        dropout=dropout,
    )
    return Mask2FormerLite(
        body,
        pixels,
        predictor,
        task=task,
        num_classes=classes,
        num_things=num_things,
        weights=Weights(class_weight, mask_weight, dice_weight, no_object),
        auxiliary=auxiliary,
        outputs=tuple(outputs or [task]),
        direct=upsampling == "direct",
        points=points,
        fixed=matching == "fixed",
        thresholds=(score, overlap),
        divisor=divisor,
    )


class Mask2FormerLite(MaskFormer):
    """MaskFormer whose queries have outputs before the first decoder layer, too, and look at several maps."""

    images_needed = 1_200  # as the other lite models (docs/little_data.md)
    lite = None

    def decode(self, features: list[Tensor], record: list[Tensor] | None = None) -> tuple[Outputs, list[Tensor]]:
        head: Any = self.sem_seg_head
        pixels_BChw, maps = head.pixel_decoder.every_map(features)
        maps = maps[: head.predictor.level_embed.num_embeddings]
        logits_LBQC, embeddings_LBQC = head.predictor(maps, pixels_BChw, record)
        return Outputs(logits_LBQC, embeddings_LBQC, pixels_BChw), maps
