"""Valid datasets of each format, damaged in one to three places: a clean load, or an error that names file and place;
and what --fix makes of them passes the doctor, or is refused likewise.

SEGCLI_FUZZ=2000 runs that many in all; without it a few, always the same ones.
"""

import json
import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import FORMATS

from segcli.data.check import check
from segcli.data.dataset import Dataset
from segcli.errors import DataError, UsageError
from segcli.preparing import describe, prepare

RUNS = int(os.environ.get("SEGCLI_FUZZ", "0"))
EACH = max(8, RUNS // len(FORMATS))
LONGEST = 20  # seconds of computing that one dataset of three images may take, however busy the machine is
VALUES = [
    *(None, True, -1, 0, 1, 255, 1e9, -1e9, 2**40, 10**400, float("nan"), float("inf"), 0.5, "", "x", "../../x", "a/b"),
    *("\0", "\ud800", "é" * 300, [], {}, [[]], [1], [1, 2, 3], {"a": 1}, [[1, 2], [3]], "🐈", "1" * 5000),
]


def damage(root: Path, rng: random.Random) -> str:
    """Change something below `root` and say what."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    file = rng.choice(files)
    if rng.random() < 0.7:  # labels more often than photographs
        file = rng.choice([f for f in files if f.suffix != ".png" or "ann" in str(f) or "mask" in str(f)] or files)
    kinds = ["bytes", "cut", "delete", "rename", "double", "empty", "folder"]
    kinds += ["json"] * 12 if file.suffix == ".json" else ["words"] * 12 if file.suffix != ".png" else ["bytes"] * 4
    kind = rng.choice(kinds)
    data = file.read_bytes()
    if kind == "bytes":
        changed = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        file.write_bytes(bytes(changed))
    elif kind == "cut":
        file.write_bytes(data[: rng.randrange(len(data) + 1)])
    elif kind == "delete":
        file.unlink()
    elif kind == "rename":
        file.rename(file.with_name(rng.choice(["z", "a", "Z"]) + file.name))
    elif kind == "double":
        shutil.copyfile(file, file.with_name("copy_" + file.name))
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    elif kind == "words":
        words = data.decode("utf-8", "replace").replace(",", " , ").replace("<", " <").replace(">", "> ").split(" ")
        words[rng.randrange(len(words))] = str(rng.choice(VALUES))[:6000]
        file.write_bytes(" ".join(words).encode("utf-8", "surrogatepass"))
    else:
        _damage_json(file, rng)
    return f"{kind} {file.relative_to(root)}"


def _damage_json(file: Path, rng: random.Random) -> None:
    try:
        node = content = json.loads(file.read_text("utf-8"))
    except ValueError:
        return
    for _ in range(rng.randint(1, 9)):
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(node[key], (dict, list)) or rng.random() < 0.15:
            break
        parent, node = node, node[key]
    else:
        node = parent
    action = rng.random()
    if action < 0.2:
        del node[key]
    elif action < 0.3 and isinstance(node, list):
        node.append(node[key])
    elif action < 0.4 and isinstance(node, dict):
        node[str(key) + "x"] = node.pop(key)
    else:
        node[key] = rng.choice(VALUES)
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    base = tmp_path_factory.mktemp("whole")
    for name, write in FORMATS.items():
        write(base / name)
    return base


def refusal(source: Path, out: Path, fix: bool) -> str | None:
    """Prepare and read everything, as training would. -> the error that a user sees, if any."""
    try:
        root = prepare(str(source), out, fix=fix)
        describe(root)
        if fix:
            report = check(root)
            assert report.ok, [(f.code, f.items) for f in report.findings if f.severity == "error"]
        load(root)
    except (DataError, UsageError) as error:
        return str(error)
    return None


def load(root: Path) -> None:
    for task in ("detection", "semantic", "panoptic"):
        data = Dataset(root, task=task)
        for i in range(len(data)):
            data.target(i)
            if task == "detection":
                data.image(i)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_datasets(whole, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp(name)

    def too_long(number, frame):
        raise AssertionError("it hangs")

    @settings(
        max_examples=EACH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32), st.integers(1, 3))
    def run(seed, times):
        rng = random.Random(seed)
        place = folder / str(time.monotonic_ns())
        source = Path(shutil.copytree(whole / name, place / "source"))
        done = [damage(source, rng) for _ in range(times)]
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            refused = [refusal(source, place / "out", False), refusal(source, place / "mended", True)]
        except Exception as error:
            raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        known = {str(place), *(p.name for p in place.rglob("*") if len(p.name) > 2)}
        for said in refused:
            assert said is None or any(name in said for name in known), (done, said)
        shutil.rmtree(place)

    before = signal.signal(signal.SIGPROF, too_long)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    finally:
        signal.signal(signal.SIGPROF, before)
