"""Run by hand: what each stage of a mesh head's refinement gains over the surface of its own voxels.

    python tests/benchmarks/mesh_stages.py runs/solids-mesh_rcnn
    python tests/benchmarks/mesh_stages.py runs/solids-mesh_rcnn --data data/arches --data data/mine3d

Scores one run's meshes as they are before the first stage and after each, boxes and classes being the same.
"""

import argparse
from pathlib import Path

from segcli.core.recipe.recipe import Recipe
from segcli.data.dataset import Dataset
from segcli.engine.evaluation import score_model
from segcli.engine.opening import open_model, prepare_layout
from segcli.models.interface import Detections, Finished
from segcli.models.rcnn.heads.mesh import MeshHead

SHOWN = ("mesh_AP", "mesh_F1_01", "mesh_F1_03", "mesh_F1_05", "mesh_chamfer", "mesh_normal_consistency", "bbox_AP")


def split(recipe: Recipe, data: Path | None, fields: dict[str, type]) -> Dataset:
    """The recipe's own val split, or that of another folder."""
    names = recipe.resolve(recipe.data.split_file) if recipe.data.split_file and data is None else None
    return Dataset(data or recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task, fields=fields)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, action="append", help="a prepared folder; by default the run's own")
    given = parser.parse_args()
    opened = open_model(given.run)
    model, recipe = prepare_layout(opened.model), opened.recipe
    head = next(part for part in model.modules() if isinstance(part, MeshHead))
    finish, stages = head.finish, len(head.mesh_head.stages)
    for data in given.data or [None]:
        val = split(recipe, data, model.fields)
        print(f"{data or recipe.data.root}: {len(val)} images", flush=True)
        for stage in range(stages + 1):

            def stopped(
                found: Detections, size: tuple[int, int], original: tuple[int, int], last: int = stage
            ) -> Finished:
                found.extra["mesh_vertices"] = found.extra["mesh_vertices"][: last + 1]
                return finish(found, size, original)

            head.finish = stopped  # type: ignore[method-assign]
            scores = score_model(model, val, recipe, device=model.device, progress=False).metrics
            shown = ", ".join(f"{key} {scores[key]:.3f}" for key in SHOWN if scores.get(key) is not None)
            print(f"  after {stage} of {stages} stages: {shown}", flush=True)


if __name__ == "__main__":
    main()
