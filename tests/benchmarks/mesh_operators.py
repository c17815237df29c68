"""What the operators of the mesh head cost on one core, forward and backward, against the usual ways to write them.

    python tests/benchmarks/mesh_operators.py

Prints milliseconds of CPU time, which other processes disturb less than the clock, for 8 meshes. Peak memory of all
last.
"""

import resource
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops.meshes.cubify import cubify, icosphere
from segcli.ops.meshes.graph import neighbour_sum, vertex_align
from segcli.ops.meshes.packed import Meshes
from segcli.ops.meshes.surface import chamfer, edge_loss, sample_points


def milliseconds(run: Callable[[], Tensor | None], repeats: int = 5) -> float:
    """Best of `repeats`; what `run` returns is differentiated, too."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        out = run()
        if out is not None:
            out.sum().backward()
        times.append(time.process_time() - begun)
    return 1000 * min(times)


def show(name: str, run: Callable[[], Tensor | None]) -> None:
    print(f"{milliseconds(run):9.1f}  {name}", flush=True)


def all_distances(x: Tensor, y: Tensor) -> Tensor:
    distance = torch.cdist(x, y)
    return distance.amin(1).square().mean() + distance.amin(2).square().mean()


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    for side in (16, 24):
        axis = torch.linspace(-1, 1, side)
        ball = (torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) < 0.8).float()
        show(
            f"cubify {side}³ with edges and adjacency",
            lambda b=ball: (cubify(b.repeat(8, 1, 1, 1), 0.5).adjacency, None)[1],
        )
    meshes = Meshes.join([icosphere(4)] * 8)
    features = torch.randn(len(meshes.vertices), 128, generator=generator, requires_grad=True)
    both = torch.cat([meshes.edges, meshes.edges.flip(1)])
    _ = meshes.adjacency
    show("sum over neighbours, 20,496 vertices × 128: sparse product", lambda: neighbour_sum(meshes, features))
    show("  index_add", lambda: torch.zeros_like(features).index_add(0, both[:, 0], features[both[:, 1]]))
    maps = torch.randn(8, 256, 14, 14, generator=generator, requires_grad=True)
    show("vertex alignment, 256 channels: embedding_bag", lambda: vertex_align(maps, meshes))
    grid = meshes.vertices.view(8, -1, 1, 3)[..., :2]
    show("  grid_sample", lambda: F.grid_sample(maps, grid, align_corners=True, padding_mode="border"))
    moved = meshes.moved(meshes.vertices.clone().requires_grad_())
    show("edge loss", lambda: edge_loss(moved))
    for count in (1_000, 5_000, 10_000):
        show(f"{count:,} points and normals", lambda n=count: sample_points(moved, n, [generator] * 8)[0])
        points, normals, _ = (v.detach() for v in sample_points(moved, count, [generator] * 8))
        own, other = points.clone().requires_grad_(), points * 1.1
        show("  chamfer and normals", lambda a=own, b=other, n=normals: sum(chamfer(a, b, n, n)))  # type: ignore[arg-type]
        if count <= 1_000:
            show("  chamfer by all distances", lambda a=own, b=other: all_distances(a, b))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:9.0f}  MB at most")


if __name__ == "__main__":
    main()
