"""MaskFormer with Mask2Former's masked attention (Cheng et al., 2022) and, with kernels, K-Net's queries (Zhang et al.,
2021), for little data: on MaskFormer's own pixel decoder, not on Mask2Former's deformable one. See
docs/little_data.md."""

from typing import Literal

from torch import Tensor

from segcli.core.errors import UsageError
from segcli.models.layers.transformer import TransformerSettings
from segcli.models.maskformer.mask_set_loss import MaskLoss, MaskOutputs
from segcli.models.maskformer.masked_decoder import MaskedPredictor
from segcli.models.maskformer.maskformer import Inference, MaskFormer, build_pixel_decoder, check


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    backbone: dict[str, object] | None = None,
    pixel_decoder: Literal["fpn", "transformer"] = "fpn",
    queries: int | None = None,
    levels: int = 3,
    mask_dim: int | None = None,
    kernels: bool = False,
    matching: Literal["bipartite", "fixed"] = "bipartite",
    divisor: int | None = None,
    transformer: TransformerSettings,
    loss: MaskLoss,
    inference: Inference,
) -> "Mask2FormerLite":
    """As model maskformer, and: levels: queries attend to their masks so far on so many of the coarsest maps of the
    pixel decoder in turn. kernels: every query begins with a mask embedding of its own.
    """
    fixed = matching == "fixed"
    classes, queries = check("mask2former_lite", task, num_classes, num_things, queries, fixed)
    body, pixels = build_pixel_decoder(backbone, pixel_decoder, mask_dim or transformer.dim, transformer)
    if not 1 <= levels <= len(body.channels):
        raise UsageError(f"model.levels must be from 1 to {len(body.channels)} with this backbone, not {levels}")
    predictor = MaskedPredictor(queries, transformer, classes=classes, maps=levels, mask_dim=mask_dim, kernels=kernels)
    counts = {"num_classes": classes, "num_things": num_things}
    return Mask2FormerLite(
        body, pixels, predictor, task=task, **counts, loss=loss, inference=inference, fixed=fixed, divisor=divisor
    )


class Mask2FormerLite(MaskFormer):
    """MaskFormer whose queries have outputs before the first decoder layer, too, and attend to several maps."""

    images_needed = 1_200  # as the other lite models (docs/little_data.md)
    lite = None

    def decode(
        self, features: list[Tensor], record: list[Tensor] | None = None
    ) -> tuple[MaskOutputs, list[Tensor], list[Tensor]]:
        predictor = self.sem_seg_head.predictor
        assert isinstance(predictor, MaskedPredictor)
        pixels_BChw, _, every = self.sem_seg_head.pixel_decoder(features)
        maps = every[: predictor.level_embed.num_embeddings]
        logits_LBQC, embeddings_LBQC = predictor(maps, pixels_BChw, record)
        return MaskOutputs(logits_LBQC, embeddings_LBQC, pixels_BChw), maps, every
