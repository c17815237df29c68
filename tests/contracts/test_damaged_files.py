"""Every kind of file that a command reads, damaged in every way that files are: one line of error that names the file,
with the exit code of its kind (dataset 3, recipe 2, run and weights 4), or a clean run where the damage is harmless."""

import json
import re
import shutil
from pathlib import Path

import pytest
import sources
import yaml

RUN = "runs/tiny run"
SURPRISE = re.compile(r"\b[A-Z]\w*(Error|Exception|Interrupt)\b|Traceback|--debug")
COMPARE, SCORE, CHECK = ["compare", RUN], ["eval", RUN], ["prepare", "data/tiny", "--check"]
DRY, SHOW = ["train", "r.yaml", "--dry-run"], ["visualize", "predictions", RUN, "--worst", "1"]

# file -> the command that reads it, and the exit codes that it may have; 0 where the file is a help and not needed
FILES = {
    "data/tiny/info.json": (CHECK, {3}),
    "data/tiny/prepared.json": (CHECK, {0, 3}),
    "data/tiny/annotations/val.json": (CHECK, {3}),
    "data/tiny/annotations/train.json": (CHECK, {3}),
    "r.yaml": (DRY, {2}),
    "names.txt": ([*DRY, "--set", "data.split_file=names.txt"], {3}),
    f"{RUN}/recipe.yaml": (COMPARE, {2}),
    f"{RUN}/metrics.json": (COMPARE, {4}),
    f"{RUN}/cost.json": (COMPARE, {4}),
    f"{RUN}/environment.json": (COMPARE, {4}),
    f"{RUN}/log.jsonl": (COMPARE, {0, 4}),
    f"{RUN}/predictions/val.json": (SHOW, {3, 4}),
    f"{RUN}/predictions/val_bootstrap.npz": (COMPARE, {0, 4}),
    f"{RUN}/predictions/val_diagnostics.json": (COMPARE, {0, 4}),
    f"{RUN}/checkpoints/last.pt": (SCORE, {4}),
    f"{RUN}/checkpoints/best.safetensors": ([*SCORE, "--weights", "best"], {4}),
    "weights.pth": ([*DRY, "--set", "init=weights.pth"], {4}),
    "coco/annotations/instances_val.json": (["prepare", "coco", "--check"], {0, 3}),
    "labelme/val/c.json": (["prepare", "labelme", "--check"], {0, 3}),
    "via/val/via_region_data.json": (["prepare", "via", "--check"], {0, 3}),
    "yolo/data.yaml": (["prepare", "yolo", "--format", "yolo", "--check"], {3}),
    "cityscapes/gtFine": (["prepare", "cityscapes", "--check"], {3}),
    "voc_boxes/val": (["prepare", "voc_boxes", "--check"], {0, 3}),
    "panoptic/annotations/panoptic_val.json": (["prepare", "panoptic", "--check"], {0, 3}),
}
HELP = ("data/tiny/prepared.json", f"{RUN}/log.jsonl", f"{RUN}/predictions/val_")  # commands go without
DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "no text": lambda content: b"\xff\xfe\xff" * 20,
    "not UTF-8": lambda content: content[:20] + b"\xff" + content[20:],
    "a huge number": lambda content: b"1" * 5000,
    "a huge number inside": lambda content: b'{"a": ' + b"1" * 5000 + b"}",
    "nested": lambda content: b"[" * 100_000,
    "nested and closed": lambda content: b"[" * 5_000 + b"]" * 5_000,
    "list": lambda content: b"[1, 2]",
    "null": lambda content: b"null",
    "text": lambda content: b'"text"',
    "number": lambda content: b"7",
    "no keys": lambda content: b"{}",
    "NaN": lambda content: b"NaN",
    "NUL": lambda content: content[:10] + b"\0" + content[10:],
    "half a pair": lambda content: b'{"name": "\\ud800"}',
}


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A copy of the trained run with its data, and one source of each format."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("damaged") / "files"))
    for name in ("coco", "labelme", "via", "yolo", "cityscapes", "voc_boxes", "panoptic"):
        sources.FORMATS[name](folder / name)
    (folder / "names.txt").write_text("one image.png\n", encoding="utf-8")
    shutil.copy(folder / RUN / "checkpoints" / "last.pt", folder / "weights.pth")
    (folder / "data" / "tiny" / "prepared.json").write_text(
        json.dumps({"schema_version": 1, "splits": {}}), encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damaged(segcli, monkeypatch, place, name, damage):
    monkeypatch.chdir(place)
    file = place / name
    if file.is_dir():
        file = next(p for p in sorted(file.rglob("*")) if p.suffix in (".json", ".xml"))
    command, codes = FILES[name]
    content = file.read_bytes()
    try:
        file.write_bytes(DAMAGES[damage](content))
        result = segcli(*command, "-q")
    finally:
        file.write_bytes(content)
    assert not SURPRISE.search(result.err + result.out), result.err
    assert result.code in codes, (result.code, result.err)
    assert "\0" not in result.err
    if result.code:
        assert file.name in result.error or (result.error.endswith("error in the data") and file.name in result.out)
    elif not name.startswith(HELP):
        assert file.name in result.err + result.out, "what is left out is named"


VALUES = [None, "x", [[]], {"a": 1}, float("nan"), -7, 10**400, True, 1.5, "\0"]


def places(node, depth=3):
    """(holder, key) of every value down to `depth`; of lists, the first two."""
    for key in list(node) if isinstance(node, dict) else range(min(2, len(node))):
        yield node, key
        if isinstance(node[key], (dict, list)) and depth:
            yield from places(node[key], depth - 1)


@pytest.mark.parametrize("name", [n for n in FILES if n.endswith((".json", ".jsonl", "/recipe.yaml"))])
def test_one_value(segcli, monkeypatch, place, name):
    """Each value of a file is taken away, or becomes one of another kind: never more than a line that names the file,
    and often a value that may be absent."""
    monkeypatch.chdir(place)
    file = place / name
    command, codes = FILES[name]
    content = file.read_text(encoding="utf-8")
    lines = content.splitlines() if name.endswith(".jsonl") else [content]
    load = json.loads if file.suffix != ".yaml" else yaml.safe_load
    write = json.dumps if file.suffix != ".yaml" else yaml.safe_dump
    count = len(list(places(load(lines[0]))))
    step = max(1, count // 12)
    try:
        for number in range(0, count, step):
            first = load(lines[0])
            holder, key = list(places(first))[number]
            if number % 3:
                holder[key] = VALUES[number // step % len(VALUES)]
            else:
                del holder[key]
            file.write_text("\n".join([write(first), *lines[1:]]) + "\n", encoding="utf-8")
            result = segcli(*command, "-q")
            what = (key, holder, result.err)
            assert not SURPRISE.search(result.err + result.out), what
            assert result.code in codes | {0, 2, 3, 4}, what
            if result.code:
                assert result.error, what
    finally:
        file.write_text(content, encoding="utf-8")
