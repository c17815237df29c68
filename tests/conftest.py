"""Fixtures for the whole suite."""

import dataclasses
import functools
import gc
import json
import os
import shutil
from pathlib import Path
from typing import Any

import browser as chromium
import pytest
import torch
import yaml
from tiny import TINY_RECIPE, write_json, write_tiny

from segcli.cli import app
from segcli.commands import samples
from segcli.core.tasks import TASKS
from segcli.engine import cost

# Folders and files of the tests that are marked slow: trainings, every model and format, thousands of damaged files.
SLOW = [
    *("e2e", "fuzz", "parity", "export/test_export.py", "export/test_graph.py"),
    *("cli/test_commands.py", "cli/test_locale.py", "commands/test_predict_again.py", "commands/test_prepare.py"),
    *("commands/test_visualize.py", "compare/test_rows.py", "compare/test_study.py"),
    *("contracts/test_damaged_files.py", "contracts/test_nothing_outside.py", "contracts/test_plugins.py"),
    *("contracts/test_recipe_keys.py", "contracts/test_recipes.py", "contracts/test_settings.py"),
    *("contracts/test_source_settings.py", "core/test_distributed.py", "core/test_waiting.py"),
    *("data/augment/test_compose.py", "data/test_many_classes.py"),
    *("doctor/test_label_faults.py", "doctor/test_repair.py", "doctor/test_self_test.py"),
    *("engine/test_accumulation.py", "engine/test_capacity.py", "engine/test_compilation.py", "engine/test_damage.py"),
    *("engine/test_diagnosis.py", "engine/test_drawn.py", "engine/test_equal_steps.py", "engine/test_forecast.py"),
    *("engine/test_input_rule.py", "engine/test_more_steps.py", "engine/test_perfect_scores.py"),
    *("engine/test_training.py", "explain/test_explain.py", "explain/test_pictures_of_pages.py"),
    *("explain/test_views.py", "models/test_box_queries.py", "models/test_detr.py", "models/test_exact_labels.py"),
    *("models/test_golden.py", "models/test_maskformer.py", "models/test_timm.py", "models/test_transformers.py"),
    *("models/test_transformers_training.py", "models/test_vit.py", "sources/formats/test_formats.py"),
    *("sources/mask_meaning/test_mask_meaning.py", "sources/test_convert.py", "sources/test_dropped.py"),
    *("sources/test_full_disks.py", "sources/test_known.py", "sources/test_real_folders.py"),
    *("sources/test_unreadable.py", "weights/test_loading.py", "weights/test_scenes.py"),
]


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


def pytest_collection_finish() -> None:
    """What is imported by now is never garbage: collections, of which measuring memory asks one, need not look at its
    half a million objects again."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`pytest -m "not slow"` leaves out what SLOW names."""
    folder = Path(__file__).parent
    slow = [folder / name for name in SLOW]
    assert [path for path in slow if not path.exists()] == []
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory):
    """What segcli remembers of folders stays in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def few_timed_runs():
    """Trained models are timed as briefly as can be: it was a third of a tiny training. tests/engine/test_cost.py asks
    for as many runs as it needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "REPEATS", 3)
        patch.setattr(cost, "WARMUP", 0)
        yield


@pytest.fixture(autouse=True)
def not_quiet():
    """What `-q` of a test before has set for the whole process says nothing to this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TQDM_DISABLE", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_samples():
    """The sheet of samples was half of each `prepare` in this process; tests/commands/test_samples.py asks for the
    whole one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "WIDTH", 480)
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
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TQDM_DISABLE", "0")  # which -q sets for the whole process
        assert app.run(["train", "r.yaml", "-q"]) == 0
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


@pytest.fixture(scope="session")
def browser():
    """A Chromium; without one, or without its driver, the test is skipped."""
    made = chromium.start()
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    made.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Architecture of the library transformers -> the folder of a tiny checkpoint of it, made once."""
    import tiny_checkpoints  # takes seconds

    @functools.cache
    def folder(name):
        return tiny_checkpoints.save(name, tmp_path_factory.mktemp(name))

    return folder
