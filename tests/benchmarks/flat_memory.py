"""Run by hand: the peak memory of `segcli predict` and `segcli eval` does not grow with the number of images.

    python tests/benchmarks/flat_memory.py --images 100 5000

A tiny Mask R-CNN is trained for a few steps on images made here; then both commands run on each number of images, in
processes of their own. Goal: flat, that is, the peak on the most images within 10 % of the one on the fewest. What
`eval` must hold, the annotations and what intervals need of each detection, is all that may grow. It scores a run on
its own data, so that predictions and intervals are stored and the low score is diagnosed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SIDE = 96
OBJECTS = 3
TRAIN = 8
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "task": "instance",
    "data": {"root": "set", "size": SIDE},
    "model": {
        **{"name": "rcnn_lite", "width": 32, "proposals": [8, 20]},
        **{"backbone": {"name": "resnet", "depth": 18}, "heads": {"iou_box": {}, "lite_mask": {}}},
    },
    "train": {"steps": 5, "batch_size": 2, "evaluations": 0},
    "hardware": {"device": "cpu", "workers": 1},
}


def write(root: Path, images: int) -> None:
    """A canonical folder: `images` images with squares to score, and TRAIN more to train on."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    records, annotations = [], []
    for image_id in range(1, images + TRAIN + 1):
        pixels = rng.integers(90, 140, (SIDE, SIDE, 3)).astype(np.uint8)
        for _ in range(OBJECTS):
            x, y, side = (int(v) for v in rng.integers((0, 0, 10), (60, 60, 36)))
            pixels[y : y + side, x : x + side] = (220, 60, 40)
            polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0},
                    **{"segmentation": [polygon], "bbox": [x, y, side, side], "area": side * side},
                }
            )
        Image.fromarray(pixels).save(root / "images" / f"{image_id}.jpg")
        records.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": SIDE, "height": SIDE})
    for split, wanted in (("train", range(1, TRAIN + 1)), ("val", range(TRAIN + 1, images + TRAIN + 1))):
        parts = [r for r in records if r["id"] in wanted], [a for a in annotations if a["image_id"] in wanted]
        coco = {"images": parts[0], "annotations": parts[1], "categories": [{"id": 1, "name": "square"}]}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco), encoding="utf-8")
    info = {"version": 1, "name": "squares", "categories": [{"name": "square", "source_id": 1}]}
    (root / "info.json").write_text(json.dumps({**info, "splits": {"train": TRAIN, "val": images}}), encoding="utf-8")


def peak(folder: Path, *arguments: str) -> float:
    """Run `segcli ARGUMENTS`. -> the largest memory in MB of its processes."""
    command = [sys.executable, "-m", "segcli.cli.app", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{' '.join(arguments)} failed"
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 5000])
    arguments = parser.parse_args()
    counts = sorted(arguments.images)
    with tempfile.TemporaryDirectory(prefix="segcli-memory-") as name:
        folder = Path(name)
        (folder / "r.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
        for count in counts:
            write(folder / f"set{count}", count)
        peak(folder, "train", "r.yaml", "--out", "run", "--set", f"data.root=set{counts[0]}")
        for command in ("predict", "eval"):
            peaks = []
            for count in counts:
                if command == "predict":
                    given = ("predict", "run", f"set{count}/images", "--score", "0", "--out", f"out{count}")
                else:
                    own = Path(shutil.copytree(folder / "run", folder / f"run{count}"))
                    recipe = yaml.safe_load((own / "recipe.yaml").read_text(encoding="utf-8"))
                    recipe["data"]["root"] = str(folder / f"set{count}")
                    (own / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
                    given = ("eval", own.name)
                peaks.append(peak(folder, *given))
                print(f"{command} {count} images: {peaks[-1]:.0f} MB", flush=True)
            print(f"{command}: {counts[-1]} images take {peaks[-1] / peaks[0]:.2f} of what {counts[0]} take; goal 1.10")


if __name__ == "__main__":
    main()
