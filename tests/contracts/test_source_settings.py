"""Every setting of a format or a generator does something: it changes what is read, or is refused by name."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from public_sets import bdd100k, mapillary
from scene import SPLIT, H, W, ids, photo, picture, text
from sources import FORMATS
from tool_exports import runs

from segcli.commands.prepare import prepare
from segcli.core import plugins
from segcli.core.errors import SegcliError, UsageError

Write = Callable[[Path], None]
ERROR = re.compile(r"\w+Error: ")
ELSEWHERE = {"path", "trusted"}  # where data lies; tests/contracts/test_nothing_outside.py
PLACES = {  # of an image and of its picture of labels
    "camvid": ("{split}/{name}.png", "{split}annot/{name}.png"),
    "masks": ("images/{name}.png", "masks/{name}.png"),
    "pairs": ("imgs/{name}.png", "Masks/{name}_mask.png"),
    "semantic": ("images/{split}/{name}.png", "annotations/{split}/{name}.png"),
    "voc": ("JPEGImages/{name}.png", "SegmentationClass/{name}.png"),
}
NAMED = ["none", "cat", "dog"]
LEGEND = "value,name,kind\n0,none,ignore\n1,cat,regions\n2,dog,regions\n"


def pictures(kind: str, root: Path, drawn: Callable[[str], np.ndarray]) -> None:
    """The scene with pictures of labels in the places of a format, without a word on what their values are."""
    for name, split in SPLIT.items():
        image, labels = (root / place.format(split=split, name=name) for place in PLACES[kind])
        photo(image)
        picture(labels, drawn(name))


def classes(kind: str, root: Path) -> None:
    pictures(kind, root, lambda name: ids(name, 1, 2))


def lesions(kind: str, root: Path) -> None:
    pictures(kind, root, lambda name: ids(name, 255, 255))


def soft(kind: str, root: Path) -> None:
    """One object an image, grey towards its edges."""
    ramp = np.zeros((H, W), np.uint8)
    ramp[4:20, 8:24] = np.arange(10, 250, 15)
    pictures(kind, root, lambda name: ramp)


def legend(kind: str, root: Path) -> None:
    classes(kind, root)
    text(root / "legend.csv", LEGEND)


def versions(kind: str, root: Path) -> None:
    """Labels of two versions, whose first class has another name."""
    mapillary(root)
    config = (root / "config_v2.0.json").read_text("utf-8")
    text(root / "config_v1.2.json", config.replace('"2.0"', '"1.2"').replace("cat", "kitten"))
    for split in ("training", "validation"):
        shutil.copytree(root / split / "v2.0", root / split / "v1.2")


def labelme(name: str, shape: str = "polygon", encoding: str = "utf-8") -> Callable[[str, Path], None]:
    """An image with a polygon of a cat, and another shape."""

    def write(kind: str, root: Path) -> None:
        photo(root / "a.png")
        corners = [[3, 3], [20, 3], [20, 15]]
        shapes = [{"label": "cat", "shape_type": "polygon", "points": corners}]
        shapes.append({"label": name, "shape_type": shape, "points": corners[: 2 if shape == "line" else 3]})
        content = {"imagePath": "a.png", "imageWidth": W, "imageHeight": H, "shapes": shapes}
        (root / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))

    return write


def other_images(kind: str, root: Path) -> None:
    """The usual data, and other photographs of the same names elsewhere."""
    FORMATS[kind](root)
    for name in SPLIT:
        picture(root / f"elsewhere/{name}.png", np.full((H, W, 3), 9, np.uint8))


def other_maps(kind: str, root: Path) -> None:
    """The usual maps, and others of which the first columns are unlabelled."""
    FORMATS[kind](root)
    for file in sorted(root.rglob("panoptic_*/*.png")):
        pixels = np.array(Image.open(file))
        pixels[:, :5] = 0
        picture(root / "elsewhere" / file.name, pixels)


def persons(kind: str, root: Path) -> None:
    """The usual files, and others in which no dog is labelled."""
    FORMATS[kind](root)
    for split in ("train", "val"):
        content = json.loads((root / f"annotations/instances_{split}.json").read_text("utf-8"))
        content["annotations"] = content["annotations"][:1]
        text(root / f"annotations/persons_{split}.json", content)


def nameless(kind: str, root: Path) -> None:
    """A table of run lengths without classes."""
    rows = ["ImageId,EncodedPixels"]
    for name in SPLIT:
        photo(root / f"images/{name}.png")
        rows += [f"{name}.png,{runs(ids(name, 1, 2) == number)}" for number in (1, 2)]
    text(root / "train.csv", "\n".join(rows) + "\n")


def broken_lines(kind: str, root: Path) -> None:
    """A row of two regions: one object, or two."""
    FORMATS[kind](root)
    two = runs(ids("c", 1, 1) == 1)
    (root / "train.csv").write_text(f"ImageId,ClassId,EncodedPixels\nc.png,cat,{two}\n")


def coloured(kind: str, root: Path) -> None:
    """Regions with another attribute, besides their class."""
    FORMATS[kind](root)
    for file in sorted(root.rglob("*.json")):
        text(file, file.read_text("utf-8").replace('{"class": "', '{"colour": "red", "class": "'))


def both(kind: str, root: Path) -> None:
    """Masks, and boxes around parts of the objects."""
    FORMATS["voc"](root)
    FORMATS["voc_boxes"](root / "boxes")
    (root / "Annotations").mkdir()
    for file in sorted((root / "boxes").rglob("*.xml")):
        file.rename(root / "Annotations" / file.name)
    shutil.rmtree(root / "boxes")


# a setting of a format, or of several -> who writes data on which it shows (None: the usual), what is set besides, and
# what it is set to
CASES: dict[str, tuple[Callable[[str, Path], None] | None, dict[str, object], object]] = {
    "category": (lesions, {"masks": "binary"}, "lesion"),
    "classes": (classes, {}, NAMED),
    "ignore": (classes, {"classes": NAMED[:2]}, [2]),
    "masks": (lesions, {}, "binary"),
    "threshold": (soft, {}, 200.0),
    "coco.images": (other_images, {}, "{root}/elsewhere"),
    "coco.labels": (persons, {}, "persons"),
    "geojson.attribute": (None, {}, "objectType"),
    "geojson.category": (None, {}, "animal"),
    "instance_maps.labels": (lambda kind, root: bdd100k(root), {}, "sem_seg"),
    "instance_maps.version": (versions, {}, "v1.2"),
    "labelme.classes": (None, {}, ["dog", "cat"]),
    "labelme.encoding": (labelme("猫", encoding="cp949"), {}, "cp949"),
    "labelme.line_width": (labelme("dog", "line"), {}, 4),
    "masks.ignore": (legend, {}, [2]),
    "panoptic.images": (other_images, {}, "{root}/elsewhere"),
    "panoptic.maps": (other_maps, {}, "{root}/elsewhere"),
    "run_lengths.category": (nameless, {}, "ship"),
    "run_lengths.masks": (broken_lines, {"pixel_order": "columns"}, "split-components"),
    "run_lengths.pixel_order": (None, {"masks": "instances"}, "rows"),
    "sa1b.category": (None, {}, "thing"),
    "via.attribute": (coloured, {}, "colour"),
    "via.category": (None, {}, "animal"),
    "voc.labels": (both, {}, "boxes"),
    "yolo.classes": (None, {}, ["dog", "cat"]),
}


def outcome(kind: str, source: Path, out: Path, settings: dict[str, object]) -> str:
    """What was read, or the error."""
    try:
        root = prepare(str(source), out, format=kind, settings=settings, samples=False, split="train=1.0")
    except SegcliError as error:
        return f"{type(error).__name__}: {error}"
    said = [json.dumps(json.loads((root / "info.json").read_text("utf-8"))["categories"])]
    for file in sorted(root.rglob("*")):
        if file.suffix == ".png":
            said.append(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}")
        elif file.parent.name == "annotations" and file.suffix == ".json":
            said.append(json.dumps(json.loads(file.read_text("utf-8"))["annotations"]))
    return "\n".join(said)


def settings() -> list[tuple[str, str]]:
    """Every setting of every format."""
    of = {name: plugins.defaults(plugins.find("format", name).build) for name in plugins.names("format")}
    return [(name, setting) for name, own in of.items() for setting in own if setting not in ELSEWHERE]


@pytest.mark.parametrize(("kind", "setting"), settings())
def test_every_setting_of_a_format_changes_what_is_read(kind, setting, tmp_path):
    write, besides, value = CASES.get(f"{kind}.{setting}") or CASES[setting]
    root = tmp_path / "in"
    write(kind, root) if write else FORMATS[kind](root)
    value = value.format(root=root) if isinstance(value, str) else value
    usual = outcome(kind, root, tmp_path / "usual", besides)
    other = outcome(kind, root, tmp_path / "other", {**besides, setting: value})
    assert other != usual
    assert not ERROR.match(other), other


GENERATED = {"train": 2, "val": 2, "seed": 1, "size": 112, "families": ["vase"], "source": "{root}", "split": "val=1.0"}


@pytest.mark.parametrize("setting", GENERATED)
@pytest.mark.parametrize("name", plugins.names("synthetic"))
def test_every_setting_of_a_generator_changes_what_is_made(name, setting, tmp_path):
    takes = plugins.defaults(plugins.find("synthetic", name).build)
    assert takes.keys() <= GENERATED.keys()
    if setting not in takes:
        return
    text(tmp_path / "in/model.obj", "v -1 -1 0\nv 1 -1 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
    value = GENERATED[setting]
    value = value.format(root=tmp_path / "in") if isinstance(value, str) else value
    made = []
    for number, own in enumerate(({}, {setting: value})):
        root = prepare(name, tmp_path / f"{number}", settings={"train": 1, "val": 1, "size": 96, **own}, samples=False)
        files = sorted(file for file in root.rglob("*") if file.suffix in (".png", ".json") and file.parent != root)
        made.append([(str(f.relative_to(root)), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert made[0] != made[1]


@pytest.mark.parametrize(
    ("kind", "setting"),
    [(k, "category") for k in ("masks", "pairs", "run_lengths")]
    + [("instance_maps", k) for k in ("labels", "version")],
)
def test_a_setting_that_the_data_leaves_no_room_for_is_refused(kind, setting, tmp_path):
    """The usual data name their classes; those of ADE20K have one kind of labels, in one version."""
    FORMATS[kind](tmp_path / "in")
    with pytest.raises(UsageError, match=rf"data\.prepare\.{setting}"):
        prepare(str(tmp_path / "in"), tmp_path / "out", format=kind, settings={setting: "lesion"})


def test_families_of_solids_beside_a_folder_of_meshes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="families are of the procedural solids"):
        prepare("solids", tmp_path / "out", settings={"families": ["vase"], "source": str(tmp_path)})
