"""Images a second of the rasteriser and of embree's rays, and of whole scenes: python tests/benchmarks/rendering.py

CPU time of one thread, which other processes disturb less than the clock; run it on an idle machine all the same.
"""

import time

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from segcli.meshes.raster import rasterise
from segcli.meshes.surface import sample, voxelise
from segcli.sources.synthetic import puppets, solids

CAMERA, SIZE, REPEATS = (200.0, 200.0, 80.0, 80.0), (160, 160), 10


def seconds(work) -> float:
    begun = time.process_time()
    for _ in range(REPEATS):
        work()
    return (time.process_time() - begun) / REPEATS


def main() -> None:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack([(columns - 80) / 200, (rows - 80) / 200, np.ones(SIZE)], -1).reshape(-1, 3)
    for subdivisions in (2, 5):
        ball = trimesh.creation.icosphere(subdivisions, radius=0.7)
        vertices = ball.vertices + np.array([0, 0, 3])

        def cast(vertices=vertices, faces=ball.faces):
            caster = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
            caster.intersects_first(np.zeros_like(rays), rays)

        mine = seconds(lambda v=vertices, f=ball.faces: rasterise(v, f, CAMERA, SIZE))
        points = sample(ball.vertices, ball.faces, 10_000, np.random.default_rng(0))[0]
        filled = seconds(lambda b=ball, p=points: voxelise(b.vertices / 2 + 0.5, b.faces, p / 2 + 0.5, 48))
        rates = f"{1 / mine:5.0f} images/s, embree {1 / seconds(cast):5.0f}"
        print(f"{len(ball.faces):6,} faces: {rates}; 48³ voxels {1e3 * filled:.0f} ms")
    for module in (solids, puppets):
        entry = module.build(train=1, val=1).splits["train"][0]
        took = seconds(lambda m=module, e=entry: m.record(e))
        print(f"{module.__name__.rsplit('.', 1)[1]}: {1e3 * took:.0f} ms a scene")


if __name__ == "__main__":
    main()
