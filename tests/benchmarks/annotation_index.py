"""A COCO json of 118,000 images and 860,000 polygons: what preparing and then opening it costs, against pycocotools.

    python tests/benchmarks/annotation_index.py [IMAGES]

Prints seconds and peak memory (above the interpreter with its imports) of pycocotools' COCO(file), of `prepare --link`
on the same file, of Dataset(folder) on what that wrote, and of its statistics, each in a process of its own; then what
the labels of one image cost to read, against a folder of 100 images.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_IMAGE = 860_000 / 118_000


def generate(source: Path, images: int) -> Path:
    """The files as COCO lays them out, with empty image files: they are not opened. -> the train json."""
    from segcli.data.index import Writer

    rng = random.Random(0)
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 81)]
    done = first = 0
    for split, count in (("val", 1), ("train", images)):
        writer = Writer(source / "annotations" / f"instances_{split}2017.json", indexed=False)
        (source / f"{split}2017").mkdir(parents=True)
        records = []
        for i in range(count):
            own = []
            for _ in range(round((i + 1) * PER_IMAGE) - round(i * PER_IMAGE)):
                done += 1
                x, y = rng.random() * 400, rng.random() * 300
                points = [(x + 100 * rng.random(), y + 100 * rng.random()) for _ in range(rng.randint(10, 40))]
                polygon = [round(value, 2) for point in points for value in point]
                box = [min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])]
                box = [*box[:2], round(box[2] - box[0], 2), round(box[3] - box[1], 2)]
                own.append(
                    {"id": done, "image_id": first + i + 1, "category_id": rng.randint(1, 80), "iscrowd": 0}
                    | {"segmentation": [polygon], "area": 900.5, "bbox": box}
                )
            writer.add(own)
            name = f"{first + i + 1:012d}.jpg"
            (source / f"{split}2017" / name).touch()
            records.append({"id": first + i + 1, "file_name": name, "width": 640, "height": 480})
        writer.close({"images": records, "categories": categories})
        first += count
    return writer.path


def measured(kind: str, folder: Path) -> None:
    """Do one thing in this process and print seconds and megabytes."""
    source, root = folder / "source", folder / "prepared"
    if kind == "pycocotools":
        from pycocotools.coco import COCO

        run = lambda: COCO(str(source / "annotations" / "instances_train2017.json"))
    elif kind == "prepare":
        from segcli.commands.prepare import prepare

        run = lambda: prepare(str(source), root, link=True)
    elif kind == "open":
        from segcli.data.dataset import Dataset

        run = lambda: (data := Dataset(root, "train")).annotations(len(data) // 2)
    elif kind == "read":
        from segcli.data.dataset import Dataset

        data = Dataset(root, "train")
        order = [random.Random(0).randrange(len(data)) for _ in range(3000)]
        run = lambda: [data.encoded_target(i) for i in order] and None
    else:
        from segcli.commands.prepare import describe

        run = lambda: describe(root)
    before, start = peak(), time.perf_counter()
    held = run()
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
        file = generate(Path(folder, "source"), images)
        print(f"{images:,} images, {file.stat().st_size / 1e6:.0f} MB of json", flush=True)
        theirs = None
        for kind in ("pycocotools", "prepare", "open", "statistics"):
            seconds, megabytes = apart(kind, folder)
            theirs = theirs or (seconds, megabytes)
            ratios = f"time {seconds / theirs[0]:.3f}, memory {megabytes / theirs[1]:.3f} of pycocotools'"
            print(f"{kind}: {seconds:.2f} s, {megabytes:.0f} MB; {ratios}", flush=True)
        small = str(Path(folder, "small"))
        generate(Path(small, "source"), 100)
        apart("prepare", small)
        pairs = [(apart("read", folder)[0], apart("read", small)[0]) for _ in range(3)]
        print(f"reading an image's labels: {sorted(a / b for a, b in pairs)[1]:.3f} of what it costs among 100 images")


def apart(kind: str, folder: str) -> tuple[float, float]:
    """(seconds, megabytes) of one thing in a process of its own."""
    out = subprocess.run([sys.executable, __file__, kind, folder], capture_output=True, text=True, check=True)
    seconds, megabytes = next(x for x in out.stdout.splitlines() if x.startswith("RESULT")).split()[1:]
    return float(seconds), float(megabytes)


if __name__ == "__main__":
    main()
