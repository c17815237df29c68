"""The same scene in every format arrives as the same objects, by detection, with its splits; and goes out again."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS, NAMES, SCENE, H, W, ids, masks_of, overlaps, photo, picture, text

from segcli.commands.prepare import export, prepare
from segcli.core.errors import DataError, UsageError
from segcli.core.files import PART
from segcli.data.dataset import Dataset
from segcli.sources import shapes

POLYGONS = "gtFine/train/town/town_000000_000019_gtFine_polygons.json"
MAPS = ("semantic", "camvid")  # classes of pixels, no objects
ONE_CLASS = ("sa1b",)  # see test_coco_variants.py


def notes(root: Path) -> str:
    return " | ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Format -> (source, prepared folder)."""
    base = tmp_path_factory.mktemp("formats")
    for name, write in FORMATS.items():
        write(base / name)
    return {name: (base / name, prepare(str(base / name), base / "out" / name)) for name in FORMATS}


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in (*MAPS, *ONE_CLASS)])
def test_the_scene_arrives(made, name):
    _, root = made[name]
    data = Dataset(root, task="detection")
    assert {s: len(Dataset(root, s, task="detection")) for s in data.info.splits} == {"train": 2, "val": 1}
    for i, file_name in enumerate(data.file_names):
        found = data.target(i).instances
        labels = [data.info.names[k] for k in found.labels.tolist()]
        labels = [{"car": "cat", "person": "dog"}.get(label, label) for label in labels]
        boxes = dict(zip(labels, found.boxes.tolist(), strict=True))
        assert boxes == {
            k: list(v)
            for k, v in SCENE[
                Path(file_name).stem[:1] if name != "cityscapes" else "abc"[int(file_name.split("_")[1])]
            ].items()
        }
        if found.masks is not None:
            areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in found.boxes.tolist()]
            assert found.masks.sum((1, 2)).tolist() == areas
    assert data.has_masks == (name != "voc_boxes")


@pytest.mark.parametrize("name", MAPS)
def test_maps_arrive_renumbered(made, name):
    _, root = made[name]
    data = Dataset(root, task="semantic")
    assert data.info.names[:2] == list(NAMES)
    assert (data.info.num_things, data.info.splits) == (0, {"train": 2, "val": 1})
    for i, file_name in enumerate(data.file_names):
        want = ids(Path(file_name).stem, 0, 1, background=255)
        assert (data.target(i).semantic.numpy() == want).all()


def test_fields_of_other_tasks_stay(made):
    _, root = made["coco"]
    data = Dataset(root)
    cat = data.annotations(0)[0]
    assert (cat["keypoints"], cat["num_keypoints"], cat["dp_I"], cat["dp_masks"]) == ([2, 3, 2], 1, [1], [[]] * 14)
    assert data.info.categories[0].keypoints == ("nose",)


def test_panoptic_maps_and_views(made):
    _, root = made["panoptic"]
    data = Dataset(root, task="panoptic")
    target = data.target(0)
    assert sorted((s.label, s.id) for s in target.panoptic.segments) == [(0, 300), (1, 2), (2, 70000)]
    assert (target.semantic.numpy() == ids("a", 0, 1, background=2)).all()
    assert [c.thing for c in data.info.categories] == [True, True, False]


def test_voc_border_and_background(made):
    _, root = made["voc"]
    semantic = Dataset(root, task="semantic").target(0).semantic.numpy()
    want = ids("a", 0, 1, background=2)
    want[23, 31] = 255
    assert (semantic == want).all()


def test_cityscapes_groups_are_crowds_and_stuff_is_in_the_map(made):
    _, root = made["cityscapes"]
    data = Dataset(root, task="semantic")
    for i in range(3):
        target = data.target(i)
        assert sorted(target.instances.crowd.tolist()) == [False, True]
        names = {data.info.names[k] for k in np.unique(target.semantic.numpy()).tolist()}
        assert names == {"sky", "car", "person"}


def test_what_is_no_object_is_counted(made):
    assert "__ignore__: 2 left out" in notes(made["labelme"][1])
    assert "shapes of type point: 2 left out" in notes(made["labelme"][1])
    assert "2 points have no area" in notes(made["via"][1])
    assert "2 polylines have no area and are left out: train/a.png, train/b.png" in notes(made["cvat"][1])


@pytest.mark.parametrize("to", ["coco", "yolo", "labelme", "cvat"])
@pytest.mark.parametrize("name", [n for n in FORMATS if n not in MAPS and n != "voc_boxes"])
def test_out_and_in_again(made, tmp_path, name, to):
    root = made[name][1]
    facts = export(str(root), to, tmp_path / "there")
    back = prepare(str(tmp_path / "there"), tmp_path / "back")
    assert Dataset(back).info.splits == {"train": 2, "val": 1}
    first, crowd = masks_of(root), name == "cityscapes" and to == "yolo"
    if crowd:
        first = {k: [(n, m) for n, m in v if n != "person"] for k, v in first.items()}
        assert "crowd regions: 3 left out" in " ".join(facts["notes"])
    assert min(overlaps(first, masks_of(back))) == 1.0


def test_hard_masks_survive_every_format(tmp_path, segcli):
    """Embedded scenes: occluded objects in many parts, rings; the command itself; panoptic goes along in COCO."""
    root = prepare("shapes", tmp_path / "shapes", settings={"train": 6, "val": 3})
    first = masks_of(root)
    for to in ("coco", "yolo", "labelme"):
        result = segcli("prepare", root, "--to", to, "--out", tmp_path / to, "--json")
        assert (result.code, result.json["format"], result.json["splits"]) == (0, to, {"train": 6, "val": 3})
        back = prepare(str(tmp_path / to), tmp_path / f"{to} again")
        assert min(overlaps(first, masks_of(back))) >= (0.99 if to == "labelme" else 1.0)
    again = prepare(str(tmp_path / "coco"), tmp_path / "panoptic", format="panoptic")
    before, after = Dataset(root, "val", task="panoptic"), Dataset(again, "val", task="panoptic")
    assert (before.target(0).semantic == after.target(0).semantic).all()


def test_boxes_go_out_as_boxes(made, tmp_path):
    for to in ("coco", "yolo", "labelme"):
        export(str(made["voc_boxes"][0]), to, tmp_path / to)
        data = Dataset(prepare(str(tmp_path / to), tmp_path / f"{to} back"), task="detection")
        boxes = [np.round(data.target(i).instances.boxes.numpy(), 3).tolist() for i in range(3)]
        assert sorted(map(sorted, boxes)) == sorted(sorted(map(list, s.values())) for s in SCENE.values())


def test_refusals_on_the_way_out(made, tmp_path, segcli):
    assert segcli("prepare", made["coco"][1], "--to", "voc").code == 2
    assert segcli("prepare", made["coco"][1], "--to", "coco", "--split", "train=0.5,val=0.5").code == 2
    assert segcli("prepare", made["coco"][1], "--to", "coco", "--check").code == 2
    result = segcli("prepare", made["semantic"][1], "--to", "yolo", "--out", tmp_path / "x")
    assert (result.code, "no objects" in result.error) == (3, True)
    (tmp_path / "mine").mkdir()
    text(tmp_path / "mine/diary.txt", "dear diary")
    for more in ([], ["--force"]):
        assert segcli("prepare", made["coco"][1], "--to", "yolo", "--out", tmp_path / "mine", *more).code == 3
    assert (tmp_path / "mine/diary.txt").exists()
    assert segcli("prepare", made["coco"][1], "--to", "yolo", "--out", tmp_path / "new").code == 0
    assert segcli("prepare", made["coco"][1], "--to", "yolo", "--out", tmp_path / "new").code == 3
    assert segcli("prepare", made["coco"][1], "--to", "yolo", "--out", tmp_path / "new", "--force").code == 0
    photo(tmp_path / "two/images/a.png")
    photo(tmp_path / "two/images/a.jpg")
    picture(tmp_path / "two/masks/a.png", ids("a", 1, 2))
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(PART)]


def test_exact_outlines():
    """Any mask, holes and parts that touch at corners included, is drawn again from one path."""
    rng = np.random.default_rng(5)
    for share in (0.1, 0.4, 0.6, 0.9):
        for _ in range(40):
            mask = rng.random(rng.integers(3, 30, 2)) < share
            points = shapes.one_polygon(mask)
            assert mask.any() == bool(len(points))
            if len(points):
                assert (shapes.drawn([points.ravel().tolist()], mask.shape, "") == mask).all()


# --- what a format refuses, and asks for --------------------------------------------------------------------------


def prepared_error(path: Path, tmp_path: Path, **more) -> DataError:
    with pytest.raises(DataError) as caught:
        prepare(str(path), tmp_path / "out", **more)
    return caught.value


def test_semantic_values_are_not_guessed(tmp_path):
    FORMATS["semantic"](tmp_path / "s")
    (tmp_path / "s/legend.csv").unlink()
    error = prepared_error(tmp_path / "s", tmp_path)
    assert "0, 4, 9" in str(error)
    assert "legend.csv" in error.hint
    settings = {"classes": {4: "cat", 9: "dog"}, "ignore": [0]}
    assert Dataset(prepare(str(tmp_path / "s"), tmp_path / "by settings", settings=settings)).info.names == [
        "cat",
        "dog",
    ]
    text(tmp_path / "s/legend.csv", "value,name\n4,cat\n")
    assert "the value 0 is not in" in str(prepared_error(tmp_path / "s", tmp_path))
    text(tmp_path / "s/legend.csv", "value,name,kind\n4,cat,stuf\n")
    assert "line 2: no kind is called 'stuf'" in str(prepared_error(tmp_path / "s", tmp_path))


def test_255_is_ignored_and_counted(tmp_path):
    FORMATS["semantic"](tmp_path / "s")
    picture(tmp_path / "s/annotations/training/a.png", ids("a", 4, 255))
    assert "195 pixels of value 255 in 1 images are ignored" in notes(prepare(str(tmp_path / "s"), tmp_path / "out"))


def test_ade20k_reduces_its_labels(tmp_path):
    FORMATS["semantic"](tmp_path / "s")
    (tmp_path / "s/legend.csv").unlink()
    rows = "".join(f"{i}\t0.1\t1\t1\tthing {i}, other name\n" for i in range(1, 11))
    text(tmp_path / "s/objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n" + rows)
    data = Dataset(prepare(str(tmp_path / "s"), tmp_path / "out"), "val", task="semantic")
    assert (data.target(0).semantic.numpy() == ids("c", 3, 8, background=255)).all()
    assert data.info.names[3] == "thing 4"


def test_a_legend_says_whether_colours_are_classes_or_objects(tmp_path):
    FORMATS["masks"](tmp_path / "m")
    legend = (tmp_path / "m/legend.csv").read_text("utf-8")
    text(tmp_path / "m/legend.csv", legend.replace(",object", ",stuff").rstrip() + "\nother,0,0,0,ignore\n")
    data = Dataset(prepare(str(tmp_path / "m"), tmp_path / "classes"), task="semantic")
    assert (data.target(0).semantic.numpy() == ids("a", 0, 1, background=255)).all()
    text(tmp_path / "m/legend.csv", legend.replace(",object", ""))
    assert "the value 0,0,0 is not in" in str(
        prepared_error(tmp_path / "m", tmp_path)
    )  # classes of pixels: all of them
    two = np.zeros((H, W, 3), np.uint8)
    two[2:5, 2:5] = two[10:14, 20:30] = (255, 0, 0)
    picture(tmp_path / "m/train/masks/a.png", two)
    text(tmp_path / "m/legend.csv", legend.replace(",object", ",regions"))
    assert len(masks_of(prepare(str(tmp_path / "m"), tmp_path / "regions"))["a"]) == 2
    text(tmp_path / "m/legend.csv", legend.replace("255,0,0", "250,0,0"))
    assert "the value 255,0,0 is not in" in str(prepared_error(tmp_path / "m", tmp_path))


@pytest.mark.parametrize(
    ("name", "file", "change", "said"),
    [
        ("labelme", "train/a.json", ('"label": "dog"', '"label": "dgo"'), "'dgo' is not in"),
        ("labelme", "train/a.json", ('"polygon"', '"ellipsoid"'), "shapes.1 (dog): shapes of type 'ellipsoid'"),
        ("labelme", "train/a.json", ('"points": [[', '"points": [["x",'), "shapes.0.points.0"),
        ("via", "train/via_region_data.json", ('"x": 2', '"z": 2'), "region 0: the rect has no x"),
        ("via", "train/via_region_data.json", ('{"class": "cat"}', '{"class": ""}'), "names no class"),
        ("yolo", "labels/train/a.txt", ("0 0.0625", "5 0.0625"), "a.txt, line 1: class 5"),
        ("yolo", "labels/train/a.txt", ("0 0.0625", "0 62.5"), "is not a part of the image's size"),
        ("yolo", "labels/train/a.txt", ("0 0.0625", "0"), "8 numbers are neither"),
        ("yolo", "data.yaml", ("names:", "kpt_shape: [17, 4]\nnames:"), "kpt_shape"),
        ("yolo", "data.yaml", ("names:", "x: !!python/object/apply:os.system [echo]\nnames:"), "not valid YAML"),
        ("voc_boxes", "train/a.xml", ("<annotation>", "<!DOCTYPE x [<!ENTITY y 'z'>]><annotation>"), "entities"),
        ("voc_boxes", "train/a.xml", ("<xmin>3", "<xmin>300"), "object 1 (cat): the box"),
        ("cityscapes", POLYGONS, ('"car"', '"cra"'), "'cra' is no label"),
        ("cityscapes", POLYGONS, ('"imgHeight": 24', '"imgHeight": 25'), "32 x 25"),
        ("panoptic", "annotations/panoptic_train.json", ('"id": 300', '"id": 301'), "segment 300 is in the PNG"),
        ("coco", "annotations/instances_train.json", ('"bbox": [2', '"bbox": [null'), "bbox"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(tmp_path, name, file, change, said):
    FORMATS[name](tmp_path / "source")
    content = (tmp_path / "source" / file).read_text("utf-8")
    assert change[0] in content
    text(tmp_path / "source" / file, content.replace(*change, 1))
    if said == "'dgo' is not in":
        text(tmp_path / "source/labels.txt", "__ignore__\n_background_\ncat\ndog\n")
    error = prepared_error(tmp_path / "source", tmp_path)
    assert said in str(error)
    assert Path(file).name.split(".")[0] in str(error) or said == "bbox"
    assert not (tmp_path / "out").exists()


def test_a_folder_called_as_the_description(tmp_path):
    FORMATS["yolo"](tmp_path / "source")
    (tmp_path / "source/data.yaml").unlink()
    (tmp_path / "source/data.yaml").mkdir()
    assert "data.yaml: names no classes" in str(prepared_error(tmp_path / "source", tmp_path))


def test_a_box_of_labelled_circles(tmp_path):
    """Rectangles, circles and ellipses become outlines of their area; polylines are closed, and counted."""
    photo(tmp_path / "v/a.png")
    region = {"region_attributes": {"kind": "x"}}
    names = [
        {"name": "circle", "cx": 12, "cy": 12, "r": 8},
        {"name": "ellipse", "cx": 16, "cy": 12, "rx": 10, "ry": 5, "theta": 0.5},
        {"name": "polyline", "all_points_x": [2, 20, 20], "all_points_y": [2, 2, 20]},
    ]
    regions = [{**region, "shape_attributes": shape} for shape in names]
    text(tmp_path / "v/via.json", {"a.png1": {"filename": "a.png", "size": 1, "regions": regions}})
    photo(tmp_path / "v/b.png")
    content = json.loads((tmp_path / "v/via.json").read_text("utf-8"))
    text(tmp_path / "v/via.json", {**content, "b.png1": {"filename": "b.png", "size": 1, "regions": {}}})
    root = prepare(str(tmp_path / "v"), tmp_path / "out")
    areas = [int(mask.sum()) for _, mask in masks_of(root)["a"]]
    assert areas == pytest.approx([np.pi * 64, np.pi * 50, 162], rel=0.06)
    assert "1 polylines are closed" in notes(root)


def test_images_inside_labelme_files(tmp_path):
    FORMATS["labelme"](tmp_path / "l")
    for split, name in (("train", "a"), ("train", "b")):
        file, image = tmp_path / "l" / split / f"{name}.json", tmp_path / "l" / split / f"{name}.png"
        stored = base64.b64encode(image.read_bytes()).decode()
        text(file, json.loads(file.read_text("utf-8")) | {"imageData": stored})
        image.unlink()
    root = prepare(str(tmp_path / "l"), tmp_path / "out")
    assert Dataset(root, "train").read(0).image.shape == (H, W, 3)
    assert "taken out of a.json" in notes(root)


def test_a_labelme_file_of_an_impossible_size(tmp_path):
    FORMATS["labelme"](tmp_path / "l")
    file = tmp_path / "l/train/a.json"
    content = json.loads(file.read_text("utf-8"))
    shapes = [{**content["shapes"][0], "shape_type": "mask"}]
    text(file, {**content, "shapes": shapes, "imageHeight": 2**40})
    assert "says that the image a.png has 32 x 1099511627776 pixels" in str(prepared_error(tmp_path / "l", tmp_path))


def test_a_folder_of_datasets_names_them(tmp_path):
    FORMATS["voc"](tmp_path / "all/one")
    FORMATS["camvid"](tmp_path / "all/two")
    assert "one (voc), two (camvid)" in str(prepared_error(tmp_path / "all", tmp_path))


def test_yolo_without_yaml(tmp_path):
    FORMATS["yolo"](tmp_path / "y")
    (tmp_path / "y/data.yaml").unlink()
    assert "what the classes are called" in str(prepared_error(tmp_path / "y", tmp_path))
    text(tmp_path / "y/classes.txt", "cat\ndog\n")
    assert Dataset(prepare(str(tmp_path / "y"), tmp_path / "out"), "val").info.names == ["cat", "dog"]


def test_yolo_with_a_name_that_no_disk_takes(tmp_path):
    FORMATS["yolo"](tmp_path / "y")
    text(tmp_path / "y/data.yaml", f"train: {'x' * 400}\nnames: [cat, dog]\n")
    assert "data.yaml: train: there is no xxx" in str(prepared_error(tmp_path / "y", tmp_path))


def test_formats_that_are_no_converter(tmp_path):
    FORMATS["voc"](tmp_path / "v")
    with pytest.raises(UsageError, match="labels"):
        prepare(str(tmp_path / "v"), tmp_path / "out", settings={"labels": "polygons"})


def test_palette_files_are_read_as_indices(made):
    with Image.open(made["voc"][0] / "SegmentationObject/a.png") as image:
        assert image.mode == "P"


def test_masks_go_out_to_labelme_as_polygons_that_can_be_edited(tmp_path):
    """A disc with a hole, and two parts: few points, nearly the same pixels."""
    y, x = np.mgrid[:120, :160]
    disc = np.hypot(x - 50, y - 60) < 40
    disc &= np.hypot(x - 50, y - 60) > 12
    parts = np.zeros((120, 160), bool)
    parts[10:60, 100:120] = parts[70:100, 110:150] = True
    Image.fromarray(np.zeros((120, 160, 3), np.uint8)).save(tmp_path / "a.png")
    annotations = []
    for number, (mask, crowd) in enumerate(((disc, 0), (parts, 0), (parts, 1)), 1):
        found = shapes.of_pixels(mask)
        annotations.append({**found, "id": number, "image_id": 1, "iscrowd": crowd})
    image = {"id": 1, "file_name": "a.png", "width": 160, "height": 120}
    content = {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    root = prepare(tmp_path / "labels.json", tmp_path / "data", split="train=1")
    export(str(root), "labelme", tmp_path / "out")
    drawn = json.loads((tmp_path / "out/train/a.json").read_text())["shapes"]
    assert [shape["shape_type"] for shape in drawn] == ["polygon", "polygon", "polygon", "mask"]
    assert [shape["group_id"] for shape in drawn] == [None, 1, 1, None]
    assert len(drawn[0]["points"]) < 80
    back = masks_of(prepare(tmp_path / "out", tmp_path / "back", split="train=1")).popitem()[1]
    for (_, mask), wanted in zip(back, (disc, parts), strict=False):
        assert (mask & wanted).sum() / (mask | wanted).sum() >= 0.99


@pytest.mark.parametrize("to", ["yolo", "labelme", "cvat"])
def test_masks_without_a_pixel_are_counted_on_their_way_out(tmp_path, to):
    photo(tmp_path / "a.png")
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
    empty = {**box, "id": 7, "segmentation": {"size": [H, W], "counts": [H * W]}}
    image = {"id": 1, "file_name": "a.png", "width": W, "height": H}
    content = {"images": [image], "annotations": [{**box, "id": 1}, empty], "categories": [{"id": 1, "name": "cell"}]}
    text(tmp_path / "labels.json", content)
    root = prepare(tmp_path / "labels.json", tmp_path / "data", split="train=1")
    assert "masks without a pixel: 1 left out (annotations 7)" in export(str(root), to, tmp_path / "out")["notes"]
