"""The three parts of a mesh head: voxels, depth range, and refinement by graph convolutions. Official parameter
names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.ops.meshes.graph import neighbour_sum, vertex_align
from segcli.ops.meshes.packed import Meshes


class VoxelHead(nn.Module):
    """Pooled region -> 3×3 layers -> transposed convolution to twice the size -> the channels are the depths."""

    def __init__(self, channels: int, grid: int, width: int = 256, convolutions: int = 4):
        super().__init__()
        sizes = [channels] + [width] * convolutions
        self.names = [f"voxel_fcn{i + 1}" for i in range(convolutions)]
        for name, a, b in zip(self.names, sizes[:-1], sizes[1:], strict=True):
            self.add_module(name, nn.Conv2d(a, b, 3, padding=1))
        self.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        self.predictor = nn.Conv2d(width, grid, 1)
        for layer in self.children():
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.predictor.weight, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,G/2,G/2] -> logits [N,G,G,G] (z, y, x)."""
        for name in self.names:
            x = F.relu(getattr(self, name)(x))
        return self.predictor(F.relu(self.deconv(x)))


class DepthHead(nn.Module):
    """Pooled region -> two linear layers -> log(depth range / box height), one a class."""

    def __init__(self, inputs: int, classes: int, width: int = 1024):
        super().__init__()
        self.z_fc1, self.z_fc2 = nn.Linear(inputs, width), nn.Linear(width, width)
        self.z_pred = nn.Linear(width, classes)
        for layer in (self.z_fc1, self.z_fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(self.z_pred.weight, std=0.001)
        for layer in (self.z_fc1, self.z_fc2, self.z_pred):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,S,S] -> [N,classes]."""
        return self.z_pred(F.relu(self.z_fc2(F.relu(self.z_fc1(x.flatten(1))))))


class GraphConvolution(nn.Module):
    """f'_i = W0 f_i + Σ_j W1 f_j over the neighbours j, both with a bias (Gkioxari et al., 2019, equation in 3.3)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.w0, self.w1 = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        for layer in (self.w0, self.w1):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, meshes: Meshes) -> Tensor:
        """[V,inputs] -> [V,outputs]."""
        return self.w0(features) + neighbour_sum(meshes, self.w1(features))


class RefinementStage(nn.Module):
    """Features at the vertices, three graph convolutions, and an offset in (-1,1)³ of each vertex, 0 at first.

    The bottleneck is linear, as is bilinear sampling with weights that sum to one: it runs on the map's cells in place
    of thousands of vertices, with the same result. aligned: features are those where a vertex lies; else every vertex
    of a mesh gets the mean over its region.
    """

    def __init__(self, channels: int, before: int, width: int, aligned: bool = True, convolutions: int = 3):
        super().__init__()
        self.aligned = aligned
        self.bottleneck = nn.Linear(channels, width)
        sizes = [width + before] + [width] * (convolutions - 1)
        self.gconvs = nn.ModuleList(GraphConvolution(size + 3, width) for size in sizes)
        self.verts_offset = nn.Linear(width + 3, 3)
        nn.init.normal_(self.bottleneck.weight, std=0.01)
        for parameter in (self.bottleneck.bias, self.verts_offset.weight, self.verts_offset.bias):
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor, meshes: Meshes, features: Tensor | None) -> tuple[Meshes, Tensor]:
        """maps [B,C,S,S] of the regions, B meshes in their cubes, features [V,before] of the stage before (None: the
        first) -> the moved meshes and features [V,width]."""
        cells = self.bottleneck(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        seen = vertex_align(cells, meshes) if self.aligned else cells.mean((2, 3))[meshes.vertex_mesh]
        parts = [F.relu(seen), meshes.vertices]
        hidden = torch.cat(parts if features is None else [features, *parts], 1)
        for layer in self.gconvs:
            features = F.relu(layer(hidden, meshes))
            hidden = torch.cat([features, meshes.vertices], 1)
        assert features is not None
        return meshes.moved(meshes.vertices + self.verts_offset(hidden).float().tanh()), features


class Refinement(nn.Module):
    """`stages` one after the other; none leaves meshes as they are."""

    def __init__(self, channels: int, width: int, stages: int, aligned: bool):
        super().__init__()
        self.stages = nn.ModuleList(RefinementStage(channels, width if i else 0, width, aligned) for i in range(stages))

    def forward(self, maps: Tensor, meshes: Meshes) -> list[Meshes]:
        """-> the meshes after each stage."""
        out, features = [], None
        for stage in self.stages:
            meshes, features = stage(maps, meshes, features)
            out.append(meshes)
        return out
