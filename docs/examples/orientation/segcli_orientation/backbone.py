"""The plainest backbone: one strided convolution a stage."""

import itertools

from torch import Tensor, nn


def build(*, width: int = 16) -> "Plain":
    """width: channels at stride 4; every stage doubles them."""
    return Plain(width)


class Plain(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.channels, self.strides = [width * 2**i for i in range(4)], [4, 8, 16, 32]
        stage = lambda a, b, stride: nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1), nn.GroupNorm(4, b), nn.SiLU(), nn.Conv2d(b, b, 3, 1, 1), nn.SiLU()
        )
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.SiLU())
        sizes = [width, *self.channels]
        self.stages = nn.ModuleList(stage(a, b, 2) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)
