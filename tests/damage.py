"""Damage a folder of files in one random place: bytes, names, words of text, values of JSON."""

import contextlib
import json
import random
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

VALUES = [
    *(None, True, -1, 0, 1, 255, 1e9, -1e9, 2**40, 10**400, float("nan"), float("inf"), 0.5, "", "x", "../../x", "a/b"),
    *("\0", "\ud800", "é" * 300, [], {}, [[]], [1], [1, 2, 3], {"a": 1}, [[1, 2], [3]], "🐈", "1" * 5000),
]


def damage(root: Path, rng: random.Random) -> str:
    """Change something below `root` and say what."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    if not files:
        return "nothing is left"
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
        damage_json(file, rng)
    return f"{kind} {file.relative_to(root)}"


def damage_json(file: Path, rng: random.Random) -> None:
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


@contextlib.contextmanager
def without_hanging() -> Iterator[None]:
    """An error where something computes longer than `signal.setitimer(signal.ITIMER_PROF, …)` allows; no warnings."""

    def too_long(number, frame):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGPROF, too_long)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.signal(signal.SIGPROF, before)
