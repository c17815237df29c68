"""GeoJSON, Supervisely and Darwin: holes, pixels, what is no object, and what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scene import H, W, photo, text
from tool_exports import EXPORTS, deflated

from segcli.commands.predict import geojson
from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.core.files import read_json
from segcli.data.annotations import encode
from segcli.data.dataset import Dataset


def read(source: Path, out: Path, image: str = "a.png", **settings) -> tuple[list[tuple[str, np.ndarray, dict]], str]:
    """(class, mask, annotation) of the objects of one image, and all notes."""
    root = prepare(str(source), out, settings=settings or None)
    for split in Dataset(root, task="detection").info.splits:
        data = Dataset(root, split, task="detection")
        for i, name in enumerate(data.file_names):
            if Path(name).name == image:
                target = data.target(i).instances
                names = [data.info.names[k] for k in target.labels.tolist()]
                listed = data.annotations(i)
                masks = [
                    coco_mask.decode(encode(a["segmentation"], (H, W))).astype(bool)
                    if a.get("segmentation")
                    else np.zeros((0, 0), bool)
                    for a in listed
                ]
                found = list(zip(names, masks, listed, strict=True))
    return found, " | ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])


def refused(source: Path, out: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare(str(source), out)
    return str(caught.value)


def ring(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]]


def feature(coordinates, kind: str = "Polygon", plane: dict | None = None, **properties) -> dict:
    geometry = {"type": kind, "coordinates": coordinates, **({"plane": plane} if plane else {})}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def slides(root: Path, *features: dict, **more) -> Path:
    for name in "ab":
        photo(root / "images" / f"{name}.png")
        text(root / "labels" / f"{name}.png.geojson", {"type": "FeatureCollection", "features": [*features], **more})
    return root


def test_holes_children_and_classes_of_several_names(tmp_path):
    child = feature([ring(20, 2, 28, 8)], objectType="detection", classification={"names": ["Tumor", "Positive"]})
    parent = feature([ring(2, 2, 16, 16), ring(5, 5, 9, 9)], classification={"name": "Tissue"}, childObjects=[child])
    found, _ = read(slides(tmp_path / "in", parent), tmp_path / "out")
    masks = {name: mask for name, mask, _ in found}
    assert {*masks} == {"Tissue", "Tumor: Positive"}
    want = np.zeros((H, W), bool)
    want[2:16, 2:16] = True
    want[5:9, 5:9] = False
    assert (masks["Tissue"] == want).all()
    assert masks["Tumor: Positive"].sum() == 48


def test_what_is_no_object_is_counted(tmp_path):
    plain = {"classification": {"name": "x"}}
    others = [
        feature([ring(2, 2, 9, 9)], objectType="annotation"),
        feature([ring(2, 2, 9, 9)], plane={"c": -1, "z": 2, "t": 0}, **plain),
        feature([ring(2, 2, 9, 9)], objectType="tmaCore", **plain),
        feature([[1, 1], [2, 2]], "LineString", **plain),
    ]
    found, notes = read(slides(tmp_path / "in", feature([ring(1, 1, 9, 9)], **plain), *others), tmp_path / "out")
    assert len(found) == 1
    for what in ("objects without a class", "objects in other planes", "cores of an array", "of the kind LineString"):
        assert f"1 {what}" in notes or f"1 geometries {what}" in notes


def test_classes_by_property_and_without_any(tmp_path):
    found, notes = read(slides(tmp_path / "a", feature([ring(1, 1, 9, 9)], label="roof")), tmp_path / "out_a")
    assert found[0][0] == "roof"
    assert "its property 'label'" in notes
    assert read(slides(tmp_path / "b", feature([ring(1, 1, 9, 9)])), tmp_path / "out_b")[0][0][0] == "object"
    named = slides(tmp_path / "c", feature([ring(1, 1, 9, 9)], kind_of="oak"))
    assert read(named, tmp_path / "out_c", attribute="kind_of")[0][0][0] == "oak"


def test_what_predict_writes_comes_back(tmp_path):
    """A mask with a hole, as `--save geojson` writes it."""

    class One:
        size = (H, W)
        record = {"file_name": "a.png"}

        def crop(self, rle):
            return 0, 0, mask

        def claim(self, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

    rows, columns = np.mgrid[:H, :W]
    mask = np.hypot(rows - 12, columns - 15) < 9
    mask[9:14, 12:18] = False
    one = One()
    one.annotations = [{"category_id": 1, "segmentation": {"size": [H, W], "counts": [H * W]}, "score": 0.9}]
    geojson.export(one, {1: "ring"}, tmp_path / "in")
    for name in "ab":
        photo(tmp_path / f"in/{name}.png")
    text(tmp_path / "in/b.geojson", {"type": "FeatureCollection", "features": []})
    found, _ = read(tmp_path / "in", tmp_path / "out")
    again = found[0][1]
    assert (again & mask).sum() / (again | mask).sum() >= 0.99


def test_broken_geojson(tmp_path):
    said = refused(slides(tmp_path / "a", feature([[[1, 1], [5, 5], [1, 1]]], label="x")), tmp_path / "out")
    assert "a.png.geojson: feature 0: a polygon has no outline, or one of fewer than three points" in said
    said = refused(slides(tmp_path / "b", feature([ring(1, 1, 9, 9)]), crs={"name": "EPSG:4326"}), tmp_path / "out")
    assert "coordinates of a map" in said
    for name, points in (("c", [["x", 1], [5, 5], [1, 1]]), ("d", [[1], [5], [7], [9]])):
        said = refused(slides(tmp_path / name, feature([points], label="x")), tmp_path / "out")
        assert "feature 0: coordinates" in said
    source = slides(tmp_path / "e", feature([ring(1, 1, 9, 9)]))
    file = source / "labels/a.png.geojson"
    text(file, file.read_text("utf-8").replace('"features"', '"figures"'))
    assert "a.png.geojson: features is no list" in refused(source, tmp_path / "out")


def test_what_belongs_together_with_nothing_is_said(tmp_path):
    source = slides(tmp_path / "in", feature([ring(1, 1, 9, 9)]))
    photo(source / "images/c.png")
    text(source / "labels/about.json", {"by": "me"})
    notes = read(source, tmp_path / "out")[1]
    assert "1 images have no GeoJSON and are left out: c.png" in notes
    assert "1 json files are no GeoJSON and are left aside: about.json" in notes
    EXPORTS["darwin"](tmp_path / "d")
    photo(tmp_path / "d/images/farm/z.png")
    text(tmp_path / "d/about.json", {"by": "me"})
    notes = read(tmp_path / "d", tmp_path / "out_d")[1]
    assert "1 images have no json and are left out: z.png" in notes
    assert "1 json files are no Darwin JSON and are left aside: about.json" in notes
    for folder, name in ((source, "labels/b.png.geojson"), (tmp_path / "d", "b.json")):  # cut off before its keys
        text(folder / name, (folder / name).read_text("utf-8")[:20])
        assert f"{name}: not valid JSON" in refused(folder, tmp_path / "none")


def project(root: Path, *objects: dict) -> Path:
    for name in "ab":
        photo(root / "ds" / "img" / f"{name}.png")
        text(root / "ds/ann" / f"{name}.png.json", {"size": {"height": H, "width": W}, "objects": [*objects]})
    text(root / "meta.json", {"classes": [{"title": "cat"}, {"title": "dog"}], "tags": []})
    return root


def figure(kind: str, exterior: list, *holes: list, name: str = "cat") -> dict:
    return {"classTitle": name, "geometryType": kind, "points": {"exterior": exterior, "interior": [*holes]}}


def test_pixels_of_supervisely(tmp_path):
    """Whole coordinates name pixels: what lies on a border is inside."""
    mask = np.zeros((4, 5), bool)
    mask[1:, 2:] = True
    bitmap = {"classTitle": "dog", "geometryType": "bitmap", "bitmap": {"data": deflated(mask), "origin": [20, 10]}}
    line = figure("line", [[1, 1], [5, 5]])
    parts = {"classTitle": "dog", "geometryType": "multipolygon"}
    parts["parts"] = [{"exterior": ring(1, 1, 5, 5)[:-1]}, {"exterior": ring(8, 1, 12, 5)[:-1], "interior": []}]
    polygon = figure("polygon", ring(2, 2, 16, 16)[:-1], ring(5, 5, 10, 10)[:-1])
    source = project(tmp_path / "in", figure("rectangle", [[9, 8], [2, 3]]), polygon, bitmap, parts, line)
    found, notes = read(source, tmp_path / "out")
    assert found[0][2]["bbox"] == [2, 3, 8, 6]
    assert "segmentation" not in found[0][2]
    assert (found[1][2]["bbox"], found[1][2]["area"]) == ([2, 2, 15, 15], 15 * 15 - 6 * 6)
    assert found[2][2]["bbox"] == [22, 11, 3, 3]
    assert (found[3][2]["bbox"], found[3][2]["area"]) == ([1, 1, 12, 5], 50)
    assert [name for name, _, _ in found] == ["cat", "cat", "dog", "dog"]
    assert "1 objects of the kind line are left out: a.png" in notes


def test_continuous_coordinates_of_supervisely(tmp_path):
    objects = [figure("rectangle", [[2, 3], [9, 8]]), figure("polygon", [[1.5, 1], [9, 1], [9, 7]])]
    assert read(project(tmp_path / "in", *objects), tmp_path / "out")[0][0][2]["bbox"] == [2, 3, 7, 5]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (figure("rectangle", [[1, 1], [5, 5]], name="cow"), "object 0 (cow, rectangle): its class is not in meta.json"),
        (figure("rectangle", [[1, 1]]), "object 0 (cat, rectangle): is no bitmap, polygon"),
        (figure("polygon", [[1, 1], [5, 5]]), "a polygon of fewer than three points"),
        (
            {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"data": "eJw!", "origin": [0, 0]}},
            "its bitmap can't be read",
        ),
    ],
)
def test_broken_objects_of_supervisely(tmp_path, broken, said):
    message = refused(project(tmp_path / "in", broken), tmp_path / "out")
    assert said in message
    assert "a.png.json" in message


def exported(root: Path, *annotations: dict, kind: str = "image", slots: int = 1) -> Path:
    EXPORTS["darwin"](root)
    content = read_json(root / "a.json")
    content["annotations"] = [*annotations]
    content["item"]["slots"] = [{**content["item"]["slots"][0], "type": kind}] * slots
    text(root / "a.json", content)
    return root


def path_of(*points: tuple[float, float]) -> list[dict]:
    return [{"x": x, "y": y} for x, y in points]


def test_shapes_of_darwin(tmp_path):
    outer, hole = path_of((2, 2), (16, 2), (16, 16), (2, 16)), path_of((5, 5), (9, 5), (9, 9), (5, 9))
    found, notes = read(
        exported(
            tmp_path / "in",
            {"name": "cat", "polygon": {"paths": [outer, hole]}},
            {"name": "dog", "bounding_box": {"x": 1, "y": 2, "w": 5, "h": 6}},
            {"name": "dog", "ellipse": {"center": {"x": 20, "y": 10}, "radius": {"x": 4, "y": 4}, "angle": 0.2}},
            {"name": "dog", "mask": {}, "id": "nowhere"},
            {"name": "nose", "keypoint": {"x": 1, "y": 1}, "properties": []},
        ),
        tmp_path / "out",
    )
    assert found[0][1].sum() == 14 * 14 - 16
    assert found[1][2]["bbox"] == [1, 2, 5, 6]
    assert found[2][2]["bbox"] == pytest.approx([16, 6, 8, 8], abs=1)
    assert len(found) == 3
    assert "1 annotations of the kind keypoint are left out" in notes
    assert "1 masks have no pixel" in notes


def test_what_darwin_refuses(tmp_path):
    turned = {"name": "x", "ellipse": {"center": {"x": 9, "y": 9}, "radius": {"x": 4, "y": 2}, "angle": 30}}
    assert "annotation 0 (x, ellipse): is turned" in refused(exported(tmp_path / "a", turned), tmp_path / "out")
    assert "its item is a video" in refused(exported(tmp_path / "b", kind="video"), tmp_path / "out")
    assert "has 2 slots" in refused(exported(tmp_path / "c", slots=2), tmp_path / "out")
    layer = {"dense_rle": [0, 5], "mask_annotation_ids_mapping": {}}
    said = refused(exported(tmp_path / "d", {"name": "l", "raster_layer": layer}), tmp_path / "out")
    assert "its runs have 5 pixels, and the image 32 x 24" in said
    layer["dense_rle"] = [0, 10**30]
    said = refused(exported(tmp_path / "e", {"name": "l", "raster_layer": layer}), tmp_path / "out")
    assert "a.json: annotations.0.raster_layer.dense_rle.1" in said
