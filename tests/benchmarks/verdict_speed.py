"""By hand, on an idle machine: how long the verdict takes, given a finished run.

    python tests/benchmarks/verdict_speed.py runs/pennfudan-mask_rcnn-lite

Ten copies of the run are compared, in a process of its own (goal: 2 s at most, without torch). Then the run is
evaluated, and printed is the share of time that the model does not take (goal: 15 %). The run's own files stay as they
are.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMPARE = """
import sys
from segcli.cli.app import run
code = run(["compare", *sys.argv[1:]])
print("torch imported:", "torch" in sys.modules)
sys.exit(code)
"""


def compare(run: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / f"run-{i}" for i in range(10)]
        for copy in copies:
            shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints"))
        for i in range(rounds + 1):
            begun = time.perf_counter()
            command = [sys.executable, "-c", COMPARE, *map(str, copies)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            if i:  # the first one reads the disk
                print(f"compare of ten runs: {time.perf_counter() - begun:.2f} s, {done.stdout.splitlines()[-1]}")


def evaluate(run: Path, rounds: int) -> None:
    from segcli.data.dataset import Dataset
    from segcli.engine.evaluation import score_model
    from segcli.engine.opening import open_model, prepare_layout

    opened = open_model(run)
    recipe, model = opened.recipe, prepare_layout(opened.model)
    names = recipe.data.split_file and recipe.resolve(recipe.data.split_file)
    data = Dataset(
        recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task, fields=getattr(model, "fields", {})
    )
    predict, inside = model.predict, []

    def timed(batch):
        begun = time.perf_counter()
        found = predict(batch)
        inside.append(time.perf_counter() - begun)
        return found

    model.predict = timed
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds + 1):
            inside.clear()
            keep = Path(folder) / "val.json"
            scores = score_model(model, data, recipe, device="cpu", progress=False, keep=keep)
            if i:
                share = 1 - sum(inside) / scores.seconds
                print(f"eval of {scores.images} images: {100 * share:.1f} % outside the model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    compare(given.run, given.rounds)
    evaluate(given.run, given.rounds)


if __name__ == "__main__":
    main()
