"""How long `segcli prepare` takes for many images of a format, each with two objects, as tests/sources.py makes them.

    python tests/benchmarks/prepare_formats.py [--files 20000] [--format geojson …]
    python tests/benchmarks/prepare_formats.py --files 300      # which format costs most processor time

A line a format: seconds, processor seconds, and the latter per image, less what a few images take (the start).
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HERE), str(HERE / "tests")]
import scene  # noqa: E402  # changed before others take their names from it

FEW = 20
TIMES = 5  # images of 160 x 120 in place of 32 x 24
scene.W, scene.H = TIMES * scene.W, TIMES * scene.H
_numbers = np.random.default_rng(0)


def _photo(path: Path) -> Path:
    """A picture like no other: alike ones are a case of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_numbers.integers(0, 255, (12, 16, 3)).astype(np.uint8)).resize((scene.W, scene.H)).save(path)
    return path


scene.photo = _photo
BOXES = [{k: tuple(TIMES * v for v in box) for k, box in boxes.items()} for boxes in scene.SCENE.values()]
from public_sets import ade20k_2016, bdd100k, mapillary  # noqa: E402
from sources import FORMATS  # noqa: E402

SOURCES = {**FORMATS, "mapillary": mapillary, "bdd100k": bdd100k, "ade20k_2016": ade20k_2016}


def make(name: str, folder: Path, files: int) -> None:
    """`files` images of a format; a fifth of them is val, where it has splits."""
    scene.SCENE.clear()
    scene.SPLIT.clear()
    for number in range(files):
        scene.SCENE[f"{number:06}"] = BOXES[number % len(BOXES)]
        scene.SPLIT[f"{number:06}"] = "val" if number % 5 == 4 else "train"
    SOURCES[name](folder)


def prepare(name: str, files: int) -> tuple[float, float]:
    """(seconds, processor seconds) of one `segcli prepare --link` in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="prepare-formats-"))
    try:
        make(name, folder / "source", files)
        command = [sys.executable, "-c", "from segcli.cli.app import main; main()", "prepare", str(folder / "source")]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        arguments = ["-q", "--out", str(folder / "made"), "--link"]
        subprocess.run([*command, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
        taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--format", nargs="*", choices=SOURCES, default=list(SOURCES))
    given = parser.parse_args()
    for name in given.format:
        start = prepare(name, FEW)[1]
        seconds, cpu = prepare(name, given.files)
        each = 1000 * (cpu - start) / (given.files - FEW)
        print(f"{name}: {given.files} images in {seconds:.1f} s, {cpu:.1f} s of processor, {each:.2f} ms an image")


if __name__ == "__main__":
    main()
