"""Predicting files: what is written, in which order, under which names, and what happens to bad input."""

import dataclasses
import json
import threading

import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Bright, photo
from PIL import Image
from pycocotools.coco import COCO

from segcli.commands.predict import files, reading
from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.data import image as data_image
from segcli.data import inputs
from segcli.data.inputs import find_images, output_names, subfolders, with_subfolders
from segcli.engine.object_size import too_small
from segcli.fields.keypoints import Keypoints
from segcli.predictions.coco_results import coco_annotation, coco_categories, coco_results
from segcli.sources import unread
from segcli.types import Instances, Prediction


@pytest.fixture
def predictor():
    return Predictor(Bright(), RECIPE, INFO)


def test_a_folder_gives_overlays_results_and_numbered_masks(tmp_path, predictor):
    for k in range(1, 12):
        photo(tmp_path / "in" / f"사진 {k} 🚲.png", 40 + k, (k, k + 10))
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    photo(tmp_path / "in" / "deeper" / "x.png")
    report = predict_files(predictor, [tmp_path / "in"], tmp_path / "out", progress=False)
    assert (report.images, report.failed, report.detections) == (11, [], 11)
    data = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [i["output"] for i in data["images"]] == [f"사진 {k} 🚲" for k in range(1, 12)], "natural order"
    assert data["images"][4]["height"] == 45
    assert [a["image_id"] for a in data["annotations"]] == [i["id"] for i in data["images"]]
    assert {a["category_id"] for a in data["annotations"]} == {17}, "source ids"
    assert data["categories"][0] == {"id": 17, "name": "고양이", "isthing": 1}
    name = data["images"][4]["output"]
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
    assert mask.dtype == np.uint16
    assert mask.shape == (45, 53)
    assert mask[10, 10] == 1
    assert mask[2, 2] == 0
    legend = json.loads((tmp_path / "out" / "masks" / "legend.json").read_text(encoding="utf-8"))
    assert legend[f"{name}.png"] == {"1": {"label": "고양이", "score": 0.9}}
    assert len(list((tmp_path / "out" / "overlays").glob("*.jpg"))) == 11
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / f"{name}.jpg")).astype(int)
    assert min(overlay.shape[:2]) >= 400, "small images are enlarged"
    assert np.ptp(overlay, axis=2).max() > 60, "something is drawn in colour on the grey image"
    assert predictor.model.batches == [3, 3, 3, 2]
    assert predictor.model.threads == {"MainThread"}
    assert not list((tmp_path / "out").rglob(".*")), "no temporary file is left"


def test_predictions_are_a_coco_file_for_cocos_own_library(tmp_path, predictor, capsys):
    for k in range(3):
        photo(tmp_path / "in" / f"{k}.png", 40 + k, (k, k + 10))
    (tmp_path / "in" / "1.png").write_text("no image: its id stays free")
    predict_files(predictor, [tmp_path / "in"], tmp_path / "out", score=0.3, progress=False)
    coco = COCO(tmp_path / "out" / "predictions.json")
    assert sorted(coco.anns) == [1, 2, 3, 4]
    assert coco.getCatIds(catNms=["고양이"]) == [17]
    first = coco.loadAnns(coco.getAnnIds(imgIds=[3], catIds=[17], iscrowd=False))[0]
    assert coco.annToMask(first).shape == (42, 50)
    assert coco.annToMask(first).sum() == first["area"] > 0
    assert coco.loadImgs([3])[0]["file_name"].endswith("2.png")
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"]
    assert len(coco.loadRes(results).anns) == 4, "they are results of a detector as well"


def test_boxes_and_keypoints_are_a_coco_file_too(capsys):
    info = DatasetInfo("p", (Category("person", 1, keypoints=("a", "b"), skeleton=((0, 1),)),), {})
    points = Keypoints(torch.tensor([[[1.0, 2.0, 0.9], [3.0, 4.0, 0.8]]]))
    found = Instances(torch.tensor([[1.0, 2.0, 5.0, 8.0]]), torch.tensor([0]), torch.tensor([0.7]))
    found = dataclasses.replace(found, fields={"keypoints": points})
    entries = [coco_annotation(e, 7) for e in coco_results(Prediction(1, (9, 9), found), info)]
    assert (entries[0]["id"], entries[0]["area"], entries[0]["num_keypoints"]) == (7, 24.0, 2)
    assert coco_categories(info)[0]["skeleton"] == [[1, 2]]


def test_a_lower_score_lets_more_through_and_better_ones_lie_on_top(tmp_path, predictor):
    photo(tmp_path / "a.png", 40, (0, 10))
    report = predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", score=0.3, progress=False)
    assert report.detections == 2
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))
    assert mask[5, 5] == 1
    assert mask[15, 15] == 2


def test_unreadable_images_are_reported_and_skipped(tmp_path, predictor):
    for k in range(8):
        photo(tmp_path / "in" / f"{k}.png")
    (tmp_path / "in" / "3.png").write_bytes(b"")
    (tmp_path / "in" / "5.png").write_bytes((tmp_path / "in" / "4.png").read_bytes()[:60])
    (tmp_path / "in" / "8.png").write_text("hello")
    (tmp_path / "named.txt").write_text("hello")
    report = predict_files(predictor, [tmp_path / "in", tmp_path / "named.txt"], tmp_path / "out", progress=False)
    assert report.images == 6
    assert [p.name for p, _ in report.failed] == ["3.png", "5.png", "8.png", "named.txt"]
    assert "empty" in report.failed[0][1]
    data = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [i["output"] for i in data["images"]] == ["0", "1", "2", "4", "6", "7"]
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 6


def test_images_of_more_bits_than_the_model_was_told_of_are_reported(tmp_path):
    rng = np.random.default_rng(0)
    night = rng.integers(0, 40, (40, 40)).astype(np.uint8)
    for name, values in {
        "12 bits": rng.integers(0, 2**12, (40, 40)),
        "14 bits": rng.integers(0, 2**14, (40, 40)),
        "reflectance": rng.integers(200, 10_000, (40, 40)),
        "one hot pixel": np.where(np.arange(1600).reshape(40, 40) == 7, 65535, rng.integers(0, 2**12, (40, 40))),
        "16 bits": rng.integers(0, 2**16, (40, 40)),
    }.items():
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / f"{name}.png")
    Image.fromarray(night).save(tmp_path / "night.png")
    report = predict_files(Predictor(Bright(), RECIPE, INFO), [tmp_path], tmp_path / "out", progress=False)
    found = {file.stem: (low, high) for file, low, high in report.dark}
    assert found.keys() == {"12 bits", "14 bits", "reflectance", "one hot pixel"}
    assert found["12 bits"][1] <= 4095
    assert found["one hot pixel"][1] == 65535
    told = dataclasses.replace(INFO, value_range=(0.0, 4096.0))
    report = predict_files(
        Predictor(Bright(), RECIPE, told), [tmp_path / "12 bits.png"], tmp_path / "o", progress=False
    )
    assert report.dark == []


def test_nothing_readable_leaves_an_empty_result(tmp_path, predictor):
    (tmp_path / "bad.jpg").write_text("hello")
    report = predict_files(predictor, [tmp_path / "bad.jpg"], tmp_path / "out", progress=False)
    assert (report.images, len(report.failed)) == (0, 1)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"] == []


def test_equal_names_do_not_overwrite_each_other(tmp_path, predictor):
    files = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "b" / "X.bmp", tmp_path / "b" / "x-2.png"]
    for k, file in enumerate(files):
        photo(file, 40 + k)
    predict_files(predictor, files, tmp_path / "out", progress=False)
    data = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [i["output"] for i in data["images"]] == ["x", "x-2", "X-3", "x-2-2"]
    heights = [Image.open(tmp_path / "out" / "masks" / f"{i['output']}.png").height for i in data["images"]]
    assert heights == [40, 41, 42, 43]


@pytest.mark.parametrize(
    ("save", "written"),
    [(["overlay"], {"overlays"}), (["coco"], {"predictions.json"}), (["png"], {"masks"})],
)
def test_only_what_is_wanted_is_written(tmp_path, predictor, save, written):
    photo(tmp_path / "a.png")
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", save=save, progress=False)
    assert {p.name for p in (tmp_path / "out").iterdir()} == written


def test_an_unknown_kind_of_output_is_refused_before_any_work(tmp_path, predictor):
    photo(tmp_path / "a.png")
    with pytest.raises(UsageError, match="--save overlays"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", save=["overlays"], progress=False)
    assert not (tmp_path / "out").exists()


def test_maps_are_saved_as_maps(tmp_path):
    photo(tmp_path / "a.png")
    for kind, value, label in (("semantic", 1, "dog"), ("panoptic", 5, "dog")):
        out = tmp_path / kind
        predict_files(Predictor(Bright(kind), RECIPE, INFO), [tmp_path / "a.png"], out, progress=False)
        assert np.asarray(Image.open(out / "masks" / "a.png"))[15, 15] == value
        legend = json.loads((out / "masks" / "legend.json").read_text(encoding="utf-8"))
        assert legend["a.png"][str(value)]["label"] == label


def test_boxes_alone_give_no_mask_files(tmp_path):
    photo(tmp_path / "a.png")
    predict_files(Predictor(Bright("detection"), RECIPE, INFO), [tmp_path / "a.png"], tmp_path / "out", progress=False)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"overlays", "predictions.json"}
    data = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert data["annotations"][0]["bbox"] == [0, 0, 48, 40]


def test_what_can_not_be_written_stops_with_the_file_named(tmp_path, predictor):
    photo(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "overlays").write_text("a file where a folder should be")
    with pytest.raises(SegcliError, match=r"overlays: is there already and is no folder"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_few_images_are_in_memory_at_a_time(tmp_path, predictor, monkeypatch):
    for k in range(40):
        photo(tmp_path / "in" / f"{k}.png")
    held, most, lock = [0], [0], threading.Lock()
    read, write = reading.read_image, files.write_pictures

    def counted_read(path, *more):
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return read(path, *more)

    def counted_write(*args):
        result = write(*args)
        with lock:
            held[0] -= 1
        return result

    monkeypatch.setattr(reading, "read_image", counted_read)
    monkeypatch.setattr(files, "write_pictures", counted_write)
    assert predict_files(predictor, [tmp_path / "in"], tmp_path / "out", progress=False).images == 40
    assert most[0] <= 2 * predictor.batch_size + reading.READERS + 2 * files.WRITERS + predictor.batch_size


def test_inputs_are_files_folders_and_patterns_each_file_once(tmp_path):
    for name in ("b10.jpg", "b9.JPG", "sub/c.png", "._b9.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    odd = tmp_path / "odd[1].txt"
    odd.write_text("x")
    names = lambda *inputs: [p.name for p in find_images(inputs)]
    assert names(tmp_path) == ["b9.JPG", "b10.jpg"]
    assert names(tmp_path / "b10.jpg", tmp_path) == ["b10.jpg", "b9.JPG"]
    assert names(str(tmp_path / "**" / "*")) == ["b9.JPG", "b10.jpg", "c.png"]
    assert names(odd) == ["odd[1].txt"], "a file that exists is no pattern"
    assert output_names(find_images([tmp_path])) == ["b9", "b10"]


def test_inputs_that_name_nothing_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        find_images([tmp_path / "gone.jpg"])
    with pytest.raises(DataError, match="no image file matches"):
        find_images([str(tmp_path / "*.jpg")])
    photo(tmp_path / "in" / "below" / "a.png")
    with pytest.raises(DataError, match="the folder has no image file") as caught:
        find_images([tmp_path / "in"])
    assert "--recursive" in caught.value.hint


def test_folders_inside_are_read_where_that_is_asked(tmp_path):
    for name in ("a.png", "in/b.png", "in/deep/c.png", ".hidden/d.png", "notes/e.txt", "made/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "made" / ".segcli-files.json").write_text("{}")
    (tmp_path / "in" / "again").symlink_to(tmp_path)
    assert subfolders(tmp_path) == [tmp_path / "in", tmp_path / "in/deep"]
    assert [p.name for p in find_images(with_subfolders([tmp_path]))] == ["a.png", "b.png", "c.png"]
    assert with_subfolders([tmp_path / "in/deep", "x*.png"]) == [tmp_path / "in/deep", "x*.png"]
    (tmp_path / "a.png").unlink()
    assert [p.name for p in find_images(with_subfolders([tmp_path]))] == ["b.png", "c.png"]


def test_what_is_left_aside_is_said(tmp_path):
    toy = Predictor(Bright(), RECIPE, INFO)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    assert predict_files(toy, [folder], tmp_path / "bare", progress=False).left is None
    for name in (".b.png", "notes.psd", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    expected = "left aside: 1 hidden file (.b.png); 1 file of kinds that are not read (notes.psd)"
    for number, given in enumerate((folder, f"{folder}/*")):
        report = predict_files(toy, [given], tmp_path / f"out-{number}", progress=False)
        assert (report.images, report.left) == (1, expected)
    assert predict_files(toy, [folder / "a.png"], tmp_path / "one", progress=False).left is None


def test_heic_without_its_plugin_is_said(tmp_path, monkeypatch):
    suffixes = data_image.SUFFIXES - data_image.PHONES
    monkeypatch.setattr(inputs, "SUFFIXES", suffixes)
    monkeypatch.setattr(unread, "SUFFIXES", suffixes)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "phone.heic").write_bytes(b"x")
    with pytest.raises(DataError, match="no image file") as caught:
        find_images([tmp_path / "p"])
    assert "pip install 'segcli[heic]' reads its 1 HEIC photographs (phone.heic" in caught.value.hint
    Image.new("RGB", (8, 8)).save(tmp_path / "p" / "a.png")
    report = predict_files(Predictor(Bright(), RECIPE, INFO), [tmp_path / "p"], tmp_path / "out", progress=False)
    assert "1 HEIC photograph (phone.heic: pip install 'segcli[heic]' reads them)" in report.left


def test_images_in_which_objects_become_too_small_are_named(tmp_path):
    """The toy model sees 64 pixels at most: of 40 pixels an object keeps 8 in an image of 320, 32 in one of 80."""
    toy = Predictor(Bright(), RECIPE, INFO, object_pixels=40.0)
    photo(tmp_path / "in" / "large.png", side=312)
    photo(tmp_path / "in" / "small.png", side=72)
    report = predict_files(toy, [tmp_path / "in"], tmp_path / "out", progress=False)
    ((file, pixels),) = report.shrunk
    assert (file.name, round(pixels)) == ("large.png", 8)
    unknown = predict_files(Predictor(Bright(), RECIPE, INFO), [tmp_path / "in"], tmp_path / "o", progress=False)
    assert unknown.shrunk == []
    assert too_small(10.0, (64, 64), (64, 64)) is None, "small already: nothing was lost"


@pytest.mark.parametrize("name", ["recipe.yaml", "info.json"])
def test_predictions_do_not_go_among_the_files_of_a_run_or_a_dataset(tmp_path, predictor, name):
    photo(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("{}")
    with pytest.raises(UsageError, match="predictions would lie among its files"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", progress=False)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]
