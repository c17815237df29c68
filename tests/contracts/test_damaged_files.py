"""Every kind of file that a command reads, damaged in every way that files are: one line of error that names the file,
with the exit code of its kind (dataset 3, recipe 2, run and weights 4), or a clean run where the damage is harmless."""

import json
import re
import shutil
from pathlib import Path

import pytest
import sources

from segcli.core.state import state_dir

RUN = "runs/tiny run"
SURPRISE = re.compile(r"\b[A-Z]\w*(Error|Exception|Interrupt)\b|Traceback|--debug")
COMPARE, SCORE, CHECK = ["compare", RUN], ["eval", RUN], ["prepare", "data/tiny", "--check"]
DRY, SHOW = ["train", "r.yaml", "--dry-run"], ["visualize", "predictions", RUN, "--worst", "1"]

# file -> the command that reads it, and the exit codes that it may have; 0 where the file is a help and not needed
FILES = {
    "data/tiny/info.json": (CHECK, {3}),
    "data/tiny/prepared.json": (CHECK, {0, 3}),
    "kept report": (DRY, {0}),
    "data/tiny/annotations/val.json": (CHECK, {3}),
    "data/tiny/annotations/train.json": (["train", "r.yaml", "--out", "runs/new"], {3}),
    "r.yaml": (DRY, {2}),
    "names.txt": ([*DRY, "--set", "data.split_file=names.txt"], {0, 3}),
    f"{RUN}/recipe.yaml": (COMPARE, {2}),
    f"{RUN}/metrics.json": (COMPARE, {4}),
    f"{RUN}/cost.json": (COMPARE, {4}),
    f"{RUN}/environment.json": (COMPARE, {4}),
    f"{RUN}/log.jsonl": (SCORE, {0, 4}),
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
HARMLESS = {("names.txt", "NUL")}  # the name is found without its suffix
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
    if name == "kept report":
        segcli(*CHECK)
        file = next(p for p in (state_dir() / "checked").iterdir() if str(place) in p.read_text(encoding="utf-8"))
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
    elif (name, damage) not in HARMLESS and not name.startswith(HELP):
        assert file.name in result.err + result.out, "what is left out is named"
