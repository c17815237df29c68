"""Run folders, recipes, checkpoints and prepared datasets, damaged in one to three places, given to the commands that
read them: each ends within seconds, with its exit code and at most one line of error that names a file, and writes
nothing outside its own folders (a snapshot of everything around them is compared).

SEGCLI_FUZZ=3000 runs that many mutations in all; without it a few, always the same ones.
"""

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from damage import VALUES, damage, without_hanging
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segcli.cli import app

RUNS = int(os.environ.get("SEGCLI_FUZZ", "0"))
LONGEST = 20  # seconds of computing that one command may take, however busy the machine is
SURPRISE = re.compile(r"\b[A-Z][A-Za-z]*(Error|Exception|Warning): |Traceback|--debug")
PLAIN = [v for v in VALUES if not isinstance(v, str) or not set(v) & {"\0", "\ud800"}]
RUN = Path("runs/tiny run")
READERS = {
    "recipe": [["train", "r.yaml", "--dry-run"], ["train", "r.yaml", "--out", "runs/new"]],
    "run": [["compare", str(RUN)], ["eval", str(RUN)], ["visualize", "predictions", str(RUN)]],
    "unfinished": [["train", "--resume", str(RUN)]],
    "checkpoint": [["eval", str(RUN)], ["train", "--resume", str(RUN)]],
    "weights": [["eval", str(RUN), "--weights", "best"], ["predict", str(RUN), "data/tiny/images/one image.png"]],
    "dataset": [["prepare", "data/tiny", "--check"], ["eval", str(RUN)], ["prepare", "data/tiny", "--to", "yolo"]],
}


def damage_yaml(file: Path, rng: random.Random) -> str:
    """Replace, remove or add one value of a YAML file, at any depth."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    node, path = content, []
    while True:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path.append(key)
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.2:
            break
        node = node[key]
    if rng.random() < 0.2:
        del node[key]
    elif rng.random() < 0.2 and isinstance(node, dict):
        node[rng.choice(["x", "name", "../x", "1e5"])] = rng.choice(PLAIN)
    else:
        node[key] = rng.choice(PLAIN)
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return f"yaml {path}"


def damage_state(file: Path, rng: random.Random) -> str:
    """Replace or remove one value of a saved training state: a number, a tensor, a list, a whole part."""
    state = torch.load(file, weights_only=True)
    node: Any = state
    path: list[Any] = []
    while True:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path.append(key)
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.1:
            break
        node = node[key]
    if rng.random() < 0.2:
        del node[key]
    elif isinstance(node[key], torch.Tensor) and rng.random() < 0.7:
        tensor = node[key]
        node[key] = rng.choice(
            [
                tensor[..., :1],
                tensor.double(),
                tensor.to(torch.int8),
                tensor.flatten(),
                torch.zeros(3),
                tensor * torch.nan,
            ]
        )
    else:
        node[key] = rng.choice([*VALUES, torch.zeros(2), 10**30, -5, 1.5])
    torch.save(state, file)
    return f"state {path}"


def spoil(place: Path, kind: str, rng: random.Random) -> str:
    """One damage of a kind to the copied folder. -> what was done."""
    run = place / RUN
    if kind == "recipe":
        return damage_yaml(place / "r.yaml", rng) if rng.random() < 0.8 else _words(place / "r.yaml", rng)
    if kind == "checkpoint" and rng.random() < 0.8:
        return damage_state(run / "checkpoints" / "last.pt", rng)
    if kind in ("checkpoint", "weights"):
        return damage(run / "checkpoints", rng)
    if kind == "dataset":
        return damage(place / "data" / "tiny", rng)
    if rng.random() < 0.2:
        return damage_yaml(run / "recipe.yaml", rng)
    return damage(run, rng)


def _words(file: Path, rng: random.Random) -> str:
    """The damage of text files that `damage` knows, to one file alone."""
    folder = file.parent / "one"
    folder.mkdir(exist_ok=True)
    shutil.move(file, folder / file.name)
    done = damage(folder, rng)
    for path in folder.iterdir():
        shutil.move(path, file.parent / path.name)
    return done


def snapshot(folder: Path, own: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """(size, mtime) of everything below `folder` but what lies in its parts `own`."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not name.startswith(own):
            status = path.lstat()
            found[name] = (status.st_size, 0 if path.is_dir() else status.st_mtime_ns)
    return found


@pytest.mark.parametrize("kind", READERS)
def test_damaged(kind, trained, tmp_path_factory, monkeypatch, capfd):
    base = tmp_path_factory.mktemp(kind)
    # what surrounds the folder that the commands work in: nothing of it may change
    (base / "outside").mkdir()
    (base / "outside" / "kept.txt").write_text("kept", encoding="utf-8")
    each = max(6, RUNS // len(READERS))

    @settings(
        max_examples=each,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32), st.integers(1, 3))
    def run(seed, times):
        rng = random.Random(seed)
        place = Path(shutil.copytree(trained, base / "work" / str(time.monotonic_ns()), symlinks=True))
        if kind == "unfinished":
            for name in ("metrics.json", "cost.json"):
                (place / RUN / name).unlink()
        done = [spoil(place, kind, rng) for _ in range(times)]
        monkeypatch.chdir(place)
        own = tuple(f"work/{place.name}/{part}" for part in ("runs", "data", "predictions"))
        before = snapshot(base, own)
        for arguments in READERS[kind]:
            capfd.readouterr()
            signal.setitimer(signal.ITIMER_PROF, LONGEST)
            try:
                code = app.run([*arguments, "-q"])
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            said = capfd.readouterr().err
            what = (done, arguments, code, said[-2000:])
            assert code in (0, 1, 2, 3, 4), what
            assert not SURPRISE.search(said), what
            errors = [line for line in said.splitlines() if line.startswith("error: ")]
            assert len(errors) == (code != 0), what
            assert "\x1b" not in said, what
        assert snapshot(base, own) == before, done
        monkeypatch.chdir(base)
        shutil.rmtree(place)

    with without_hanging():
        run()
