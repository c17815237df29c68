"""What a folder of mask pictures is: decided from values, said, or refused with the flag for each reading."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS, masks_of, photo, picture, text

from segcli.commands.prepare import diagnose, prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset

H, W, FILES = 24, 32, 6
PLACES = ((2, 2), (2, 14), (14, 4), (14, 20))  # of four squares of 6 pixels that do not touch


def scene(number: int, values: tuple[int, ...], dtype=np.uint8) -> np.ndarray:
    """[H,W]: a square for each value, moved by the file's number."""
    out = np.zeros((H, W), dtype)
    for (y, x), value in zip(PLACES, values, strict=False):
        out[y + number % 3 : y + 6 + number % 3, x : x + 6] = value
    return out


def folder(root: Path, mask_of, images="images", masks="masks", name="{}.png") -> Path:
    for number in range(FILES):
        pixels = np.random.default_rng(number).integers(0, 255, (H, W, 3)).astype(np.uint8)
        picture(root / images / f"{number}.png", pixels)
        picture(root / masks / name.format(number), mask_of(number))
    return root


def refused(source: Path, **settings) -> DataError:
    with pytest.raises(DataError) as caught:
        diagnose(str(source), settings=settings)
    return caught.value


def objects(source: Path, out: Path, **settings) -> int:
    root = prepare(str(source), out, split="train=1", settings=settings)
    return sum(len(found) for found in masks_of(root).values())


def label_maps(source: Path, out: Path, **settings) -> tuple[list[str], np.ndarray]:
    """Names, and the first label map."""
    data = Dataset(prepare(str(source), out, split="train=1", settings=settings), task="semantic")
    return data.info.names, data.target(0).semantic.numpy()


def blurred(number: int) -> np.ndarray:
    wide = Image.fromarray(scene(number, (255, 255, 255))).resize((W * 5, H * 5), Image.NEAREST)
    return np.asarray(wide.resize((W, H), Image.BILINEAR, box=(3, 3, W * 5, H * 5)))


def test_ids_stay_objects_without_a_question(tmp_path):
    source = folder(tmp_path / "s", lambda n: scene(n, (1, 2, 3, 4)[: 1 + n % 4]))
    root = prepare(str(source), tmp_path / "out", split="train=1")
    assert sum(len(found) for found in masks_of(root).values()) == 1 + 2 + 3 + 4 + 1 + 2
    facts = json.loads((root / "prepared.json").read_text("utf-8"))
    assert facts["masks"]["read_as"] == "instances"
    assert "every value but 0 is one object" in facts["notes"][0]
    assert "masks_read" in {finding.code for finding in diagnose(str(source)).findings}


@pytest.mark.parametrize("value", [1, 255])
def test_one_value_in_several_regions_could_be_three_things(tmp_path, value):
    source = folder(tmp_path / "s", lambda n: scene(n, (value,) * 3))
    hint = refused(source).hint
    assert all(flag in hint for flag in ("--masks split-components", "--masks binary", "--masks instances"))
    assert objects(source, tmp_path / "one", masks="instances") == FILES
    assert objects(source, tmp_path / "split", masks="split-components") == 3 * FILES
    names, labels = label_maps(source, tmp_path / "binary", masks="binary")
    assert names == ["background", "object"]
    assert (labels == (scene(0, (1, 1, 1)) > 0)).all()


def test_class_numbers_are_no_objects(tmp_path):
    source = folder(tmp_path / "s", lambda n: scene(n, (1, 2, 1, 2)))
    error = refused(source)
    assert "1, 2 could be numbers of classes or ids" in str(error)
    assert "--masks classes" in error.hint
    names, _ = label_maps(source, tmp_path / "numbers", masks="classes")
    assert names == ["background", "class 1", "class 2"]
    assert objects(source, tmp_path / "ids", masks="instances") == 2 * FILES


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.txt", "background\nperson\ncar\n"),
        ("classes.txt", "person\ncar\n"),
        ("masks/classes.txt", "background\nperson\ncar\n"),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, person\n2, car\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:128,0,0::\ncar:0,128,0::\n"),
        ("labelmap.txt", "background\nperson\ncar\n"),
    ],
)
def test_names_beside_masks_make_them_classes(tmp_path, file, content):
    source = folder(tmp_path / "s", lambda n: scene(n, (1, 2, 1, 2)))
    text(source / file, content)
    names, labels = label_maps(source, tmp_path / "out")
    assert names == ["background", "person", "car"]
    assert (labels == scene(0, (1, 2, 1, 2))).all()
    assert objects(source, tmp_path / "split", masks="split-components") == 4 * FILES
    assert {name for found in masks_of(tmp_path / "split").values() for name, _ in found} == {"person", "car"}


def test_one_name_beside_ids_is_what_they_are(tmp_path):
    source = folder(tmp_path / "s", lambda n: scene(n, (1, 2, 3, 4)[: 2 + n % 3]))
    text(source / "classes.txt", "leaf\n")
    found = masks_of(prepare(str(source), tmp_path / "out", split="train=1"))
    assert {name for own in found.values() for name, _ in own} == {"leaf"}
    assert len(found["1"]) == 3


@pytest.mark.parametrize("values", [(128, 255), (1, 3)])
def test_few_values_with_gaps_are_not_taken_for_ids(tmp_path, values):
    source = folder(tmp_path / "s", lambda n: scene(n, values))
    assert "leave gaps" in str(refused(source))
    assert objects(source, tmp_path / "out", masks="instances") == 2 * FILES


def test_255_beside_ids(tmp_path):
    source = folder(tmp_path / "s", lambda n: scene(n, (1, 2, 255)))
    assert "--ignore 255" in refused(source).hint
    assert objects(source, tmp_path / "out", ignore=[255]) == 2 * FILES


def test_soft_edges_ask_for_a_threshold(tmp_path):
    source = folder(tmp_path / "s", blurred)
    assert len(np.unique(blurred(0))) > 3
    error = refused(source)
    assert "soft edges" in str(error)
    assert "--threshold 128" in error.hint
    names, labels = label_maps(source, tmp_path / "two", threshold=128)
    assert len(names) == 2
    assert (labels == (blurred(0) >= 128)).all()
    assert objects(source, tmp_path / "split", threshold=128, masks="split-components") == 3 * FILES


def test_soft_edges_beside_names_too(tmp_path):
    source = folder(tmp_path / "s", blurred, masks="annotations")
    text(source / "classes.txt", "background\nlesion\n")
    assert "--threshold 128" in refused(source).hint
    assert label_maps(source, tmp_path / "out", threshold=128)[0] == ["background", "lesion"]


def test_the_file_that_contradicts_the_others_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("segcli.sources.mask_meaning.evidence.SAMPLE", 3)
    monkeypatch.setattr("segcli.sources.mask_meaning.evidence.spread", lambda files, limit=3: files[:3])
    wide = np.asarray(Image.fromarray(scene(0, (255, 255))).resize((W * 3, H * 3)).resize((W, H), Image.BICUBIC))
    soft = np.clip(wide.astype(int) + np.where(wide > 0, np.arange(W)[None] - W, 0), 0, 255).astype(np.uint8)
    source = folder(tmp_path / "s", lambda n: soft if n == 5 else scene(n, (1, 2, 3)[: 1 + n % 3]))
    found = [f for f in diagnose(str(source)).findings if f.code == "labels_unreadable"]
    assert [item.file_name for finding in found for item in finding.items] == ["5.png"]
    with pytest.raises(DataError, match=r"masks/5\.png: its grey values fade"):
        prepare(str(source), tmp_path / "out")


def rgba(number: int, colour: bool, alpha: bool) -> np.ndarray:
    out = np.full((H, W, 4), 255, np.uint8)
    out[:, :, :3] = scene(number, (9, 9))[:, :, None] if colour else 255
    out[:, :, 3] = scene(number + 1, (255,)) if alpha else 255
    return out


def test_a_mask_in_the_alpha_channel(tmp_path):
    only = folder(tmp_path / "only", lambda n: rgba(n, False, True))
    found = masks_of(prepare(str(only), tmp_path / "out", split="train=1"))
    assert (found["0"][0][1] == (scene(1, (255,)) > 0)).all()
    assert "alpha channel, which alone varies" in (tmp_path / "out/prepared.json").read_text("utf-8")
    both = folder(tmp_path / "both", lambda n: rgba(n, True, True))
    assert "both vary" in str(refused(both))
    colour = folder(tmp_path / "colour", lambda n: rgba(n, True, False))
    assert objects(colour, tmp_path / "colours", masks="split-components") == 2 * FILES


@pytest.mark.parametrize(
    ("masks", "file"),
    [("annotations", "classes.txt"), ("labels", "_classes.csv"), ("masks", "classes.txt")],
)
def test_a_class_behind_255_is_not_ignored_silently(tmp_path, masks, file):
    source = folder(tmp_path / "s", lambda n: scene(n, (255, 255)), masks=masks)
    names = "background\nlesion\n" if file == "classes.txt" else "Pixel Value, Class\n0, background\n1, lesion\n"
    text(source / file, names)
    error = refused(source)
    assert "lesion (value 1) has no pixel" in str(error)
    assert "--masks binary" in error.hint
    assert "--ignore 255" in error.hint
    found, labels = label_maps(source, tmp_path / "binary", masks="binary")
    assert found == ["background", "lesion"]
    assert sorted(np.unique(labels)) == [0, 1]
    assert sorted(np.unique(label_maps(source, tmp_path / "ignored", ignore=[255])[1])) == [0, 255]


def test_some_files_0_1_and_some_0_255(tmp_path):
    source = folder(tmp_path / "s", lambda n: scene(n, (255 if n % 2 else 1,)), masks="labels")
    text(source / "classes.txt", "background\nlesion\n")
    assert "255" in str(refused(source))
    assert (label_maps(source, tmp_path / "out", masks="binary")[1] == (scene(0, (1,)) > 0)).all()


def test_a_border_of_255_stays_ignored(tmp_path):
    def bordered(number: int) -> np.ndarray:
        out = scene(number, (1, 1))
        grown = np.asarray(Image.fromarray(out).resize((W, H))) > 0
        edge = np.zeros_like(grown)
        edge[1:], edge[:-1] = grown[:-1], edge[:-1] | grown[1:]
        return np.where(edge & (out == 0), 255, out).astype(np.uint8)

    source = folder(tmp_path / "s", bordered, masks="annotations")
    text(source / "classes.txt", "background\nleaf\nstem\n")  # stem is never seen
    assert label_maps(source, tmp_path / "out")[0] == ["background", "leaf", "stem"]


def test_the_doctor_finds_it_in_a_prepared_folder(tmp_path):
    source = folder(tmp_path / "s", lambda n: scene(n, (1,)), masks="annotations")
    text(source / "classes.txt", "background\nlesion\n")
    root = prepare(str(source), tmp_path / "out", split="train=1")
    assert "lost_class" not in {f.code for f in diagnose(str(root)).findings}
    for file in (root / "semantic/train").iterdir():
        picture(file, np.where(np.asarray(Image.open(file)) == 1, 255, 0).astype(np.uint8))
    assert "lost_class" in {f.code for f in diagnose(str(root)).findings if f.severity == "error"}


def voc(root: Path, mask_of) -> Path:
    return folder(root, mask_of, "JPEGImages", "SegmentationClass")


def test_own_classes_in_vocs_layout_need_names(tmp_path):
    source = voc(tmp_path / "s", lambda n: scene(n, (1, 2)))
    error = refused(source)
    assert "nothing names its classes" in str(error)
    assert "class_names.txt" in error.hint
    text(
        source / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:128,0,0::\nstem:0,128,0::\n"
    )
    names, labels = label_maps(source, tmp_path / "out")
    assert names == ["leaf", "stem", "background"]
    assert (labels == np.array([2, 0, 1])[scene(0, (1, 2))]).all()
    assert label_maps(source, tmp_path / "numbers", masks="classes")[0] == ["background", "leaf", "stem"]


def test_vocs_layout_painted_in_the_colours_of_labelmap(tmp_path):
    colours = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], np.uint8)
    source = voc(tmp_path / "s", lambda n: colours[scene(n, (1, 2))])
    text(source / "labelmap.txt", "background:0,0,0::\nleaf:250,50,83::\nstem:51,221,255::\n")
    names, labels = label_maps(source, tmp_path / "out")
    assert names == ["leaf", "stem", "background"]
    assert (labels == np.array([2, 0, 1])[scene(0, (1, 2))]).all()


def test_vocs_names_where_something_speaks_for_them(tmp_path):
    source = voc(tmp_path / "s", lambda n: scene(n, (1, 2)))
    for number in range(FILES):
        names = "".join(f"<object><name>{name}</name></object>" for name in ("aeroplane", "bicycle"))
        text(source / f"Annotations/{number}.xml", f"<annotation>{names}</annotation>")
    assert label_maps(source, tmp_path / "out")[0][:2] == ["aeroplane", "bicycle"]
    text(source / "Annotations/0.xml", "<annotation><object><name>leaf</name></object></annotation>")
    assert "nothing names its classes" in str(refused(source))
    shutil.rmtree(source / "Annotations")
    assert "nothing names its classes" in str(refused(source))


def test_camvids_names_are_not_everybodys(tmp_path):
    FORMATS["camvid"](tmp_path / "c")
    (tmp_path / "c/legend.csv").unlink()
    assert "hardly CamVid's" in str(refused(tmp_path / "c"))


def test_flags_that_do_not_fit(tmp_path):
    photo(tmp_path / "y/images/a.png")
    text(tmp_path / "y/labels/a.txt", "0 0.5 0.5 0.2 0.2\n")
    text(tmp_path / "y/classes.txt", "leaf\n")
    with pytest.raises(UsageError, match="--masks: yolo has no mask pictures"):
        diagnose(str(tmp_path / "y"), settings={"masks": "binary"})
    with pytest.raises(UsageError, match="shapes has no mask pictures"):
        prepare("shapes", tmp_path / "x", settings={"threshold": 3})
    source = folder(tmp_path / "s", lambda n: scene(n, (1,)))
    root = prepare(str(source), tmp_path / "out")
    with pytest.raises(UsageError, match="prepared already"):
        diagnose(str(root), settings={"masks": "binary"})
