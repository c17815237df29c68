"""How long `prepare` and `--check` of many mask pictures take: run it paired, with two checkouts on one machine.

    python tests/benchmarks/mask_folders.py [--files 20000] [--kind ids|single|classes] [--rounds 3] [--other CHECKOUT]

Makes one folder of images and masks, then times this checkout and, in turns, the other one (its package is put first on
PYTHONPATH). Prints seconds of every round and the ratio of the medians.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (160, 160)
HERE = Path(__file__).resolve().parents[2]


def make(folder: Path, files: int, kind: str) -> None:
    """images/ and masks/ (of classes annotations/, with their names), each image with one to six squares."""
    masks = folder / ("annotations" if kind == "classes" else "masks")
    for part in (folder / "images", masks):
        part.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(files):
        small = rng.integers(0, 255, (10, 10, 3)).astype(np.uint8)
        Image.fromarray(small).resize(SIZE).save(folder / "images" / f"{number:06}.jpg")
        values = np.zeros(SIZE, np.uint8)
        for i in range(1 if kind == "single" else int(rng.integers(1, 7))):
            y, x = 50 * (i // 3) + int(rng.integers(0, 20)), 50 * (i % 3) + int(rng.integers(0, 20))
            values[y : y + 28, x : x + 28] = {"ids": i + 1, "single": 255, "classes": 1 + i % 3}[kind]
        Image.fromarray(values).save(masks / f"{number:06}.png")
    if kind == "classes":
        (folder / "classes.txt").write_text("background\na\nb\nc\n", encoding="utf-8")


def seconds(checkout: Path, source: Path, check: bool) -> float:
    """Of one `segcli prepare` in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", "from segcli.cli.app import main; main()", "prepare", str(source), "-q"]
        command += ["--check"] if check else ["--out", str(Path(out) / "made"), "--link"]
        start = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(checkout)}  # which the working folder would come before
        subprocess.run(command, cwd=out, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--kind", choices=("ids", "single", "classes"), default="ids")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path)
    given = parser.parse_args()
    checkouts = [HERE, *([given.other.resolve()] if given.other else [])]
    folder = Path(tempfile.mkdtemp(prefix="mask-folders-"))
    try:
        make(folder / "source", given.files, given.kind)
        for check in (False, True):
            found: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
            for _ in range(given.rounds):
                for checkout in checkouts:
                    found[checkout].append(seconds(checkout, folder / "source", check))
            for checkout, times in found.items():
                shown = " ".join(f"{value:.1f}" for value in times)
                print(f"{'--check' if check else 'prepare'} {given.files} {given.kind}, {checkout}: {shown} s")
            if given.other:
                first, second = (statistics.median(times) for times in found.values())
                print(f"  ratio of the medians, this to the other: {first / second:.3f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
