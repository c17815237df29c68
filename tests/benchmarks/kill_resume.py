"""Run by hand, some minutes: a training killed with -9 at random moments ends bitwise like one that never was.

    python tests/benchmarks/kill_resume.py --kills 20 --seed 0

A small Mask R-CNN learns 24 embedded images with 2 loader workers, a moving average and augmentation. One run goes
through; the other is killed in three kinds of moments in turn (during a step, while a checkpoint is being written,
while the process starts), resumed, and killed again. Moments follow the steps in the log and, while starting, the time
that the first start took, so that a slow or busy machine changes nothing: steps are gained between kills. Compared
bitwise, times left out: every tensor and number of checkpoints/last.pt, log.jsonl, metrics.json and the predictions.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import yaml

COMMAND = [sys.executable, "-m", "segcli.cli.app"]
RECIPE: dict[str, Any] = {
    "name": "killed",
    "task": "instance",
    "data": {
        **{"name": "shapes", "root": "data/shapes", "prepare": {"train": 24, "val": 4, "size": 96}, "size": 64},
        "augment": {"flip": 0.5, "scale": [0.7, 1.3], "colour": 0.5, "copy_paste": 0.5},
    },
    "model": {
        **{"name": "rcnn_lite", "width": 32, "backbone": {"name": "resnet", "depth": 18}},
        "heads": {"iou_box": {}, "lite_mask": {}},
    },
    "train": {"batch_size": 2, "ema": 0.99, "evaluations": 3, "log_every": 1, "save_minutes": 0.01},
    "hardware": {"device": "cpu", "workers": 2, "threads": 1},
}
MOMENTS = ("step", "save", "start")


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`segcli train`, in a process group of its own."""
    return subprocess.Popen(
        [*COMMAND, "train", *arguments, "-q"],
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """-9 for the main process alone, as an out-of-memory killer does; then for what workers are left."""
    process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stderr is not None
    process.stderr.close()


def wait_for(moment: str, run: Path, process: subprocess.Popen[bytes], rng: random.Random, startup: float) -> str:
    """Return at a random moment of the kind, or when the process ended. startup: seconds until a first step. -> what
    was going on"""
    if moment == "start":
        time.sleep(rng.uniform(0.0, 1.2 * startup))
        return f"{moment}, step {logged(run)}"
    wanted = logged(run) + rng.randint(2, 8)
    while process.poll() is None and logged(run) < wanted:
        time.sleep(0.002)
    if moment == "step":
        time.sleep(rng.uniform(0.0, 0.4))
        return f"{moment} {logged(run)}"
    while process.poll() is None:
        for file in (run / "checkpoints").glob(".*"):
            time.sleep(rng.uniform(0.0, 0.05))
            with contextlib.suppress(FileNotFoundError):
                return f"{moment}, {file.stat().st_size / 1e6:.0f} MB written at step {logged(run)}"
        time.sleep(0.0005)
    return "ended"


def logged(run: Path) -> int:
    """The last step in the log, 0 without one."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        with contextlib.suppress(json.JSONDecodeError):
            return int(json.loads(line)["step"])
    return 0


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two nested values differ, `seconds` left out."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [place]
    if isinstance(a, dict) and isinstance(b, dict):
        out = [] if a.keys() == b.keys() else [f"{place}: other keys"]
        return out + [d for k in a.keys() & b.keys() if k != "seconds" for d in differences(a[k], b[k], f"{place}.{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        out = [] if len(a) == len(b) else [f"{place}: {len(a)} and {len(b)} entries"]
        return out + [d for i, (x, y) in enumerate(zip(a, b, strict=False)) for d in differences(x, y, f"{place}[{i}]")]
    return [] if a == b else [f"{place}: {a!r} and {b!r}"]


def contents(run: Path) -> dict[str, Any]:
    read = lambda name: json.loads((run / name).read_text(encoding="utf-8"))
    return {
        "last.pt": torch.load(run / "checkpoints" / "last.pt", weights_only=True),
        "log": [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()],
        "metrics": read("metrics.json"),
        "predictions": read("predictions/val.json"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120, help="more than the kills use up, 5 each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, done = random.Random(arguments.seed), Counter()
    with tempfile.TemporaryDirectory(prefix="segcli-kill-") as name:
        folder = Path(name)
        recipe = {**RECIPE, "train": {**RECIPE["train"], "steps": arguments.steps}}
        (folder / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        whole, killed = folder / "whole", folder / "killed"
        begun, process = time.monotonic(), start(folder, "r.yaml", "--out", "whole")
        while not logged(whole) and process.poll() is None:
            time.sleep(0.02)
        startup = time.monotonic() - begun
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        for number in range(arguments.kills):
            last = killed / "checkpoints" / "last.pt"
            resumable = last.is_file()
            process = start(
                folder, *(["--resume", "killed"] if resumable else ["r.yaml", "--out", "killed", "--force"])
            )
            while number and not last.is_file() and process.poll() is None:
                time.sleep(0.01)  # the first kill may come before the first checkpoint, later ones would never end
            moment = MOMENTS[number % len(MOMENTS)]
            said = wait_for(moment, killed, process, rng, startup)
            if process.poll() is not None:
                print(f"the run ended after {number} kills, code {process.returncode}: more --steps are needed")
                break
            kill(process)
            done[moment] += 1
            print(f"kill {number + 1}: {said}", flush=True)
        process = start(folder, "--resume", "killed")
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        found = differences(contents(whole), contents(killed))
        left = [p.name for p in killed.rglob(".*")]
        print(f"{sum(done.values())} kills ({dict(done)}) of a run of {arguments.steps} steps")
        print(f"differences: {found or 'none, bitwise'}; temporary files left: {left or 'none'}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
