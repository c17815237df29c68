"""Sine encoding of image positions (Carion et al. 2020, appendix A.4; after Vaswani et al. 2017)."""

import math

import torch
from torch import Tensor, nn


class SinePosition(nn.Module):
    """`dim` numbers for each cell of a map: half of them for its row, then half for its column.

    Positions run from just above 0 to 2π over the part of the map that holds the image, so that they are relative to
    the image's own size. No parameters.
    """

    def __init__(self, dim: int = 256, temperature: float = 10000.0):
        super().__init__()
        if dim % 4:
            raise ValueError(f"dim must be a multiple of 4 (sine and cosine of rows and columns), not {dim}")
        self.dim, self.temperature = dim, temperature

    def forward(self, size: tuple[int, int], padding_BHW: Tensor | None, device: torch.device) -> Tensor:
        """[B,H,W,dim] for maps of `size` (H, W); [1,H,W,dim] where nothing is padded (True = padded)."""
        inside = torch.ones(1, *size, device=device) if padding_BHW is None else (~padding_BHW).float()
        rows, columns = inside.cumsum(1), inside.cumsum(2)
        rows = rows / (rows[:, -1:, :] + 1e-6) * (2 * math.pi)
        columns = columns / (columns[:, :, -1:] + 1e-6) * (2 * math.pi)
        pair = torch.arange(self.dim // 4, device=device, dtype=torch.float32)
        wavelengths = self.temperature ** (4 * pair / self.dim)
        return torch.cat([self._waves(rows, wavelengths), self._waves(columns, wavelengths)], -1)

    @staticmethod
    def _waves(angles_BHW: Tensor, wavelengths: Tensor) -> Tensor:
        x = angles_BHW[..., None] / wavelengths
        return torch.stack([x.sin(), x.cos()], -1).flatten(-2)  # sine and cosine take turns
