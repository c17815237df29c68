"""The per-pixel baseline with MaskFormer's transformer decoder: each query stands for one class, and its mask is that
class's logits. Official names (Cheng et al., 2021, appendix)."""

from segcli.models import build_backbone
from segcli.models.layers.mask_predictor import MaskPredictor
from segcli.models.layers.pixel_decoder import FpnPixelDecoder
from segcli.models.layers.transformer import TransformerSettings
from segcli.models.per_pixel.base import PixelDecoderModel, check_semantic, with_defaults


def build(
    *,
    task: str,
    num_classes: int,
    backbone: dict[str, object] | None = None,
    decoder_layers: int = 6,
    dropout: float = 0.1,
    auxiliary: float = 1.0,
    dim: int = 256,
    heads: int = 8,
    ffn: int = 2048,
) -> PixelDecoderModel:
    """backbone: a ResNet-50 by default. decoder_layers, dropout, heads, ffn: of the transformer. auxiliary: weight of
    the losses on its earlier layers; 0 leaves them out. dim: width of the pixel decoder and of the transformer.
    """
    check_semantic("per_pixel_plus", task, num_classes)
    body = build_backbone(with_defaults(backbone, {"name": "resnet", "frozen_stages": 0}))
    transformer = TransformerSettings(dim, heads, ffn, decoder_layers=decoder_layers, dropout=dropout)
    predictor = MaskPredictor(body.channels[-1], num_classes, transformer, classes=None)
    return PixelDecoderModel(body, FpnPixelDecoder(body.channels, dim, dim), predictor, auxiliary)
