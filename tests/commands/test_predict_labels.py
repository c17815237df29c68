"""Predictions as labels: what each format's files give when they are prepared again, tables and cut-outs."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Bright, photo
from PIL import Image
from pycocotools import mask as coco_mask

from segcli.commands.predict import labels, pictures
from segcli.commands.predict.files import predict_files
from segcli.commands.predict.tables import read_pixel_size, write_tables
from segcli.commands.predictor import Predictor
from segcli.commands.prepare import prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.annotations import encode
from segcli.sources.shapes import joined, simplified
from segcli.types import Instances, Prediction, encode_masks, mask_boxes

SIZE = (256, 256)  # half pixels in parts of it have nine decimals


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks [N,H,W] and labels [N]: a ring, two that touch, one in two parts, one of few pixels, ellipses."""
    rng, masks = np.random.default_rng(seed), []
    ring = cv2.circle(np.zeros(SIZE, np.uint8), (30, 30), 20, 1, 7)
    touching = [np.zeros(SIZE, np.uint8) for _ in range(2)]
    touching[0][50:70, 10:30] = touching[1][50:70, 30:45] = 1
    apart = cv2.ellipse(np.zeros(SIZE, np.uint8), (80, 15), (12, 7), 30.0, 0, 360, 1, -1)
    apart[60:64, 100:110] = 1
    few = np.zeros(SIZE, np.uint8)
    few[80:82, 60:63] = 1
    few[82, 62] = 1
    masks += [ring, *touching, apart, few]
    for _ in range(14):
        place = tuple(int(v) for v in rng.integers(20, 80, 2))
        axes = tuple(int(v) for v in rng.integers(3, 18, 2))
        masks.append(cv2.ellipse(np.zeros(SIZE, np.uint8), place, axes, float(rng.integers(180)), 0, 360, 1, -1))
    return np.array(masks).astype(bool), rng.integers(0, 2, len(masks))


def scene_box(mask: np.ndarray) -> tuple[int, int]:
    x1, y1, x2, y2 = mask_boxes(mask[None])[0].astype(int).tolist()
    return y2 - y1, x2 - x1


class Perfect(Bright):
    """Predicts the scene of every image's id."""

    def one(self, batch, i):
        masks, found = scene(batch.image_ids[i])
        scores = torch.linspace(0.99, 0.6, len(masks))
        objects = Instances(
            torch.from_numpy(mask_boxes(masks)), torch.from_numpy(found), scores, masks=encode_masks(masks)
        )
        return Prediction(batch.image_ids[i], SIZE, objects)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Two images with every kind of label beside them."""
    root = tmp_path_factory.mktemp("predicted")
    for name in ("a", "b 2"):
        (root / "in").mkdir(exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(root / "in" / f"{name}.png")
    every = [*labels.FOLDERS, "csv"]
    report = predict_files(
        Predictor(Perfect(), RECIPE, INFO), [root / "in"], root / "out", save=every, pixel_size="0.5um", progress=False
    )
    assert (report.images, report.detections) == (2, 38)
    return root / "out"


@pytest.mark.parametrize("kind", sorted(labels.FORMATS))
def test_labels_are_read_back_as_they_were_predicted(predicted, tmp_path, kind):
    root = prepare(predicted / kind, tmp_path / "again", split="train=1", samples=False)
    data = json.loads((root / "annotations" / "train.json").read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in data["categories"]}
    assert [image["file_name"].split("/")[-1] for image in data["images"]] == ["a.png", "b 2.png"]
    for position, image in enumerate(data["images"], 1):
        masks, found = scene(position)
        own = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        back = [encode(a["segmentation"], SIZE) for a in own]
        iou = coco_mask.iou(back, encode_masks(masks), [0] * len(masks))
        assert len(own) == len(masks)
        assert iou.max(0).min() >= 0.98
        best = iou.argmax(0)
        assert [names[own[k]["category_id"]] for k in best] == [INFO.names[label] for label in found]
        assert iou[best[0], 0] > 0.98, "the hole of the ring"


def test_scores_and_source_ids_go_along(predicted):
    shapes = json.loads((predicted / "labelme" / "train" / "a.json").read_text(encoding="utf-8"))["shapes"]
    assert shapes[0]["score"] == 0.99
    assert shapes[0]["description"] == "score 0.99"
    assert {shape["shape_type"] for shape in shapes} == {"polygon"}, "editable"
    assert '<attribute name="score">0.9900</attribute>' in (predicted / "cvat" / "annotations.xml").read_text("utf-8")
    coco = json.loads((predicted / "coco_annotations" / "annotations" / "instances_train.json").read_text("utf-8"))
    assert {a["category_id"] for a in coco["annotations"]} == {17, 3}
    assert coco["annotations"][0]["score"] == 0.99


def test_tables_count_objects_and_areas(predicted):
    rows = list(csv.DictReader((predicted / "objects.csv").open(encoding="utf-8-sig")))
    masks, _ = scene(1)
    assert len(rows) == 38
    assert float(rows[0]["area_pixels"]) == masks[0].sum()
    assert float(rows[0]["area_um2"]) == masks[0].sum() / 4
    counts = list(csv.DictReader((predicted / "counts.csv").open(encoding="utf-8-sig")))
    assert [row["class"] for row in counts] == INFO.names * 2
    assert sum(int(row["objects"]) for row in counts) == 38
    covered = max(float(row["share_of_image"]) for row in counts)
    assert 0 < covered <= 1, "objects lie on one another"


@pytest.mark.parametrize(
    ("text", "side"),
    [("0.25um", (0.25, "um")), ("0.25 µm", (0.25, "um")), ("2.5e-4", (2.5e-4, "mm")), ("0.1mm", (0.1, "mm"))],
)
def test_a_pixel_size_has_a_unit_or_is_in_millimetres(text, side):
    assert read_pixel_size(text) == side


def test_the_share_of_overlapping_boxes_counts_pixels_once(tmp_path):
    boxes = [{"category_id": 17, "bbox": [0, 0, 4, 4]}, {"category_id": 17, "bbox": [2, 0, 4, 4]}]
    entry = {"given": "a.png", "size": (8, 8), "results": boxes}
    write_tables(lambda: iter([entry]), INFO, tmp_path, None)
    row = next(csv.DictReader((tmp_path / "counts.csv").open(encoding="utf-8-sig")))
    assert (row["area_pixels"], row["share_of_image"]) == ("32", "0.3750")


def test_cut_outs_are_transparent_outside_and_geojson_has_holes(predicted):
    masks, _ = scene(1)
    cut = np.asarray(Image.open(predicted / "crops" / "a" / "1.png"))
    assert cut.shape == (*scene_box(masks[0]), 4)
    assert (cut[:, :, :3] == 90).all()
    assert abs(int((cut[:, :, 3] > 0).sum()) - int(masks[0].sum())) <= 0.02 * masks[0].sum()
    found = json.loads((predicted / "geojson" / "a.geojson").read_text(encoding="utf-8"))["features"]
    assert [len(f["geometry"]["coordinates"]) for f in found[:2]] == [2, 1], "an outline and a hole"
    assert found[3]["geometry"]["type"] == "MultiPolygon"
    assert found[0]["properties"]["classification"]["name"] in INFO.names
    assert found[0]["geometry"]["coordinates"][0][0] == found[0]["geometry"]["coordinates"][0][-1]


def test_polygons_of_few_points_stay_close():
    masks, _ = scene(5)
    for mask in masks:
        parts = [joined(part).ravel().tolist() for part in simplified(mask)]
        assert coco_mask.iou([encode(parts, SIZE)], encode_masks(mask[None]), [0])[0, 0] >= 0.99
    big = cv2.circle(np.zeros((400, 400), np.uint8), (200, 200), 150, 1, -1).astype(bool)
    assert sum(len(loop) for part in simplified(big) for loop in part) < 80
    assert simplified(np.zeros((5, 5), bool)) == []


@pytest.mark.parametrize("kind", ["semantic", "panoptic", "detection"])
def test_maps_and_boxes_are_labels_too(tmp_path, kind):
    photo(tmp_path / "a.png")
    save = ["labelme", "csv", "crops"]
    predict_files(
        Predictor(Bright(kind), RECIPE, INFO), [tmp_path / "a.png"], tmp_path / "o", save=save, progress=False
    )
    shapes = json.loads((tmp_path / "o" / "labelme" / "train" / "a.json").read_text(encoding="utf-8"))["shapes"]
    expected = {"semantic": ["polygon"] * 2, "panoptic": ["polygon"], "detection": ["rectangle"]}[kind]
    assert [shape["shape_type"] for shape in shapes] == expected
    assert len(list((tmp_path / "o" / "crops" / "a").iterdir())) == len(expected)


def test_corrected_labels_are_never_written_over(tmp_path):
    photo(tmp_path / "a.png")
    run = lambda: predict_files(
        Predictor(Bright(), RECIPE, INFO), [tmp_path / "a.png"], tmp_path / "o", save=["labelme"], progress=False
    )
    run()
    run()
    file = tmp_path / "o" / "labelme" / "train" / "a.json"
    file.write_text(file.read_text(encoding="utf-8").replace("고양이", "dog"), encoding="utf-8")
    with pytest.raises(DataError, match="changed since"):
        run()


def test_names_that_no_annotation_tool_would_find_are_refused_before_any_work(tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "photo.dat").write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(DataError, match=r"photo\.dat: is no name of an image"):
        predict_files(
            Predictor(Bright(), RECIPE, INFO), [tmp_path / "photo.dat"], tmp_path / "o", save=["yolo"], progress=False
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("save", "side"), [(["coco"], "0.5"), (["csv"], "0"), (["csv"], "-1mm"), (["csv"], "nan"), (["csv"], "1km")]
)
def test_a_pixel_size_that_no_table_would_show_is_refused(tmp_path, save, side):
    photo(tmp_path / "a.png")
    with pytest.raises(UsageError, match="--pixel-size"):
        predict_files(
            Predictor(Bright(), RECIPE, INFO), [tmp_path / "a.png"], tmp_path / "o", save=save, pixel_size=side
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("kind", ["instance", "panoptic"])
def test_more_objects_than_a_mask_file_can_number_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(pictures, "MOST_NUMBERS", 1)
    photo(tmp_path / "a.png")
    toy = Predictor(Bright(kind), RECIPE, INFO)
    with pytest.raises(UsageError, match="--save png numbers 1"):
        predict_files(toy, [tmp_path / "a.png"], tmp_path / "o", score=0.1, save=["png"], progress=False)


def test_meshes_of_a_model_without_any_are_refused(tmp_path):
    photo(tmp_path / "a.png")
    with pytest.raises(UsageError, match="--save obj: this model gives no meshes"):
        predict_files(Predictor(Bright(), RECIPE, INFO), [tmp_path / "a.png"], tmp_path / "o", save=["obj", "csv"])
