"""Pictures of class and object at once: ADE20K, Mapillary Vistas and BDD100K come out as the scene that went in."""

import json

import numpy as np
import pytest
from public_sets import MAPILLARY, ade20k, ade20k_2016, bdd100k, mapillary
from scene import SCENE, SPLIT, H, W, ids, photo, picture, text
from sources import masks_of

from segcli.commands.prepare import describe, prepare
from segcli.core.errors import DataError
from segcli.data import index
from segcli.data.dataset import Dataset
from segcli.sources.detection import detect


def expect_scene(root, names):
    for image, objects in masks_of(root).items():
        assert sorted(name for name, _ in objects) == sorted(names)
        for name, mask in objects:
            x1, y1, x2, y2 = [*SCENE[image].values()][names.index(name)]
            box = np.zeros((H, W), bool)
            box[y1:y2, x1:x2] = True
            assert (mask == box).all()
    assert Dataset(root).info.splits == {"train": 2, "val": 1}


def semantic(root, name):
    data = Dataset(root, SPLIT[name], task="semantic")
    place = [file.rsplit("/")[-1] for file in data.file_names].index(f"{name}.png")
    return data.target(place).semantic.numpy()


@pytest.mark.parametrize(
    ("write", "names"),
    [(ade20k, ["cat", "dog"]), (ade20k_2016, ["cat", "dog"]), (mapillary, ["cat", "dog"]), (bdd100k, ["car", "bus"])],
)
def test_objects_are_found_by_the_folder_alone(tmp_path, write, names):
    write(tmp_path / "in")
    assert detect(tmp_path / "in") == "instance_maps"
    expect_scene(prepare(str(tmp_path / "in"), tmp_path / "out"), names)


def test_ade20k_has_classes_of_pixels_and_names_what_is_left_aside(tmp_path):
    ade20k(tmp_path / "in")
    file = next((tmp_path / "in").rglob("a.json"))
    content = json.loads(file.read_text("utf-8"))
    content["annotation"]["object"].append({"name": "dog", "name_ndx": 1831, "parts": {"part_level": 0}})
    text(file, content)
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert (semantic(root, "c") == ids("c", 0, 1, background=255)).all()
    notes = " | ".join(describe(root)["notes"])
    assert "3 pictures of parts are left aside" in notes
    assert "1 objects of the lists have no pixel of their own in the pictures: training/street/a.png" in notes


STREET = "images/training/s/street"


def test_ade20k_of_2016_has_classes_of_pixels_and_leaves_parts_aside(tmp_path):
    ade20k_2016(tmp_path / "in")
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert (semantic(root, "c") == ids("c", 0, 1, background=255)).all()
    assert [(c.name, c.source_id) for c in Dataset(root).info.categories] == [("cat", 401), ("dog", 1831)]
    assert "3 pictures of parts are left aside" in " | ".join(describe(root)["notes"])


def test_an_object_that_others_hide_takes_no_name_from_its_neighbour(tmp_path):
    """A third object of which nothing is seen stands between the two in every list of 2016."""
    ade20k_2016(tmp_path / "in")
    for file in (tmp_path / "in").rglob("*_atr.txt"):
        first, second, *_ = file.read_text("utf-8").splitlines()
        text(file, "\n".join([first, '002 # 0 # 0 # bird # bird # ""', second.replace("002", "003")]))
    for file in (tmp_path / "in").rglob("*_seg.png"):
        channels = [ids(file.stem[0], *values) for values in ((10, 70), (145, 39), (85, 255))]
        picture(file, np.stack(channels, 2))
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    expect_scene(root, ["cat", "dog"])
    assert "2 objects of the lists have no pixel of their own in the pictures: training/s" in " | ".join(
        describe(root)["notes"]
    )


def test_values_that_only_count_are_taken_in_their_order(tmp_path):
    ade20k_2016(tmp_path / "in")
    for file in (tmp_path / "in").rglob("*_seg.png"):
        channels = [ids(file.stem[0], *values) for values in ((10, 70), (145, 39), (1, 2))]
        picture(file, np.stack(channels, 2))
    expect_scene(prepare(str(tmp_path / "in"), tmp_path / "out"), ["cat", "dog"])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (f"{STREET}/a_atr.txt", None, r"a\.png: nothing names the classes of its a_seg\.png"),
        (f"{STREET}/a_atr.txt", "001 # 0 # 0 # cat", r"a_atr\.txt: line 1: is no `001 # 0"),
        (f"{STREET}/a_atr.txt", '001 # 0 # 0 # # cat # ""', r"a_atr\.txt: line 1: is no `001 # 0"),
        (
            f"{STREET}/b_atr.txt",
            '1 # 0 # 0 # wolf # x # ""\n2 # 0 # 0 # dog # x # ""',
            r"class 401 is called 'wolf'",
        ),
    ],
)
def test_lists_of_2016_that_say_nothing_are_refused_by_name(tmp_path, file, content, said):
    ade20k_2016(tmp_path / "in")
    (tmp_path / "in" / file).unlink()
    if content is not None:
        text(tmp_path / "in" / file, content)
    with pytest.raises(DataError, match=said):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def test_mapillary_leaves_out_what_is_not_evaluated(tmp_path):
    mapillary(tmp_path / "in")
    values = ids("c", 1, 256 + 3, background=512, dtype=np.uint16)
    values[23, :] = 3 * 256
    picture(tmp_path / "in/validation/v2.0/instances/c.png", values)
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    wanted = ids("c", 0, 1, background=2)
    wanted[23, :] = 255
    assert (semantic(root, "c") == wanted).all()
    assert [c.thing for c in Dataset(root).info.categories] == [True, True, False]
    notes = " | ".join(describe(root)["notes"])
    assert "1 classes are not evaluated, as the config says, and left out: Unlabeled" in notes
    assert "left aside: labels (--set labels=labels reads that in place of instances)" in notes


def test_mapillary_is_read_in_the_newest_version_or_the_one_that_is_said(tmp_path):
    mapillary(tmp_path / "in")
    text(tmp_path / "in/config_v1.2.json", {"labels": MAPILLARY[:1]})
    for name, split in (("a", "training"), ("b", "training"), ("c", "validation")):
        picture(tmp_path / "in" / split / "v1.2/instances" / f"{name}.png", ids(name, 1, 2, dtype=np.uint16))
    root = prepare(str(tmp_path / "in"), tmp_path / "new")
    assert any("left aside: v1.2 (--set version=v1.2" in note for note in describe(root)["notes"])
    old = prepare(str(tmp_path / "in"), tmp_path / "old", settings={"version": "v1.2"})
    assert Dataset(old).info.names == ["cat"]
    with pytest.raises(DataError, match=r"has no version 'v3'"):
        prepare(str(tmp_path / "in"), tmp_path / "none", settings={"version": "v3"})


def test_mapillarys_panoptic_maps_are_read_where_they_are(tmp_path):
    mapillary(tmp_path / "in")
    kinds = [{"id": i, "name": m["readable"], "isthing": int(m["instances"])} for i, m in enumerate(MAPILLARY[:3], 1)]
    for split, names in (("training", "ab"), ("validation", "c")):
        content = {"categories": kinds, "images": [], "annotations": []}
        for name in names:
            rgb = np.stack([ids(name, 1, 2, background=3), *[np.zeros((H, W), np.uint8)] * 2], 2)
            picture(tmp_path / "in" / split / "v2.0/panoptic" / f"{name}.png", rgb)
            content["images"].append({"id": name, "file_name": f"{name}.png", "width": W, "height": H})
            segments = [{"id": i, "category_id": i, "iscrowd": 0} for i in (1, 2, 3)]
            content["annotations"].append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
        text(tmp_path / "in" / split / "v2.0/panoptic/panoptic_2020.json", content)
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert Dataset(root).info.panoptic
    expect_scene(root, ["cat", "dog"])


def test_bdd100k_keeps_flags_and_reads_the_other_kind_if_asked(tmp_path):
    bdd100k(tmp_path / "in")
    values = np.stack([ids("a", *v) for v in ((3, 5), (2, 12), (1, 0), (7, 9))], 2)
    picture(tmp_path / "in/labels/ins_seg/bitmasks/train/a.png", values)
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    found = {i["file_name"][-5:]: own for i, own in index.walk(root / "annotations/train.json")}
    assert [(a["iscrowd"], a["truncated"], a["occluded"]) for a in found["a.png"]] == [(1, 0, 0), (0, 1, 1)]
    maps = prepare(str(tmp_path / "in"), tmp_path / "maps", settings={"labels": "sem_seg"})
    assert (semantic(maps, "c") == ids("c", 13, 15, background=255)).all()
    assert Dataset(maps, task="semantic").info.names[13] == "car"


@pytest.mark.parametrize(
    ("write", "file", "pixels", "said"),
    [
        (ade20k, "images/ADE/training/street/a_seg.png", (11, 0, 0), r"a_seg\.png: is no picture of ADE20K"),
        (ade20k, "images/ADE/training/street/a_seg.png", (10, 0, 0), r"a_seg\.png: nothing names its class 256"),
        (mapillary, "training/v2.0/instances/a.png", 9 * 256, r"a\.png: nothing names its class 9"),
        (bdd100k, "labels/ins_seg/bitmasks/train/a.png", (9, 0, 0, 1), r"a\.png: nothing names its class 9"),
        (bdd100k, "labels/ins_seg/bitmasks/train/a.png", (9, 0, 0), r"a\.png: is no bitmask of BDD100K"),
    ],
)
def test_pictures_of_another_kind_are_refused_by_name(tmp_path, write, file, pixels, said):
    write(tmp_path / "in")
    kind = np.uint16 if isinstance(pixels, int) else np.uint8
    picture(tmp_path / "in" / file, np.broadcast_to(np.array(pixels, kind), (H, W, *np.shape(pixels))).copy())
    with pytest.raises(DataError, match=said):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def test_a_folder_called_instances_beside_label_maps_changes_nothing(tmp_path):
    for name, split in SPLIT.items():
        photo(tmp_path / "in" / split / "images" / f"{name}.png")
        for folder in ("labels", "instances"):
            picture(tmp_path / "in" / split / folder / f"{name}.png", ids(name, 1, 2))
    text(tmp_path / "in/legend.csv", "value,name,kind\n0,other,ignore\n1,cat,stuff\n2,dog,stuff\n")
    assert detect(tmp_path / "in") == "semantic"


def test_a_class_with_two_names_is_refused(tmp_path):
    ade20k(tmp_path / "in")
    file = next((tmp_path / "in").rglob("c.json"))
    file.write_text(file.read_text("utf-8").replace('"dog"', '"wolf"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"class 1831 is called 'wolf', and 'dog'"):
        prepare(str(tmp_path / "in"), tmp_path / "out")
