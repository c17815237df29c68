"""Queries and transformer decoder of MaskFormer: from a coarse feature map to a class and a mask embedding per query.

The official `TransformerPredictor`, with its parameter names. B images, Q queries, L decoder layers, C channels.
"""

from torch import Tensor, nn

from segcli.models.layers.mlp import MLP
from segcli.models.layers.pixel_decoder import convolution
from segcli.models.layers.position import SinePosition
from segcli.models.layers.transformer import Decoder, Record, TransformerSettings


class MaskPredictor(nn.Module):
    """A DETR decoder without encoder and without padding mask, a class head and a mask-embedding head.

    channels: of the map that the queries attend to. project: bring it to `dim` channels (left out above a transformer
    pixel decoder, whose output has them). classes: None leaves the class head out (a per-pixel model). mask_dim: width
    of the mask embeddings (None: the queries').
    """

    def __init__(
        self,
        channels: int,
        queries: int,
        settings: TransformerSettings,
        *,
        classes: int | None,
        project: bool = True,
        mask_dim: int | None = None,
    ):
        super().__init__()
        dim = settings.dim
        self.num_queries, self.num_layers, self.dim = queries, settings.decoder_layers, mask_dim or dim
        self.position = SinePosition(dim)
        self.input_proj = convolution(channels, dim, 1) if project else nn.Identity()
        self.transformer = nn.Module()
        self.transformer.decoder = Decoder(settings)
        self.query_embed = nn.Embedding(queries, dim)
        self.class_embed = None if classes is None else nn.Linear(dim, classes + 1)
        self.mask_embed = MLP(dim, dim, mask_dim or dim, 3)

    def forward(self, map_BCHW: Tensor, record: Record | None = None) -> tuple[Tensor | None, Tensor]:
        """class logits [L,B,Q,classes+1], "no object" last (None without a class head), mask embeddings
        [L,B,Q,mask_dim].

        record receives each layer's attention on the map, [B,heads,Q,H·W].
        """
        size = (map_BCHW.shape[2], map_BCHW.shape[3])
        position_1TC = self.position(size, None, map_BCHW.device).flatten(1, 2)
        tokens_BTC = self.input_proj(map_BCHW).flatten(2).transpose(1, 2)
        decoder: nn.Module = self.transformer.decoder  # type: ignore[assignment]
        hidden_LBQC = decoder(self.query_embed.weight, tokens_BTC, position_1TC, None, record)
        classes = None if self.class_embed is None else self.class_embed(hidden_LBQC)
        return classes, self.mask_embed(hidden_LBQC)
