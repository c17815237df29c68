"""By hand, on an idle machine: how far `train --dry-run` is off what training then takes.

    python tests/benchmarks/forecast.py quickstart/mask_rcnn --set train.minutes=null --set train.steps=60
    python tests/benchmarks/forecast.py quickstart/faster_rcnn pennfudan/mask_rcnn_lite custom/mask_rcnn …

Each recipe is forecast and then trained, each in a process of its own, in a temporary folder that has the datasets of
the working folder's data/. Printed are forecast and outcome of training time, evaluation time, peak memory of the
process tree (shared pages in parts, sampled every second) and disk, and their ratio; goal: within 25 %. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segcli.core.recipe.recipe import find_recipe

FORECAST = """
import json, sys
from segcli.commands.train import dry_run
from segcli.core.recipe.recipe import Recipe, parse_overrides
recipe = Recipe.load(sys.argv[1], parse_overrides(sys.argv[2:]))
print(json.dumps(dry_run(recipe)["forecast"]))
"""


def tree_memory(root: int) -> float:
    """MB of a process and its descendants: what each has alone, and its share of what several map."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has ended
            continue
    return total * 1024 / 1e6


def train(recipe: str, changes: list[str], folder: Path) -> tuple[dict[str, float], Path]:
    """-> what a training took, and its run folder."""
    run = folder / "run"
    command = [sys.executable, "-m", "segcli.cli.app", "train", recipe, "--out", str(run), "--quiet", *changes]
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(1)  # reading the page tables takes the training's time
    if process.returncode:
        sys.exit(f"{recipe}: the training failed")
    seconds = json.loads((run / "cost.json").read_text())["train_seconds"]
    disk = sum(f.stat().st_size for f in run.rglob("*") if f.is_file()) / 1e6
    evaluation = json.loads((run / "metrics.json").read_text())["seconds"]
    rounds = sum("metrics" in json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    print(f"  {time.perf_counter() - begun:.0f} s in all")
    return {
        "train_minutes": seconds / 60,
        "evaluation_minutes": rounds * evaluation / 60,
        "peak_memory_mb": peak,
        "disk_mb": disk,
    }, run


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("recipes", nargs="+")
    arguments.add_argument("--set", action="append", default=[])
    given = arguments.parse_args()
    changes = [part for pair in given.set for part in ("--set", pair)]
    worst = 0.0
    for name in given.recipes:
        recipe = str(find_recipe(name).resolve())
        with tempfile.TemporaryDirectory() as folder:
            if Path("data").is_dir():
                (Path(folder) / "data").symlink_to(Path("data").resolve())
            told = subprocess.run(
                [sys.executable, "-c", FORECAST, recipe, *given.set], cwd=folder, capture_output=True, text=True
            )
            if told.returncode:
                sys.exit(told.stderr)
            forecast = json.loads(told.stdout.splitlines()[-1])
            print(f"{name}: {'measured' if forecast['measured'] else 'estimated'}")
            outcome, _ = train(recipe, changes, Path(folder))
        for key, value in outcome.items():
            ratio = forecast[key] / value
            worst = max(worst, abs(ratio - 1))
            print(f"  {key}: forecast {forecast[key]:.3g}, outcome {value:.3g}, ratio {ratio:.2f}", flush=True)
    print(f"the worst is {worst:.0%} off; goal 25 %")


if __name__ == "__main__":
    main()
