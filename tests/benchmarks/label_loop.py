"""What images chosen by `predict --uncertain` teach, against as many drawn ones.

    python tests/benchmarks/label_loop.py data/nuclei nuclei/mask_rcnn_lite --out loop --steps 150

For each seed: a model of `first` train images; then two of these and `more`, chosen by the first model or drawn. Their
true labels stand for the corrected ones. All three have as many steps and are scored on all val images, once,
at the end. Prints the primary score ×100 of the three, and at last how much more the chosen images gave, in the mean.

Datasets and runs are kept below `--out`: the same command goes on where it was interrupted, and ends at once where
nothing is left to do. Another command needs another folder.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np

import segcli
from segcli.commands.predict.uncertain import most_uncertain
from segcli.core.files import write_atomic
from segcli.core.recipe.recipe import Recipe
from segcli.core.recipe.recipe_file import parse_overrides
from segcli.core.tasks import TASKS
from segcli.data.canonical import Record
from segcli.data.dataset import Dataset
from segcli.data.write_folder import write_folder
from segcli.engine.run_folder import RunFolder


def folder(dataset: Dataset, val: Dataset, chosen: list[int], out: Path) -> Path:
    """A dataset of the train images at `chosen` and all val images."""
    if (out / "info.json").is_file():  # the last file that is written
        return out

    def records(of: Dataset, positions: list[int]) -> list[Record]:
        paths = [of.images.path(of.file_names[i], of.root) for i in positions]
        return [
            Record(of.file_names[i], of.sizes[i], path, [*of.annotations(i)], id=of.image_ids[i])
            for i, path in zip(positions, paths, strict=True)
        ]

    info = dataclasses.replace(dataset.info, splits={}, image_root=None)
    write_folder(out, info, {"train": records(dataset, chosen), "val": records(val, [*range(len(val))])}, force=True)
    return out


def score(recipe: str, changes: dict[str, object], data: Path, out: Path) -> float:
    """The primary score of a run in `out`, which is trained, or trained to its end."""
    loaded = Recipe.load(recipe, overrides={**changes, "data.root": str(data)})
    if (out / "recipe.yaml").is_file():
        segcli.train(None, resume=out)
    else:
        segcli.train(loaded, out=out)
    found = RunFolder(out).read_metrics()["metrics"][TASKS[loaded.task].primary]
    assert found is not None
    return found


def choose(run: Path, train: Dataset, rest: list[int], count: int, file: Path) -> list[int]:
    """The images of `rest` that the run asks for, which `file` remembers."""
    if not file.is_file():
        paths = {Path(train.images.path(train.file_names[i], train.root)): i for i in rest}
        chosen = [paths[doubt.file] for doubt in most_uncertain(segcli.load(run), [*paths], count, [])]
        write_atomic(file, lambda part: part.write_text(json.dumps(chosen), encoding="utf-8"))
    return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=5)
    parser.add_argument("--more", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe, as train's")
    given = parser.parse_args()
    train, val = (Dataset(given.data, split=name) for name in ("train", "val"))
    gains = []
    for seed in given.seeds:
        lengths = {"train.steps": given.steps, "train.minutes": None, "train.evaluations": 1}
        changes = {**lengths, "train.seed": seed, **parse_overrides(given.set)}
        root = given.out / f"seed-{seed}"
        order = np.random.default_rng(seed).permutation(len(train)).tolist()
        first, rest = order[: given.first], order[given.first :]

        def scored(name: str, images: list[int], root: Path = root, changes: dict[str, object] = changes) -> float:
            return score(given.recipe, changes, folder(train, val, images, root / f"{name}-data"), root / name)

        before = scored("first", first)
        chosen = scored("chosen", first + choose(root / "first", train, rest, given.more, root / "chosen.json"))
        drawn = scored("drawn", first + rest[: given.more])
        gains.append(chosen - drawn)
        scores = f"first {100 * before:.1f}, chosen {100 * chosen:.1f}, drawn {100 * drawn:.1f}"
        print(f"seed {seed}: {scores}", flush=True)
    each = ", ".join(f"{100 * gain:+.1f}" for gain in gains)
    print(f"chosen against drawn: {each}; in the mean {100 * statistics.mean(gains):+.1f}")


if __name__ == "__main__":
    main()
