"""Swin Transformer (Liu et al., 2021) as a feature pyramid's trunk, with the official parameter names.

B image, H W token rows and columns (of 4×4 pixels in stage 0), C channels, N windows, T tokens of a window, A heads.
Maps stay [B,H,W,C] inside. Any image size works: tokens are padded to whole windows inside each block, as the official
segmentation code does it, so the window size has no say in the shape of the outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core.errors import UsageError
from segcli.core.plugins import nearest

PATCH = 4
# variant -> channels of the first stage, blocks a stage, heads a stage, window side in tokens
VARIANTS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], int]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


def build(*, variant: str = "tiny", window: int | None = None, drop_path: float = 0.3) -> "Swin":
    """variant: tiny, small, base or large. window: side of the attention windows in tokens (null: the variant's own,
    7 or 12). drop_path: share of images that skip the last block in training; it grows linearly from 0.
    """
    if variant not in VARIANTS:
        raise UsageError(f"model.backbone.variant: no Swin is called {variant!r}", hint=nearest(variant, [*VARIANTS]))
    channels, depths, heads, own = VARIANTS[variant]
    return Swin(channels, depths, heads, window or own, drop_path)


class Swin(nn.Module):
    """Feature maps of the four stages, each through a layer norm of its own: strides 4, 8, 16, 32."""

    def __init__(
        self, channels: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, drop_path: float = 0.0
    ):
        super().__init__()
        self.channels = [channels * 2**i for i in range(len(depths))]
        self.strides = [PATCH * 2**i for i in range(len(depths))]
        self.window = window
        self.patch_embed = PatchEmbed(channels)
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.layers = nn.ModuleList(
            Stage(dim, [next(rates) for _ in range(depth)], count, window, merge=i < len(depths) - 1)
            for i, (dim, depth, count) in enumerate(zip(self.channels, depths, heads, strict=True))
        )
        for i, dim in enumerate(self.channels):
            self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self.apply(_initialise)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        x_BHWC = self.patch_embed(x_BCHW)
        features = []
        for i, stage in enumerate(self.layers):
            out_BHWC, x_BHWC = stage(x_BHWC)
            features.append(self.get_submodule(f"norm{i}")(out_BHWC).permute(0, 3, 1, 2))
        return features

    def keep_coarsest(self, count: int) -> None:
        """Freeze the norms of all outputs but the last `count`: for a model that reads no others."""
        for i in range(len(self.channels) - count):
            self.get_submodule(f"norm{i}").requires_grad_(False)

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load the official ImageNet classification weights.

        The classifier (`norm.*`, `head.*`) and the masks for its one input size (`attn_mask`) are left out; the norms
        of the four outputs are not in those files and keep their initial values. Any other difference raises.
        """
        state = {k: v for k, v in state.items() if k.split(".")[0] not in ("norm", "head") and "attn_mask" not in k}
        own = {k: v for k, v in self.state_dict().items() if k.startswith("norm")}
        self.load_state_dict({**own, **state})


class PatchEmbed(nn.Module):
    """[B,3,H,W] pixels -> [B,H/4,W/4,C] tokens, sides rounded up."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[-2:]
        x_BCHW = F.pad(x_BCHW, (0, -width % PATCH, 0, -height % PATCH))
        return self.norm(self.proj(x_BCHW).permute(0, 2, 3, 1))


class Stage(nn.Module):
    """Blocks of one resolution, every second one with shifted windows, then (but for the last stage) a merge by 2."""

    def __init__(self, dim: int, drop_paths: list[float], heads: int, window: int, merge: bool):
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(dim, heads, window, shift=window // 2 if i % 2 else 0, drop_path=rate)
            for i, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if merge else None

    def forward(self, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's output, and the next stage's input (the same where nothing is merged)."""
        mask_NTT = shift_mask(x_BHWC.shape[1], x_BHWC.shape[2], self.window, x_BHWC)
        for block in self.blocks:
            x_BHWC = block(x_BHWC, mask_NTT)
        return x_BHWC, x_BHWC if self.downsample is None else self.downsample(x_BHWC)


class Block(nn.Module):
    """x + attention within windows, then x + MLP; both pre-norm, both skipped at random in training."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, drop_path: float):
        super().__init__()
        self.window, self.shift, self.drop_path = window, shift, drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x_BHWC: Tensor, mask_NTT: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self._drop(self._attend(self.norm1(x_BHWC), mask_NTT))
        return x_BHWC + self._drop(self.mlp(self.norm2(x_BHWC)))

    def _attend(self, x_BHWC: Tensor, mask_NTT: Tensor) -> Tensor:
        _, height, width, _ = x_BHWC.shape
        x = F.pad(x_BHWC, (0, 0, 0, -width % self.window, 0, -height % self.window))
        padded = x.shape[1], x.shape[2]
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = self.attn(to_windows(x, self.window), mask_NTT if self.shift else None)
        x = from_windows(x, self.window, *padded)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width]

    def _drop(self, x_BHWC: Tensor) -> Tensor:
        """Stochastic depth, image by image (Huang et al., 2016)."""
        if not self.training or not self.drop_path:
            return x_BHWC
        keep = torch.rand(len(x_BHWC), 1, 1, 1, device=x_BHWC.device) >= self.drop_path
        return x_BHWC * (keep.to(x_BHWC.dtype) / (1 - self.drop_path))


class WindowAttention(nn.Module):
    """Self-attention among the tokens of each window, with a learned bias for every relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int):
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BNTC: Tensor, mask_NTT: Tensor | None) -> Tensor:
        b, n, t, c = x_BNTC.shape
        bias_ATT = self.relative_position_bias_table[self.relative_position_index.flatten()].view(t, t, -1)
        bias = bias_ATT.permute(2, 0, 1)[None]
        if mask_NTT is not None:
            bias = bias + mask_NTT[:, None].to(bias.dtype)
        # windows and heads share one axis, so that the bias broadcasts over images and is never repeated
        bias = bias.expand(n, -1, -1, -1).reshape(1, n * self.heads, t, t)
        qkv = self.qkv(x_BNTC).view(b, n, t, 3, self.heads, c // self.heads).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.reshape(3, b, n * self.heads, t, c // self.heads).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.view(b, n, self.heads, t, -1).transpose(2, 3).reshape(b, n, t, c))


class Mlp(nn.Module):
    """Linear, GELU, linear; four times as wide inside."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PatchMerging(nn.Module):
    """[B,H,W,C] -> [B,H/2,W/2,2C], sides rounded up: 2×2 neighbours side by side, norm, linear."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        _, height, width, _ = x_BHWC.shape
        x = F.pad(x_BHWC, (0, 0, 0, width % 2, 0, height % 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.reduction(self.norm(x))


def to_windows(x_BHWC: Tensor, window: int) -> Tensor:
    """[B,H,W,C] -> [B,N,T,C]; H and W are multiples of the window."""
    b, height, width, c = x_BHWC.shape
    x = x_BHWC.view(b, height // window, window, width // window, window, c)
    return x.transpose(2, 3).reshape(b, -1, window * window, c)


def from_windows(x_BNTC: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of to_windows."""
    b, _, _, c = x_BNTC.shape
    x = x_BNTC.view(b, height // window, width // window, window, window, c)
    return x.transpose(2, 3).reshape(b, height, width, c)


def shift_mask(height: int, width: int, window: int, like: Tensor) -> Tensor:
    """[N,T,T]: 0 within a region of the rolled map, −100 between tokens that were not neighbours before rolling."""
    region = []
    for side in (height, width):
        padded = side + -side % window
        at = torch.arange(padded, device=like.device)
        region.append((at >= padded - window).int() + (at >= padded - window // 2).int())
    region_HW = region[0][:, None] * 3 + region[1][None]
    region_NT = to_windows(region_HW[None, :, :, None], window)[0, :, :, 0]
    return (region_NT[:, None] != region_NT[:, :, None]).to(like.dtype) * -100.0


def relative_position_index(window: int) -> Tensor:
    """[T,T] int64: the row of the bias table for each pair of tokens of one window."""
    at = torch.arange(window)
    rows, columns = at.repeat_interleave(window), at.repeat(window)
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return down * (2 * window - 1) + right


def _initialise(module: Any) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
