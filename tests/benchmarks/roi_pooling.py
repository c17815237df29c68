"""RoIPool against RoIAlign in every head, three seeds, equal steps: python tests/benchmarks/roi_pooling.py [--steps N]

Run by hand. Runs that are there already (OUT/DATA-POOLER-SEED) are not trained again, so it can be interrupted.
`--real ROOT` names a prepared PennFudan (segcli prepare pennfudan --source … --out ROOT); without it, the shapes alone.
"""

import argparse
import json
import statistics
from pathlib import Path

from segcli.commands.train import train
from segcli.core.recipe.recipe import Recipe

KEYS = ("bbox_AP", "bbox_AP75", "segm_AP", "segm_AP75")
POOLERS = ("roi_align", "roi_pool")


def scores(name: str, recipe: str, pooler: str, seed: int, overrides: dict, out: Path) -> dict[str, float]:
    """The metrics of one run, trained if it is not there."""
    run = out / f"{name}-{pooler}-{seed}"
    if not (run / "cost.json").is_file():
        wanted = {
            **{"train.minutes": None, "train.evaluations": 1, "train.seed": seed, **overrides},
            **{f"model.heads.{head}.pooler": pooler for head in ("iou_box", "lite_mask")},
        }
        train(Recipe.load(recipe, wanted), out=run, force=True)
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))["metrics"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--real", type=Path, help="a prepared PennFudan")
    parser.add_argument("--out", type=Path, default=Path("runs/roi_pooling"))
    given = parser.parse_args()
    data = {"shapes": ("shapes/mask_rcnn_roi_pool", {})}
    if given.real:
        data["pennfudan"] = ("pennfudan/mask_rcnn_lite", {"data.root": str(given.real), "init": None})
    print("| data | pooler | " + " | ".join(KEYS) + " |\n|" + "---|" * (2 + len(KEYS)))
    for name, (recipe, overrides) in data.items():
        overrides = {**overrides, "train.steps": given.steps}
        for pooler in POOLERS:
            runs = [scores(name, recipe, pooler, seed, overrides, given.out) for seed in range(given.seeds)]
            cells = []
            for key in KEYS:
                values = [100 * r[key] for r in runs]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
            print(f"| {name} | {pooler} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
