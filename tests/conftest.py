"""Fixtures for the whole suite."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from pycocotools import mask as coco_mask

from segcli.cli import app
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.tasks import TASKS
from segcli.data.annotations import encode

COLOURS = {3: (220, 60, 40), 17: (40, 90, 230)}  # RGB of the objects, by source id

TINY_RECIPE = {
    "name": "tiny run",
    "task": "instance",
    "data": {"root": "data/tiny", "size": 64, "augment": {"flip": 0.5}},
    "model": {
        **{"name": "rcnn_lite", "width": 32, "proposals": [8, 8]},
        **{"backbone": {"name": "resnet", "depth": 18}, "heads": {"iou_box": {}, "lite_mask": {}}},
    },
    "train": {"steps": 3, "batch_size": 2, "evaluations": 1, "log_every": 1},
    "hardware": {"device": "cpu", "workers": 0, "threads": 1},
}


@dataclasses.dataclass
class Result:
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line `error: ...`; a failure without it, with more, or with a traceback is a bug."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def pytest_configure(config: Any) -> None:
    """The processes of a parallel run share the cores: more threads than cores would wait for each other."""
    if hasattr(config, "workerinput"):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // config.workerinput["workercount"]))


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory):
    """What segcli remembers of folders stays in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def segcli(capfd, monkeypatch, tmp_path):
    """`segcli("compare", "runs/a")` -> Result, run in this process in a folder of its own, output 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TQDM_DISABLE", "0")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(*args: Any) -> Result:
        capfd.readouterr()
        code = app.run([str(a) for a in args])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_dataset) -> Path:
    """A folder with data/tiny, r.yaml and runs/tiny run, made by `segcli train`; tests leave these as they are."""
    folder = tmp_path_factory.mktemp("a folder")
    shutil.copytree(tiny_dataset, folder / "data" / "tiny")
    (folder / "r.yaml").write_text(yaml.safe_dump(TINY_RECIPE), encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert app.run(["train", "r.yaml", "-q"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs that may not be shipped; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """A canonical folder of six images of 64 x 48 pixels (train 1-4, val 5-6), read-only for tests.

    Two classes, cat (source id 3) and dog (17). Polygons of one and two parts, an uncompressed and a compressed RLE (a
    ring), a crowd (image 4), no annotation at all (image 3), names with a space, Korean letters and emoji.
    """
    return write_tiny(tmp_path_factory.mktemp("tiny dataset"))


@pytest.fixture
def tiny_copy(tiny_dataset, tmp_path) -> Path:
    """A copy of `tiny_dataset` that a test may change."""
    return Path(shutil.copytree(tiny_dataset, tmp_path / "copy of tiny"))


def write_tiny(root: Path) -> Path:
    names = {1: "one image.png", 2: "두 번째 🐈.jpg", 3: "three.png", 4: "four.jpg", 5: "five.png", 6: "sub/six.png"}
    ring = np.zeros((48, 64), np.uint8, order="F")
    ring[10:40, 20:50] = 1
    ring[20:30, 30:40] = 0
    stripe = np.zeros((48, 64), bool)
    stripe[30:48, 0:64] = True
    objects = [
        (101, 1, 3, [rectangle(10, 8, 30, 28)], 0),
        (102, 1, 17, [rectangle(36, 4, 46, 20), rectangle(50, 4, 60, 20)], 0),
        (103, 2, 17, uncompressed(np.pad(np.ones((20, 24), bool), ((5, 23), (30, 10)))), 0),
        (104, 2, 3, [[5.0, 40.0, 15.0, 20.0, 25.0, 40.0]], 0),
        (105, 4, 3, uncompressed(stripe), 1),
        (106, 4, 3, [rectangle(20, 10, 40, 36)], 0),
        (107, 5, 17, {"size": [48, 64], "counts": encode(uncompressed(ring), (48, 64))["counts"].decode()}, 0),
        (108, 5, 3, [rectangle(2, 2, 16, 44)], 0),
        (109, 6, 3, [rectangle(8, 8, 28, 40)], 0),
    ]
    rng = np.random.default_rng(0)
    for split, ids in (("train", (1, 2, 3, 4)), ("val", (5, 6))):
        for key in ids:
            image = rng.integers(90, 140, (48, 64, 3)).astype(np.uint8)
            for _, image_id, category, segmentation, _ in objects:
                if image_id == key:
                    image[mask_of(segmentation)] = COLOURS[category]
            write_image(root / "images" / names[key], image)
        annotations = [
            {"id": i, "image_id": image, "category_id": c, "segmentation": s, "iscrowd": crowd, **measure(s)}
            for i, image, c, s, crowd in objects
            if image in ids
        ]
        images = [{"id": key, "file_name": names[key], "width": 64, "height": 48} for key in ids]
        categories = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]
        write_json(
            root / "annotations" / f"{split}.json",
            {"images": images, "annotations": annotations, "categories": categories},
        )
    info = DatasetInfo("tiny", (Category("cat", 3), Category("dog", 17)), {"train": 4, "val": 2}, licence="CC0")
    write_json(root / "info.json", info.to_json())
    return root


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """A COCO polygon that covers the columns x1 to x2 - 1 and the rows y1 to y2 - 1."""
    return [float(v) for v in (x1, y1, x2, y1, x2, y2, x1, y2)]


def uncompressed(mask: np.ndarray) -> dict:
    """A mask as COCO's plain list of runs, column by column, beginning with zeros."""
    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def mask_of(segmentation, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return coco_mask.decode(encode(segmentation, size)).astype(bool)


def measure(segmentation) -> dict:
    mask = mask_of(segmentation)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {"bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y], "area": int(mask.sum())}


def write_json(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, image[:, :, ::-1])
    assert ok
    path.write_bytes(data.tobytes())


@pytest.fixture
def fake_run(tmp_path):
    """Make a finished run folder of JSON alone: `fake_run("a", gflops=2.0, metrics={"segm_AP": 0.5})` -> its path."""

    def make(
        name: str, *, gflops=1.0, metrics=None, data="shapes", fingerprint="f", recipe="", task="instance", **cost
    ):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "recipe.yaml").write_text(
            f"name: {name}\ntask: {task}\ndata: {{name: {data}, root: data/{data}}}\n{recipe}"
            + ("" if "model:" in recipe else "model: {name: rcnn_lite, backbone: {name: resnet, depth: 18}}\n")
        )
        primary = TASKS[task].primary
        scores = {"segm_AP": 0.5, "bbox_AP": 0.6} if metrics is None else metrics
        write_json(
            run / "metrics.json",
            {"schema_version": 1, "task": task, "primary": primary, "metrics": scores, "per_class": {}, "images": 20}
            | {"seconds": 1.0, "split": "val", "weights": "last"},
        )
        write_json(
            run / "cost.json",
            {"params": 5_000_000, "params_trainable": 5_000_000, "gflops": gflops, "gflops_paper_rule": None}
            | {"gflops_input": [160, 160], "flops_uncounted": [], "parts": {}, "peak_memory_mb": 123.4}
            | {"latency_ms": {"median": 45.6, "p95": 50.0}, "train_seconds": 270.0, "images_seen": 10}
            | {"measured_on": {"device": "cpu", "threads": 2, "batch": 1}}
            | cost,
        )
        write_json(run / "environment.json", {"dataset": {"name": data, "fingerprint": fingerprint}})
        return run

    return make
