"""The lite mesh head: Mesh R-CNN's, narrower, with group norm, on the fine stride-4 map, and fewer voxels."""

import itertools

from torch import nn

from segcli.models.interface import RoIHead
from segcli.models.layers.pyramid import conv_norm
from segcli.models.rcnn.heads.mesh import MeshHead, Start, check
from segcli.models.rcnn.mesh_layers import DepthHead, Refinement
from segcli.models.rcnn.pooler import Pooler


def build(
    *,
    num_things: int,
    fine: int,
    pooler: str = "roi_align",
    grid: int = 16,
    width: int = 64,
    stages: int = 3,
    start: Start = "voxels",
    pixel_aligned: bool = True,
) -> RoIHead:
    """As of the head mesh."""
    pool = lambda side: Pooler(side, [4], method=pooler, aligned=True)
    check(grid, stages, start)
    layers = [conv_norm(a, b) for a, b in itertools.pairwise([fine, 128, 128, 128])]
    voxels = nn.Sequential(*layers, nn.ConvTranspose2d(128, 128, 2, 2), nn.SiLU(), nn.Conv2d(128, grid, 1))
    depth = DepthHead(fine * 49, num_things, width=256)
    refinement = Refinement(fine, width, stages, pixel_aligned)
    poolers = (pool(grid // 2), pool(7), pool(14))
    return LiteMeshHead(voxels if start == "voxels" else None, depth, refinement, poolers)


class LiteMeshHead(MeshHead):
    """Few samples an image, of which one is refined: the stages have few weights, and thousands of vertices to learn
    them from."""

    slot = "mesh"
    samples = 4
    refined = 1
    weights = (3.0, 1.0, 1.0, 0.05, 0.2)
    dice = 1.0
    taught = 0.3
    points = 1000
    level, radius = 3, 0.7
