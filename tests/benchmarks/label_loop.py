"""What images chosen by `predict --uncertain` teach, against as many drawn ones.

    python tests/benchmarks/label_loop.py data/nuclei RECIPE --first 5 --more 10 --seeds 0 1 2 --steps 300

For each seed: a model of `first` train images; then two of these and `more`, chosen by the first model or drawn. Their
true labels stand for the corrected ones. Prints the primary score on the val images of all three.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

import segcli
from segcli.commands.predict.uncertain import most_uncertain
from segcli.core.recipe.recipe import Recipe
from segcli.core.tasks import TASKS
from segcli.data.canonical import Record
from segcli.data.dataset import Dataset
from segcli.data.write_folder import write_folder


def folder(dataset: Dataset, val: Dataset, chosen: list[int], out: Path) -> Path:
    """A dataset of the train images at `chosen` and all val images."""

    def records(of: Dataset, positions: list[int]) -> list[Record]:
        paths = [of.images.path(of.file_names[i], of.root) for i in positions]
        return [
            Record(of.file_names[i], of.sizes[i], path, [*of.annotations(i)], id=of.image_ids[i])
            for i, path in zip(positions, paths, strict=True)
        ]

    info = dataclasses.replace(dataset.info, splits={}, image_root=None)
    write_folder(out, info, {"train": records(dataset, chosen), "val": records(val, [*range(len(val))])})
    return out


def score(recipe: str, data: Path, out: Path, steps: int, seed: int) -> tuple[Path, float]:
    changes = {"data.root": str(data), "train.steps": steps, "train.minutes": None, "train.seed": seed}
    loaded = Recipe.load(recipe, overrides=changes)
    run = segcli.train(loaded, out=out)
    return Path(run), segcli.evaluate(run, split="val")[TASKS[loaded.task].primary]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--first", type=int, default=5)
    parser.add_argument("--more", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    train, val = (Dataset(given.data, split=name) for name in ("train", "val"))
    for seed in given.seeds:
        order = np.random.default_rng(seed).permutation(len(train)).tolist()
        first, rest = order[: given.first], order[given.first :]
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            run, before = score(given.recipe, folder(train, val, first, root / "d0"), root / "r0", given.steps, seed)
            paths = {Path(train.images.path(train.file_names[i], train.root)): i for i in rest}
            chosen = [paths[d.file] for d in most_uncertain(segcli.load(run), [*paths], given.more, [])]
            results = {}
            for name, more in (("chosen", chosen), ("drawn", rest[: given.more])):
                data = folder(train, val, first + more, root / name)
                results[name] = score(given.recipe, data, root / f"r-{name}", given.steps, seed)[1]
        print(
            f"seed {seed}: {given.first} images {100 * before:.1f}", *(f"{k} {100 * v:.1f}" for k, v in results.items())
        )


if __name__ == "__main__":
    main()
