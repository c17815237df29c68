"""What a dataset, a recipe or a run names is read and written inside its own folder: every reader is given hostile
names, with a secret beside the folder, and the files around it are the same afterwards."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from sources import FORMATS, photo

from segcli.cli import app
from segcli.core import plugins

SECRET = b"the secret that nobody may read"
STRUCTURED = {  # format -> a file that names images, and where an image's name stands in it
    "coco": ("annotations/instances_train.json", '"a.png"'),
    "panoptic": ("annotations/panoptic_train.json", '"a.png"'),
    "labelme": ("train/a.json", '"a.png"'),
    "via": ("train/via_region_data.json", '"filename": "a.png"'),
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A working folder with a source in it, and outside of it an image and a text that are secret."""
    outside, work = tmp_path / "outside", tmp_path / "work"
    work.mkdir()
    photo(outside / "private.png")
    (outside / "private.png").write_bytes((outside / "private.png").read_bytes() + SECRET)
    (outside / "id_rsa").write_bytes(SECRET)
    monkeypatch.chdir(work)
    return tmp_path


def around(world: Path) -> dict[str, bytes]:
    """Every file outside of the working folder's outputs, with its content."""
    files = (p for p in world.rglob("*") if p.is_file() and not p.is_relative_to(world / "work/out"))
    return {str(p): p.read_bytes() for p in files}


def held(world: Path, code: int, wanted: set[int], before: dict[str, bytes]) -> None:
    assert code in wanted
    assert around(world) == before
    written = [p for p in (world / "work/out").rglob("*") if p.is_file()]
    assert [p for p in written if SECRET in p.read_bytes()] == []


HOSTILE = ["{outside}/private.png", "{outside}/id_rsa", "../../outside/private.png", "../../../outside/id_rsa"]
HOSTILE += ["file://{outside}/private.png", "http://host/private.png", "a\\u0000.png", "\\ud800.png", "/dev/zero"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("format", STRUCTURED)
def test_a_name_that_leads_out_is_refused(world, format, name, capsys):
    FORMATS[format](world / "work/source")
    file, was = STRUCTURED[format]
    path, name = world / "work/source" / file, name.replace("{outside}", str(world / "outside"))
    text = path.read_text(encoding="utf-8")
    assert was in text
    # the file that it replaces is gone, or LabelMe would take it for the image of its json
    (world / "work/source/train/a.png").unlink()
    path.write_text(text.replace(was, was.replace("a.png", name)), encoding="utf-8")
    before = around(world)
    code = app.run(["prepare", "source", "--format", format, "--out", "out", "-q"])
    held(world, code, {3}, before)
    assert capsys.readouterr().err.count("error: ") == 1


@pytest.mark.parametrize("kind", ["secret", "device", "pipe"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_link_that_leads_out_and_a_pipe_are_not_read(world, format, kind):
    FORMATS[format](world / "work/source")
    image = next(p for p in sorted((world / "work/source").rglob("*.png")) if p.stem.startswith(("a", "town")))
    image.unlink()
    if kind == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to(world / "outside/private.png" if kind == "secret" else "/dev/zero")
    name = format if format in plugins.names("format") else format.rpartition("_")[0]
    before = around(world)
    code = app.run(["prepare", "source", "--format", name, "--out", "out", "--split", "train=0.5,val=0.5", "-q"])
    held(world, code, {0, 3}, before)


@pytest.mark.parametrize("key", ["file_name", "label_map"])
@pytest.mark.parametrize("name", ["{outside}/private.png", "../../../../outside/private.png", "a\\u0000b.png"])
def test_a_prepared_folder_reads_and_writes_inside(world, tiny_dataset, name, key):
    root = Path(shutil.copytree(tiny_dataset, world / "work/data"))
    file = root / "annotations/val.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["images"][0][key] = json.loads(f'"{name}"').replace("{outside}", str(world / "outside"))
    file.write_text(json.dumps(data), encoding="utf-8")
    before = around(world)
    code = app.run(["prepare", "data", "--to", "coco", "--out", "out", "-q"])
    held(world, code, {3} if key == "file_name" else {0, 3}, before)


def test_an_image_root_outside_counts_only_where_the_user_said_so(world, tiny_dataset, monkeypatch):
    root = Path(shutil.copytree(tiny_dataset, world / "work/data"))
    (root / "images").rename(world / "outside/images")
    info = json.loads((root / "info.json").read_text(encoding="utf-8"))
    (root / "info.json").write_text(json.dumps({**info, "image_root": str(world / "outside/images")}), "utf-8")
    before = around(world)
    held(world, app.run(["prepare", "data", "--to", "coco", "--out", "out", "-q"]), {3}, before)
    monkeypatch.setenv("SEGCLI_TRUST_PATHS", "1")
    assert app.run(["prepare", "data", "--to", "coco", "--out", "out", "-q"]) == 0
    monkeypatch.delenv("SEGCLI_TRUST_PATHS")
    assert app.run(["prepare", "data", "--trust-paths", "-q"]) == 0
    assert app.run(["prepare", "data", "--to", "yolo", "--out", "out2", "-q"]) == 0


RECIPE = {"name": "r", "task": "instance", "data": {"root": "data"}, "model": {"name": "rcnn"}}


@pytest.mark.parametrize(
    "change",
    [
        *({"name": name} for name in ("../../evil", "/evil", "a/b", "..", "a\x07b")),
        *({"eval": {"split": name}} for name in ("../../evil", "/evil")),
        *({"data": {"root": "data", "split_file": name}} for name in ("{outside}/id_rsa", "../outside/id_rsa")),
        *({"extends": name} for name in ("{outside}/id_rsa", "../outside/id_rsa", "http://host/r.yaml")),
    ],
    ids=str,
)
def test_a_recipe_stays_in_its_folder(world, change, capsys):
    text = yaml.safe_dump({**RECIPE, **change}).replace("{outside}", str(world / "outside"))
    (world / "work/r.yaml").write_text(text, encoding="utf-8")
    before = around(world)
    held(world, app.run(["train", "r.yaml", "-q"]), {2}, before)
    assert SECRET.decode() not in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train.lock", "log.jsonl", "predictions", "checkpoints"])
def test_a_run_whose_parts_are_links_is_refused(world, trained, part):
    run = Path(shutil.copytree(trained / "runs/tiny run", world / "work/run"))
    shutil.copytree(trained / "data", world / "work/data")
    (world / "outside/folder").mkdir()
    if (run / part).is_dir():
        shutil.rmtree(run / part)
    else:
        (run / part).unlink(missing_ok=True)
    (run / part).symlink_to(world / ("outside/id_rsa" if "." in part else "outside/folder"))
    before = around(world)
    for command in (["eval", "run", "-q"], ["train", "--resume", "run", "-q"]):
        held(world, app.run(command), {4}, before)
