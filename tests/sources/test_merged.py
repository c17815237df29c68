"""Several sources as one dataset: classes by name, splits as they are, names apart, nothing twice."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS, SPLIT
from tiny import edit, write_json, write_tiny

from segcli.commands.prepare import describe, prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset
from segcli.fields.mesh import PosedMeshes


@pytest.fixture
def base(tmp_path):
    return write_tiny(tmp_path / "base")


def labelled(folder, classes, names=("one image.png",), seed=1):
    """A LabelMe folder: an image of noise for each name, with an object of each class."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)).save(folder / name)
        shapes = [
            {"label": label, "points": [[4 + 9 * i, 4], [12 + 9 * i, 4], [12 + 9 * i, 30]], "shape_type": "polygon"}
            for i, label in enumerate(classes)
        ]
        document = {"shapes": shapes, "imagePath": name, "imageHeight": 48, "imageWidth": 64, "imageData": None}
        write_json((folder / name).with_suffix(".json"), document)
    return folder


def notes(root):
    return json.loads((root / "prepared.json").read_text("utf-8"))["notes"]


def labels(root, split):
    """Image name -> names of its objects."""
    data = Dataset(root, split)
    return {
        name: sorted(data.info.names[int(k)] for k in data.read(i).target.instances.labels)
        for i, name in enumerate(data.file_names)
    }


def test_a_source_without_splits_is_for_training_and_its_names_are_kept_apart(base, tmp_path):
    more = labelled(tmp_path / "more", ["dog"], ["one image.png", "new.png"])
    root = prepare([base, more], tmp_path / "out", samples=False)
    train = labels(root, "train")
    assert list(train)[-2:] == ["new.png", "more/one image.png"]
    assert train["more/one image.png"] == ["dog"]
    assert train["one image.png"] == ["cat", "dog"]
    assert labels(root, "val") == labels(base, "val")
    said = " / ".join(notes(root))
    assert "more does not declare cat" in said
    assert "1 image called as others are kept apart: more/one image.png" in said
    assert "all images are for training" in said
    assert describe(root)["splits"]["train"]["images"] == 6
    assert prepare([base, more], tmp_path / "out", samples=False) == root  # nothing to do
    with pytest.raises(DataError, match="prepared differently"):
        prepare([more, base], tmp_path / "out", samples=False)


def test_shares_divide_those_that_are_not_prepared(base, tmp_path):
    more = labelled(tmp_path / "more", ["dog", "cat"], [f"{i}.png" for i in range(4)])
    root = prepare([base, more], tmp_path / "out", split="train=0.5,val=0.5", samples=False)
    assert len(labels(root, "train")) == 6
    assert len(labels(root, "val")) == 4
    with pytest.raises(UsageError, match=r"--split: all of these are prepared"):
        prepare([base, base], tmp_path / "other", split="train=1")


def test_an_image_of_two_sources_has_the_split_of_the_first_and_the_labels_of_the_last(base, tmp_path):
    corrected = labelled(tmp_path / "corrected", ["dog", "dog"], ["renamed.png"])
    shutil.copyfile(base / "images/five.png", corrected / "renamed.png")
    assert len(labels(base, "val")["five.png"]) == 2
    root = prepare([base, corrected], tmp_path / "out", samples=False)
    assert labels(root, "val")["five.png"] == ["dog", "dog"]
    assert len(labels(root, "train")) == 4
    assert any("1 image of tiny found again in corrected" in note for note in notes(root))
    back = prepare([corrected, base], tmp_path / "back", samples=False)
    assert labels(back, "train")["renamed.png"] == labels(base, "val")["five.png"]


def test_classes_are_matched_by_name_whatever_their_ids(base, tmp_path):
    other = write_tiny(tmp_path / "other")
    for split in ("train", "val"):  # the same labels with the ids exchanged
        edit(other, split, lambda data: [a.update(category_id=20 - a["category_id"]) for a in data["annotations"]])
        edit(other, split, lambda data: [c.update(id=20 - c["id"]) for c in data["categories"]])
    info = json.loads((other / "info.json").read_text("utf-8"))
    for category in info["categories"]:
        category["source_id"] = 20 - category["source_id"]
    write_json(other / "info.json", info)
    for file in (other / "images").rglob("*.*"):
        pixels = np.asarray(Image.open(file)) // 2
        Image.fromarray(pixels).save(file)  # no image is in both
    root = prepare([base, other], tmp_path / "out", samples=False)
    train = labels(root, "train")
    assert len(train) == 8
    assert all(train[name] == train[f"tiny-2/{name}"] for name in labels(base, "train"))
    assert any(train.values())


def test_classes_that_neither_has_all_of_are_refused(base, tmp_path):
    with pytest.raises(DataError, match=r"'cat' are of the first alone, 'owl' of the second"):
        prepare([base, labelled(tmp_path / "more", ["dog", "owl"])], tmp_path / "out")
    with pytest.raises(DataError) as error:
        prepare([base, labelled(tmp_path / "case", ["Dog"])], tmp_path / "out")
    assert error.value.hint == "if 'dog' and 'Dog' are one class, give them one name"
    assert not (tmp_path / "out").exists()


def test_maps_of_one_kind_are_merged_and_others_refused(base, tmp_path):
    for name in ("a", "b"):
        FORMATS["semantic"](tmp_path / name)
    roots = [prepare(tmp_path / name, tmp_path / f"{name}-prepared") for name in ("a", "b")]
    for file in (roots[1] / "images").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    root = prepare(roots, tmp_path / "out", samples=False)
    both = Dataset(root, "train", task="semantic")
    assert len(both) == 2 * sum(split == "train" for split in SPLIT.values())
    assert (both.read(0).target.semantic == both.read(len(both) // 2).target.semantic).all()
    with pytest.raises(DataError, match="semantic maps and tiny has none"):
        prepare([roots[0], base], tmp_path / "none")


@pytest.mark.parametrize("flags", [{"link": True}, {"fix": True}, {"source_path": "x"}, {"crowd": "as-objects"}])
def test_flags_of_one_source_are_refused(base, tmp_path, flags):
    with pytest.raises(UsageError, match="goes with one source alone"):
        prepare([base, base], tmp_path / "out", **flags)


def test_nothing_is_written_over_a_source(base):
    with pytest.raises(UsageError, match="holds the source"):
        prepare([base, base], base)


def test_images_of_no_split_are_for_training_and_a_sources_val_stays_val(base, tmp_path):
    (tmp_path / "more/val").mkdir(parents=True)
    for file in labelled(tmp_path / "a", ["dog"], ["a.png"]).iterdir():
        file.rename(tmp_path / "more" / file.name)
    for file in labelled(tmp_path / "b", ["dog"], ["b.png"], seed=2).iterdir():
        file.rename(tmp_path / "more/val" / file.name)
    root = prepare([base, tmp_path / "more"], tmp_path / "out", samples=False)
    assert "a.png" in labels(root, "train")
    assert "val/b.png" in labels(root, "val")
    assert "more: 1 image of no split are for training" in " / ".join(notes(root))


def test_side_files_come_along_or_are_refused(tmp_path):
    settings = {"train": 1, "val": 1, "size": 64, "families": ["vase"]}
    solids = prepare("solids", tmp_path / "solids", settings=settings, samples=False)
    more = labelled(tmp_path / "more", ["solid"])
    root = prepare([more, solids, solids], tmp_path / "out", samples=False)
    assert Dataset(root).info.declared == {"mesh": {}}
    assert len(Dataset(root, fields={"mesh": PosedMeshes})) == 3  # every mesh is there
    assert "more has no labels of mesh" in notes(root)
    other = prepare("solids", tmp_path / "other", settings={**settings, "seed": 1}, samples=False)
    with pytest.raises(DataError, match=r"solids-2: its side file meshes/vase_00\.obj is another"):
        prepare([solids, other], tmp_path / "none", samples=False)


def test_what_masks_were_taken_for_comes_along(tmp_path):
    FORMATS["semantic"](tmp_path / "a")
    root = prepare(tmp_path / "a", tmp_path / "one", settings={"ignore": [9]}, samples=False)
    both = prepare([root, root], tmp_path / "out", samples=False)
    assert prepared(both)["masks"]["ignored"] == prepared(root)["masks"]["ignored"]


def test_flags_that_exclude_each_other(base, tmp_path):
    more = labelled(tmp_path / "more", ["dog"])
    (tmp_path / "val.txt").write_text("one image.png\n")
    with pytest.raises(UsageError, match="--split and --split-by FILE"):
        prepare([base, more], tmp_path / "out", split="train=1", split_by=tmp_path / "val.txt")
    with pytest.raises(UsageError, match="--drop"):
        prepare([base, more], tmp_path / "out", drop=True)
