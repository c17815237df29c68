"""Square canvases against tight ones: the same trainings at equal steps, one with every image padded to a square of the
longest side, one with a batch padded to its largest image.

    python tests/benchmarks/canvases.py pennfudan/mask_rcnn_lite --steps 120 --set data.source=FOLDER

Prints each training's scores and multiply-adds, then both ratios. Tight ones are scored image by image, so that nothing
else pads an image; how far the same weights fall in batches of eight says what neighbours do to them. Scores hold on a
busy machine too: nothing here is timed. The augmentations scale, aspect and mosaic fill the square canvas in both
trainings, whose weights are then the same: `--set data.augment={flip: 0.5}` leaves them out.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import segcli
from segcli.core.recipe.recipe import Recipe
from segcli.core.recipe.recipe_file import parse_overrides
from segcli.data.dataset import Dataset
from segcli.engine.evaluation import score_model
from segcli.engine.opening import open_model, prepare_layout
from segcli.ops.preprocess import Preprocess

with_size = Preprocess.with_size


def tight(rule: Preprocess, size: int | tuple[int, int] | None) -> Preprocess:
    return dataclasses.replace(with_size(rule, size), square=False)


def in_batches(run: Path, number: int) -> dict[str, float]:
    """The scores of a run's last weights with so many images side by side."""
    opened = open_model(run)
    recipe, model = opened.recipe, prepare_layout(opened.model)
    recipe = recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"batch_size": number})})
    names = recipe.resolve(recipe.data.split_file) if recipe.data.split_file else None
    val = Dataset(recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task, fields=model.fields)
    return score_model(model, val, recipe, device=model.device, progress=False).metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/canvases"))
    options = parser.parse_args()
    given = {"train.minutes": None, "train.steps": options.steps, "train.evaluations": 1, "eval.batch_size": 1}
    for seed in options.seeds:
        work = {}
        for kind, rule in (("square", with_size), ("tight", tight)):
            Preprocess.with_size = rule  # type: ignore[method-assign]
            recipe = Recipe.load(options.recipe, {**given, "train.seed": seed, **parse_overrides(options.set)})
            run = segcli.train(recipe, out=options.out / f"{kind}-{seed}", force=True)
            work[kind] = json.loads((run / "cost.json").read_text(encoding="utf-8"))["train_gflops"]
            for number in (1, 8) if kind == "tight" else (1,):
                scores = in_batches(run, number)
                shown = "  ".join(f"{name} {scores[name]:.4f}" for name in sorted(scores) if name.endswith("AP"))
                print(f"seed {seed}  {kind:6} in batches of {number}  {work[kind]:9.0f} GFLOPs  {shown}", flush=True)
        print(
            f"seed {seed}  square : tight, multiply-adds of training  {work['square'] / work['tight']:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
