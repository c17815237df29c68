"""Paired benchmark, run by hand on an idle machine: box and mask AP of stored predictions, against pycocotools.

    python tests/benchmarks/evaluation_speed.py --images 1000 --masks 42 --rounds 3

Each side is a process of its own that reads the same annotation and results files and prints its scores; imports are
not counted, neither in the time nor in the memory (peak above what the imports took). Goals: 30 times faster, half the
memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import limit, paired
from pycocotools import mask as coco_mask

KEYS = ("bbox_AP", "segm_AP")
CLASSES = 10


def write(root: Path, images: int, masks: int) -> None:
    """A canonical folder without image files, and results.json: ellipses, and the same ellipses moved a little."""
    rng = np.random.default_rng(0)
    height, width = 480, 640
    truth, results = [], []
    for image_id in range(1, images + 1):
        drawn = []
        for _ in range(masks):
            centre, axes = rng.uniform(0, (width, height)), rng.uniform(6, 90, 2)
            drawn += [ellipse(centre + moved, axes) for moved in (np.zeros(2), rng.normal(0, 4, 2))]
        rles = coco_mask.frPyObjects(drawn, height, width)
        boxes, areas = coco_mask.toBbox(rles).tolist(), coco_mask.area(rles).tolist()
        for k, rle in enumerate(rles):
            if not areas[k] or not areas[k - k % 2]:
                continue
            segmentation = {"size": [height, width], "counts": rle["counts"].decode()}
            entry = {"image_id": image_id, "category_id": 1 + k // 2 % CLASSES, "segmentation": segmentation}
            if k % 2 == 0:
                own = {"id": len(truth) + 1, "bbox": boxes[k], "area": areas[k], "iscrowd": 0}
                truth.append({**entry, **own})
            else:
                results.append({**entry, "bbox": boxes[k], "score": round(float(rng.uniform()), 4)})
    records = [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in range(1, images + 1)]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
    (root / "annotations").mkdir()
    dump(root / "annotations" / "val.json", {"images": records, "annotations": truth, "categories": categories})
    dump(root / "results.json", results)
    described = [{"name": c["name"], "source_id": c["id"]} for c in categories]
    dump(root / "info.json", {"version": 1, "name": "made", "categories": described, "splits": {"val": images}})


def ellipse(centre: np.ndarray, axes: np.ndarray) -> list[float]:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return (centre + axes * np.stack([np.cos(angle), np.sin(angle)], 1)).ravel().tolist()


def dump(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def ours(root: Path) -> dict[str, float]:
    from segcli.data.dataset import Dataset
    from segcli.metrics.instance import InstanceScores
    from segcli.predictions.store import StoredPredictions

    def run() -> dict[str, float]:
        dataset = Dataset(root, "val")
        stored, scores = StoredPredictions(root / "results.json", dataset), InstanceScores(dataset.info)
        for i in range(len(dataset)):
            target, annotations = dataset.annotated_target(i)
            scores.update([stored.read(i)], [target], [annotations])
        return scores.compute()

    return measured(run)


def theirs(root: Path) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def run() -> dict[str, float]:
        truth, out = COCO(str(root / "annotations" / "val.json")), {}
        found = truth.loadRes(str(root / "results.json"))
        for kind in ("bbox", "segm"):
            scores = COCOeval(truth, found, kind)
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
            out[f"{kind}_AP"] = float(scores.stats[0])
        return out

    return measured(run)


def measured(run: Any) -> dict[str, float]:
    """The two APs, seconds, and how many MB the process grew by at its peak."""
    before, begun = peak(), time.perf_counter()
    scores = run()
    seconds = time.perf_counter() - begun
    return {**{key: scores[key] for key in KEYS}, "seconds": seconds, "mb": peak() - before, "mb_in_all": peak()}


def peak() -> float:
    """This process's largest memory so far, in MB. Linux hands ru_maxrss down to a started process: not read there."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--masks", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        # the last line: pycocotools prints too
        print("\n" + json.dumps((ours if arguments.side == "ours" else theirs)(arguments.root)))
        return
    limit()
    seen: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory(prefix="segcli-evaluation-") as name:
        write(Path(name), arguments.images, arguments.masks)

        def side(which: str) -> float:
            command = [sys.executable, __file__, "--side", which, "--root", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seen[which].append(json.loads(done.stdout.splitlines()[-1]))
            return seen[which][-1]["seconds"]

        title = f"evaluation of {arguments.images} images x {arguments.masks} masks"
        names = ("segcli", "pycocotools")
        paired(title, lambda: side("ours"), lambda: side("theirs"), arguments.rounds, names=names, goal="0.033 at most")
    mine, other = (min(values, key=lambda v: v["mb"]) for values in seen.values())
    print(
        f"memory above the imports: segcli {mine['mb']:.0f} MB, pycocotools {other['mb']:.0f} MB, ratio "
        f"{mine['mb'] / max(other['mb'], 1e-9):.2f}; goal 0.5 (in all {mine['mb_in_all']:.0f} and "
        f"{other['mb_in_all']:.0f} MB)"
    )
    for key in KEYS:
        print(f"{key}: segcli {mine[key]:.6f}, pycocotools {other[key]:.6f}")
        assert abs(mine[key] - other[key]) < 1e-6


if __name__ == "__main__":
    main()
