"""Run folders, recipes, checkpoints and prepared datasets, damaged in one to three places, given to the commands that
read them: each ends within seconds, with its exit code and at most one line of error that names a file, and writes
nothing outside its own folders (a snapshot of everything around them is compared).

SEGCLI_FUZZ=3000 runs that many mutations in all, as many of each kind; without it a few, always the same ones. They
are numbered, and SEGCLI_FUZZ_FIRST=1000 begins with number 1,000: other mutations than those before it.
"""

import contextlib
import math
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from damage import VALUES, damage, without_hanging
from tiny import TINY_RECIPE

from segcli.cli import app
from segcli.weights.state_digest import DIGEST, signed

RUNS = int(os.environ.get("SEGCLI_FUZZ", "0"))
FIRST = int(os.environ.get("SEGCLI_FUZZ_FIRST", "0"))
LONGEST = 20  # seconds of computing that one command may take, however busy the machine is; then comes Ctrl-C
TOLD = "state, of another digest"
STUCK = 10  # more of them, and it hangs: a training that is long ends after its step
MOST_FAILURES = 20
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
    """Replace, remove or add one value of a YAML file, at any depth; one that is gone or damaged stays as it is."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return "yaml, unreadable already"
    found = _choose(content, rng, 0.2)
    if found is None:
        return "yaml, empty already"
    node, path = found
    if rng.random() < 0.2:
        del node[path[-1]]
    elif rng.random() < 0.2 and isinstance(node, dict):
        node[rng.choice(["x", "name", "../x", "1e5"])] = rng.choice(PLAIN)
    else:
        node[path[-1]] = rng.choice(PLAIN)
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return f"yaml {path}"


def damage_state(file: Path, rng: random.Random) -> str:
    """Replace or remove one value of a saved training state: a number, a tensor, a list, a whole part; half of them
    with a new digest, as somebody who made such a file would have it, else what the digest tells from before."""
    try:
        state = torch.load(file, weights_only=True)
    except Exception:
        return "state, unreadable already"
    found = _choose(state, rng, 0.1)
    if found is None:
        return "state, empty already"
    node, path = found
    key = path[-1]
    if rng.random() < 0.2:
        del node[key]
    elif isinstance(node[key], torch.Tensor) and rng.random() < 0.7:
        node[key] = _another(node[key], rng)
    else:
        node[key] = rng.choice([*VALUES, torch.zeros(2), 10**30, -5, 1.5])
    content = {k: v for k, v in state.items() if k != DIGEST} if isinstance(state, dict) else {}
    other = DIGEST in state and signed(content)[DIGEST] != state[DIGEST]
    told = other and rng.random() < 0.5
    torch.save(signed(content) if other and not told else state, file)
    return f"{TOLD if told else 'state'} {path}"


def _choose(content: Any, rng: random.Random, stop: float) -> tuple[Any, list[Any]] | None:
    """A value at any depth: the mapping or list that it is in, and the way to it. None where there is none."""
    node, path = content, []
    while isinstance(node, (dict, list)) and node:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path.append(key)
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < stop:
            return node, path
        node = node[key]
    return None


def _another(tensor: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A tensor of another shape, type or content."""
    changed = tensor.clone().reshape(-1)
    if len(changed):
        changed[rng.randrange(len(changed))] += 1
    others = [tensor.reshape(-1)[:1], tensor.double(), tensor.to(torch.int8), tensor.flatten(), torch.zeros(3)]
    return rng.choice([*others, tensor * torch.nan, changed.reshape(tensor.shape)])


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
    if not file.is_file():
        return "words, gone already"
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


def mutate(kind: str, number: int, trained: Path, base: Path, read: Callable[[], str]) -> str | None:
    """Damage a copy of the folder `trained` below `base`, and give it to the commands. read: what was written to stderr
    since it was called last. -> what was wrong, None where nothing was."""
    rng = random.Random(f"{kind} {number}")
    place = Path(shutil.copytree(trained, base / "work" / str(number), symlinks=True))
    if kind == "unfinished":
        for name in ("metrics.json", "cost.json"):
            (place / RUN / name).unlink()
    done = [spoil(place, kind, rng) for _ in range(rng.randint(1, 3))]
    own = tuple(f"work/{place.name}/{part}" for part in ("runs", "data", "predictions"))
    before = snapshot(base, own)
    os.chdir(place)
    problem = None
    for arguments in READERS[kind]:
        read()
        code = limited([*arguments, "-q"])
        problem = judge(code, read())
        if code != 4 and done[-1].startswith(TOLD):
            problem = f"exit code {code}, and the digest is not that of the content"
        if problem:
            problem = f"{kind} {number}: {done}, {arguments}: {problem}"
            break
    os.chdir(base)
    if snapshot(base, own) != before:
        problem = f"{kind} {number}: {done}: something outside was touched; {problem}"
    shutil.rmtree(place)
    return problem


def limited(arguments: list[str]) -> int:
    """The exit code of a command that gets Ctrl-C after LONGEST seconds, and an error where it goes on after that."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    signal.setitimer(signal.ITIMER_PROF, LONGEST + STUCK)
    try:
        return app.run(arguments)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def judge(code: int, said: str) -> str | None:
    """What is wrong with how a command ended."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 130 and "saved at step" in said:  # the recipe asks for many steps, and they were taken
        return None
    if code not in (0, 1, 2, 3, 4) or SURPRISE.search(said) or len(errors) != (code != 0) or "\x1b" in said:
        return f"exit code {code}, {said[-2000:]}"
    return None


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Ctrl-C when the first of the two times that `limited` sets is up."""
    before = signal.signal(signal.SIGVTALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_dataset):
    """As the suite's own, of a model whose files are a twentieth: each mutation copies them."""
    folder = tmp_path_factory.mktemp("a folder")
    make_folder(folder, tiny_dataset)
    return folder


def make_folder(folder: Path, data: Path) -> None:
    shutil.copytree(data, folder / "data" / "tiny")
    model = {**TINY_RECIPE["model"], "backbone": {"name": "timm", "model": "test_efficientnet"}}
    (folder / "r.yaml").write_text(yaml.safe_dump({**TINY_RECIPE, "model": model}), encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert app.run(["train", "r.yaml", "-q"]) == 0
    finally:
        os.chdir(before)


@pytest.mark.parametrize("kind", READERS)
def test_damaged(kind, trained, tmp_path_factory, monkeypatch, capfd):
    base = tmp_path_factory.mktemp(kind)
    # what surrounds the folder that the commands work in: nothing of it may change
    (base / "outside").mkdir()
    (base / "outside" / "kept.txt").write_text("kept", encoding="utf-8")
    monkeypatch.chdir(base)  # and back at the end
    problems = []
    with without_hanging(), impatient():
        for number in range(FIRST, FIRST + max(6, math.ceil(RUNS / len(READERS)))):
            problems.append(mutate(kind, number, trained, base, lambda: capfd.readouterr().err))
            if len(problems) - problems.count(None) >= MOST_FAILURES:
                break
    found = [p for p in problems if p]
    assert not found, f"{len(found)} of {len(problems)}:\n" + "\n\n".join(found)
