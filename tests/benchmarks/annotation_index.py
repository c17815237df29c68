"""A COCO json of 118,000 images and 860,000 polygons: what a prepared folder costs to open, against pycocotools.

    python tests/benchmarks/annotation_index.py [IMAGES]

Prints seconds and peak memory (above the interpreter with its imports) of pycocotools' COCO(file) and of
Dataset(folder) on the same annotations, each in a process of its own, and of writing the folder.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_IMAGE = 860_000 / 118_000


def generate(root: Path, images: int) -> None:
    """The folder, written by the writer that `prepare` uses, without image files."""
    from segcli.data.index import Writer
    from segcli.info import Category, DatasetInfo

    rng = random.Random(0)
    writer = Writer(root / "annotations" / "train.json", indexed=True)
    done = 0
    for i in range(images):
        wanted = round((i + 1) * PER_IMAGE) - done
        own = []
        for _ in range(wanted):
            done += 1
            polygon = [round(rng.random() * 480, 2) for _ in range(2 * rng.randint(10, 40))]
            own.append(
                {"id": done, "image_id": i + 1, "category_id": rng.randint(1, 80), "iscrowd": 0}
                | {"segmentation": [polygon], "area": 900.5, "bbox": [1.5, 2.5, 30.0, 30.0]}
            )
        writer.add(own)
    records = [{"id": i + 1, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(images)]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 81)]
    writer.close({"images": records, "categories": categories})
    info = DatasetInfo("generated", tuple(Category(c["name"], c["id"]) for c in categories), {"train": images})
    (root / "info.json").write_text(json.dumps(info.to_json()), encoding="utf-8")


def measured(kind: str, root: Path) -> None:
    """Open the folder in this process and print seconds and megabytes."""
    if kind == "pycocotools":
        from pycocotools.coco import COCO

        before, start = peak(), time.perf_counter()
        held = COCO(str(root / "annotations" / "train.json"))
    else:
        from segcli.data.dataset import Dataset

        before, start = peak(), time.perf_counter()
        held = Dataset(root, "train")
        held.annotations(len(held) // 2)
    print(f"RESULT {time.perf_counter() - start:.3f} {peak() - before:.1f}")
    del held


def peak() -> float:
    """This process's own peak in MB; ru_maxrss would also count what the parent had when it started this one."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    if len(sys.argv) == 3:
        return measured(sys.argv[1], Path(sys.argv[2]))
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 118_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start = time.perf_counter()
        generate(root, images)
        size = (root / "annotations" / "train.json").stat().st_size / 1e6
        print(f"{images:,} images, {size:.0f} MB of json, generated and written in {time.perf_counter() - start:.1f} s")
        found = {}
        for kind in ("pycocotools", "segcli"):
            out = subprocess.run([sys.executable, __file__, kind, folder], capture_output=True, text=True, check=True)
            line = next(x for x in out.stdout.splitlines() if x.startswith("RESULT"))
            seconds, megabytes = map(float, line.split()[1:])
            found[kind] = seconds, megabytes
            print(f"{kind}: {seconds:.2f} s, {megabytes:.0f} MB")
        (a, m), (b, n) = found["pycocotools"], found["segcli"]
        print(f"ratio: time {b / a:.3f}, memory {n / m:.3f}")


if __name__ == "__main__":
    main()
