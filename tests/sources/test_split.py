"""Splits that are drawn by a rule."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import describe, prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset
from segcli.sources.split import draw_groups


@pytest.fixture
def coco(tmp_path):
    """40 different images of 10 scenes; every fifth has the rare class; `scene` is a field of the json."""
    images, annotations = [], []
    rng = np.random.default_rng(0)
    (tmp_path / "src").mkdir()
    for i in range(40):
        name = f"{i // 4:02d}_{i % 4}.png"
        Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(tmp_path / "src" / name)
        images.append({"id": i + 1, "file_name": name, "width": 32, "height": 32, "scene": i // 4})
        for category in [1] + [2] * (i % 5 == 0):
            polygon = [[2.0, 2.0, 20.0, 2.0, 20.0, 20.0]]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i + 1, "category_id": category, "segmentation": polygon}
            )
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "common"}, {"id": 2, "name": "rare"}]
    (tmp_path / "src/labels.json").write_text(json.dumps(content), "utf-8")
    return tmp_path / "src"


@pytest.mark.parametrize("rule", ["scene", r"^(\d+)_"])
def test_groups_stay_together(coco, tmp_path, rule):
    root = prepare(str(coco), tmp_path / "out", split_by=rule, split="train=0.6,val=0.2,test=0.2")
    parts = [Dataset(root, s).file_names for s in ("train", "val", "test")]
    assert [len(part) for part in parts] == [24, 8, 8]
    scenes = [{name[:2] for name in part} for part in parts]
    assert sum(map(len, scenes)) == 10
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert any("10 groups by" in note and "seed 0" in note for note in notes)
    again = prepare(str(coco), tmp_path / "again", split_by=rule, split="train=0.6,val=0.2,test=0.2")
    assert Dataset(again, "val").file_names == parts[1]
    other = prepare(str(coco), tmp_path / "other", split_by=rule, split="train=0.6,val=0.2,test=0.2", seed=1)
    assert Dataset(other, "val").file_names != parts[1]


def test_classes_are_spread(coco, tmp_path):
    for seed in range(3):
        root = prepare(str(coco), tmp_path / f"out{seed}", split_by="class", split="train=0.75,val=0.25", seed=seed)
        facts = describe(root)["splits"]
        assert facts["val"]["per_class"] == {"common": 10, "rare": 2}
        assert facts["train"]["per_class"] == {"common": 30, "rare": 6}


def test_look_alikes_stay_together(coco, tmp_path):
    for i in range(1, 40, 2):
        name = f"{i // 4:02d}_{i % 4}.png"
        smooth = np.add.outer(np.arange(32) * (i % 7 + 1), np.arange(32) * (i % 3)) % 251
        for file in (name, f"{i // 4:02d}_{i % 4 - 1}.png"):  # two and two the same
            Image.fromarray(np.repeat(smooth.astype(np.uint8)[:, :, None], 3, 2)).save(coco / file)
    root = prepare(str(coco), tmp_path / "out", split="train=0.7,val=0.3")
    pixels = [{(coco / n).read_bytes() for n in Dataset(root, s).file_names} for s in ("train", "val")]
    assert all(pixels)
    assert not pixels[0] & pixels[1]


def test_where_all_images_look_alike_they_are_divided_and_it_is_said(coco, tmp_path):
    for file in coco.glob("*.png"):
        shutil.copyfile(coco / "00_0.png", file) if file.name != "00_0.png" else None
    root = prepare(str(coco), tmp_path / "out")
    assert len(Dataset(root, "val")) == 8
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert "look-alikes are in several splits: scores will be too high" in notes[0]


def test_a_written_split_gives_the_same_again(coco, tmp_path):
    first = prepare(str(coco), tmp_path / "first", split_by="scene", seed=3)
    again = prepare(str(coco), tmp_path / "again", split_by=first / "splits" / "val.txt")
    for split in ("train", "val"):
        assert Dataset(first, split).file_names == Dataset(again, split).file_names


def test_rules_that_say_nothing(coco, tmp_path):
    with pytest.raises(UsageError, match="40 images have no such key"):
        prepare(str(coco), tmp_path / "out", split_by="scnee")
    with pytest.raises(UsageError, match="neither a file nor a pattern"):
        prepare(str(coco), tmp_path / "out", split_by="(")
    with pytest.raises(DataError, match="1 groups that stay together"):
        prepare(str(coco), tmp_path / "out", split_by="folder")
    assert not (tmp_path / "out").exists()


def test_too_few_images_are_said_of_which_dataset(coco, tmp_path):
    content = json.loads((coco / "labels.json").read_text("utf-8"))
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:1]
    (coco / "labels.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError, match="src: 1 images can't be divided") as caught:
        prepare(str(coco), tmp_path / "out")
    assert caught.value.hint == "--split train=1 leaves them together"
    assert len(Dataset(prepare(str(coco), tmp_path / "out", split="train=1"), "train")) == 1


def test_unreadable_images_are_no_look_alikes_of_each_other(coco, tmp_path):
    for name in ("00_0.png", "03_1.png", "09_3.png"):
        (coco / name).write_bytes(b"no image")
    root = prepare(str(coco), tmp_path / "out")
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert all("look alike" not in note for note in notes)


def test_every_split_gets_a_group():
    for seed in range(20):
        drawn = draw_groups(
            [str(i) for i in range(9)], [[0, 1, 2, 3, 4, 5, 6], [7], [8]], {"a": 0.9, "b": 0.05, "c": 0.05}, seed
        )
        assert all(drawn.values())
        assert sorted(i for part in drawn.values() for i in part) == list(range(9))
