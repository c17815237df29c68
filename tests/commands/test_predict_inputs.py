"""What predict takes and keeps: addresses, lists, classes; and the mean of an image and its mirror image."""

import http.server
import json
import threading

import numpy as np
import pytest
import torch
from bright import INFO, RECIPE, Bright, photo
from PIL import Image
from pycocotools import mask as coco_mask

from segcli.commands.predict.addresses import name_of
from segcli.commands.predict.files import predict_files
from segcli.commands.predict.views import both_views
from segcli.commands.predictor import Predictor
from segcli.core.errors import DataError, UsageError
from segcli.data.inputs import listed
from segcli.types import Instances, Prediction, encode_masks


@pytest.fixture
def server(tmp_path):
    """A server of tmp_path/web on this machine. -> (its address, what was asked for)."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "web"))

        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_addresses_are_brought_and_one_that_is_not_there_is_skipped(tmp_path, server):
    address, asked = server
    photo(tmp_path / "web" / "a b.png")
    photo(tmp_path / "own.png", 60)
    given = [f"{address}/a%20b.png?size=1", tmp_path / "own.png", f"{address}/gone.png"]
    report = predict_files(
        Predictor(Bright(), RECIPE, INFO), given, tmp_path / "out", save=["coco", "labelme"], progress=False
    )
    assert report.images == 2
    assert [("404" in reason, "gone.png" in reason) for _, reason in report.failed] == [(True, True)]
    data = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [i["file_name"] for i in data["images"]] == [str(one) for one in given[:2]]
    assert len(list((tmp_path / "out" / "labelme" / "train").glob("*.png"))) == 2
    assert asked[0] == "/a%20b.png?size=1"


def test_names_of_addresses_are_plain_and_apart():
    first, second = name_of("http://x.org/cam/../..%2Fetc?a=1"), name_of("http://x.org/cam/../..%2Fetc?a=2")
    assert first != second
    assert "/" not in first
    assert first.endswith(".jpg")
    assert name_of("https://x.org/").startswith("image-")
    assert name_of("https://x.org/p/f%C3%A9.PNG").endswith(".PNG")


def test_a_list_on_standard_input_stands_for_its_lines():
    assert listed(["a", "-", "b"], ["x y.jpg\r\n", "\n", "z.png"]) == ["a", "x y.jpg", "z.png", "b"]
    with pytest.raises(DataError, match="standard input lists no file"):
        listed(["-"], [])


def test_classes_that_are_not_wanted_are_left_out(tmp_path):
    photo(tmp_path / "a.png")
    run = lambda kind, classes, out: predict_files(
        Predictor(Bright(kind), RECIPE, INFO), [tmp_path / "a.png"], out, score=0.1, classes=classes, progress=False
    )
    assert run("instance", None, tmp_path / "all").detections == 2
    assert run("instance", ["dog"], tmp_path / "dog").detections == 1
    assert run("panoptic", ["고양이"], tmp_path / "none").detections == 0
    assert not np.asarray(Image.open(tmp_path / "none" / "masks" / "a.png")).any()
    run("semantic", ["dog"], tmp_path / "map")
    assert set(np.unique(np.asarray(Image.open(tmp_path / "map" / "masks" / "a.png")))) == {1, 255}
    with pytest.raises(UsageError, match="--classes dgo") as caught:
        run("instance", ["dgo"], tmp_path / "typo")
    assert "dog" in caught.value.hint


def found(boxes, scores, labels=None):
    """Detections whose masks fill their boxes, on an image of 20 x 40."""
    masks = np.zeros((len(boxes), 20, 40), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    labels = torch.tensor(labels or [0] * len(boxes))
    objects = Instances(torch.tensor(boxes).float(), labels, torch.tensor(scores), masks=encode_masks(masks))
    return Prediction(1, (20, 40), objects)


def test_both_views_agree_on_one_object():
    one = found([[2, 2, 12, 12], [30, 2, 36, 8]], [0.9, 0.6])
    mirrored = found([[28, 2, 40, 12], [20, 14, 26, 18]], [0.5, 0.8])  # the first is [0, 12] x [2, 12]
    both = both_views(one, mirrored).instances
    assert both.scores.tolist() == pytest.approx([0.7, 0.4, 0.3])
    assert both.boxes[0].tolist() == pytest.approx([2 * 9 / 14, 2, 12, 12])
    assert both.boxes[1].tolist() == [14, 14, 20, 18]
    assert coco_mask.area(both.rles()).tolist() == [100, 24, 36]
    assert both.mask(1)[14:18, 14:20].all()


def test_other_classes_are_other_objects_and_maps_have_no_mean(tmp_path):
    both = both_views(found([[2, 2, 12, 12]], [0.9], [0]), found([[28, 2, 38, 12]], [0.8], [1])).instances
    assert sorted(both.labels.tolist()) == [0, 1]
    with pytest.raises(UsageError, match="gives maps"):
        both_views(Prediction(1, (4, 4), semantic=np.zeros((4, 4))), found([[0, 0, 2, 2]], [0.5]))
    photo(tmp_path / "a.png")
    toy = Predictor(Bright(), RECIPE, INFO)
    report = predict_files(toy, [tmp_path / "a.png"], tmp_path / "o", score=0.1, tta=True, progress=False)
    assert report.detections == 3, "the square, and the quarter of either view"
