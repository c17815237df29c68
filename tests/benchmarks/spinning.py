"""How long torch's waiting threads should spin: training steps and predictions of the quick start, on an idle machine
and beside one process that keeps a core busy.

    python tests/benchmarks/spinning.py --rounds 3

Rounds are paired: in each, every setting is measured once, idle and busy, in a process of its own (the library reads
its settings as torch is loaded). Prints seconds a step and an image, and the medians. Needs data/shapes
(`segcli prepare shapes`); run it by hand, with nothing else running.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict

SETTINGS = {
    "the library's default": {"GOMP_SPINCOUNT": "300000"},
    "10000 turns (segcli's)": {"GOMP_SPINCOUNT": "10000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
}
BUSY = "while True: pass"


def measure(recipe_name: str, steps: int, images: int) -> dict[str, float]:
    """Seconds of the median training step and of an image, in this process."""
    from segcli.commands.predictor import Predictor
    from segcli.core.dataset_info import DatasetInfo
    from segcli.core.recipe.recipe import Recipe
    from segcli.data.dataset import Dataset
    from segcli.engine.opening import choose_device, start
    from segcli.engine.training import trial_steps

    recipe = Recipe.load(recipe_name, {"hardware.device": "cpu"})
    model, _ = start(recipe, DatasetInfo.load(recipe.data.root))
    train_set = Dataset(recipe.data.root, "train", task=recipe.task)
    device = choose_device("cpu")
    trial = itertools.islice(trial_steps(recipe, model, train_set, device), steps + 3)
    training = statistics.median([seconds for seconds, _ in trial][3:])
    predictor = Predictor(model, recipe, train_set.info)
    shown = [train_set.image(i) for i in range(images)]
    predictor(shown[:2])
    begun = time.perf_counter()
    predictor(shown)
    return {"step": training, "image": (time.perf_counter() - begun) / images}


def run(variables: dict[str, str], busy: bool, options: argparse.Namespace) -> dict[str, float]:
    """`measure` in a process with these variables, beside a busy one or not."""
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        command = [sys.executable, __file__, "--child", "--recipe", options.recipe]
        command += ["--steps", str(options.steps), "--images", str(options.images)]
        done = subprocess.run(command, env={**kept, **variables}, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="quickstart/mask_rcnn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.recipe, options.steps, options.images)))
        return
    found: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
    for number in range(options.rounds):
        for busy, (name, variables) in itertools.product((False, True), SETTINGS.items()):
            for what, seconds in run(variables, busy, options).items():
                found[name, what, busy].append(seconds)
                beside = "beside a busy process" if busy else "idle"
                print(f"round {number + 1}  {name:24} {beside:22} {what:6} {seconds:8.3f} s", flush=True)
    print("\nmedians, seconds       " + "".join(f"{name:>26}" for name in SETTINGS))
    for what, busy in itertools.product(("step", "image"), (False, True)):
        values = [statistics.median(found[name, what, busy]) for name in SETTINGS]
        print(f"{what:6} {'busy' if busy else 'idle':16}" + "".join(f"{value:26.3f}" for value in values))


if __name__ == "__main__":
    main()
