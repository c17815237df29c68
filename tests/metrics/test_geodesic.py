"""AP of DensePose by distances along a surface, by hand and against pycocotools."""

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.fields.body_surface import Surface
from segcli.fields.densepose import DensePose
from segcli.fields.geodesics import geodesics
from segcli.metrics.densepose import DensePoseScores
from segcli.types import Instances, Origin, Prediction, Target

INFO = DatasetInfo("people", (Category("person", 1),), {})
SIGMA = 0.255  # 0.3 m is a similarity of a half
PLACES = {  # two charts side by side on a line: chart 1 from 0 to 1 m, chart 2 from 1 to 2 m; they share the seam
    "chart": np.repeat([1, 2], 11),
    "u": np.tile(np.linspace(0, 1, 11), 2),
    "v": np.zeros(22),
    "vertex": np.concatenate([np.arange(11), np.arange(10, 21)]),
    "distances": np.concatenate([(i - np.arange(i)) / 10 for i in range(21)]),
    "sigma": np.array(SIGMA),
}


@pytest.fixture
def surface(tmp_path):
    np.savez(tmp_path / "line.npz", **PLACES)
    return Surface(charts=2, coarse=2, geodesics=tmp_path / "line.npz")


def labels(boxes, charts, u, surface, image=1, crowd=None, widths=None):
    """One object a box, with a point in its middle; chart 0: an object without one. widths: of the labelled part, which
    begins on the left of each box; None: no parts."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    rows = [
        torch.tensor([[*m, c, x, 0.0]]) if c else torch.zeros(0, 5) for m, c, x in zip(middle, charts, u, strict=True)
    ]
    sides = (boxes[:, 2:] - boxes[:, :2]) / 256
    place = torch.stack([torch.cat([torch.diag(s), c[:2, None]], 1) for s, c in zip(sides, boxes, strict=True)])
    coarse = [None] * len(rows)
    for i, width in enumerate(widths if widths is not None else []):
        coarse[i] = torch.zeros(256, 256, dtype=torch.uint8)
        coarse[i][:, : round(width / float(sides[i, 0]))] = 1
    field = DensePose(rows, coarse, place, surface, None, None)
    one = Instances(boxes, torch.zeros(len(rows), dtype=torch.int64), fields={"densepose": field}, crowd=crowd)
    return Target(image, (200, 200), one)


def detections(boxes, scores, charts, u, surface, image=1, columns=None):
    """columns: how many of each map's 20 are on a chart, from the left; None: all."""
    said = [torch.tensor([c, round(x * 255), 0]).byte() for c, x in zip(charts, u, strict=True)]
    maps = [one.view(3, 1, 1).repeat(1, 20, 20) for one in said]
    for one, on in zip(maps, columns if columns is not None else [], strict=False):
        one[:, :, on:] = 0
    boxes = torch.tensor(boxes, dtype=torch.float32)
    field = DensePose.predicted(maps, boxes, surface)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Prediction(image, (200, 200), Instances(boxes, labels, torch.tensor(scores), fields={"densepose": field}))


BOXES = [[0, 0, 40, 40], [60, 0, 100, 40], [120, 0, 160, 40]]


def test_similarity_is_by_distance_along_the_surface_and_over_seams(surface):
    own = geodesics(surface.geodesics, 2)
    labelled = torch.tensor([[1.0, 0.9, 0], [1, 0.9, 0], [1, 0.9, 0]])
    said = torch.tensor([[1.0, 0.6, 0], [2, 0.2, 0], [0, 0, 0]])  # both 0.3 m away, and nothing
    half = np.exp(-(0.3**2) / (2 * SIGMA**2))
    assert half == pytest.approx(0.5, abs=2e-3)
    assert own.similarity(said, labelled) == pytest.approx(2 * half / 3)


def test_they_are_the_ap_of_coco_with_another_similarity(surface):
    """30 images of one to three objects; pycocotools is given GPS in place of IoU, and sqrt(GPS · IoU) of masks whose
    overlap is plain: both begin on the left of one box."""
    rng = np.random.default_rng(0)
    metric, gts, dts, gps, gpsm = DensePoseScores(INFO), [], [], {}, {}
    own = geodesics(surface.geodesics, 2)
    for image in range(1, 31):
        n = int(rng.integers(1, 4))
        charts, u = rng.integers(1, 3, n), rng.uniform(0, 1, n)
        found_u = (u + rng.normal(0, 0.25, n)).clip(0, 1)
        scores = rng.uniform(0, 1, n).astype(np.float32)
        wide, said_wide = rng.choice([10, 20, 30, 40], n), rng.choice([30, 40], n)
        metric.update(
            [detections(BOXES[:n], scores.tolist(), charts, found_u, surface, image, said_wide // 2)],
            [labels(BOXES[:n], charts, u, surface, image, widths=wide)],
        )
        for k in range(n):
            box = {"image_id": image, "category_id": 1, "bbox": [*BOXES[k][:2], 40, 40], "area": 1600}
            gts.append({**box, "id": len(gts) + 1, "iscrowd": 0})
            dts.append({**box, "score": float(scores[k])})
        order = np.argsort(-scores, kind="stable")
        said = np.stack([charts, np.round(found_u * 255) / 255, np.zeros(n)], 1)
        real = np.stack([charts, u, np.zeros(n)], 1)
        pair = np.array([own.similarity(torch.tensor(said[[i]]), torch.tensor(real[[i]])) for i in range(n)])
        overlap = np.minimum(wide, said_wide) / np.maximum(wide, said_wide)
        gps[image, 1] = np.diag(pair)[order]
        gpsm[image, 1] = np.diag(np.sqrt(pair * overlap))[order]
    scores = metric.compute()
    for name, alike in (("GPS", gps), ("GPSm", gpsm)):
        truth = COCO()
        truth.dataset = {"images": [{"id": i} for i in range(1, 31)], "annotations": gts, "categories": [{"id": 1}]}
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(dts), "bbox")
        judge.computeIoU = lambda image, category, alike=alike: alike[image, category]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        keys = [f"densepose_{name}_{key}" for key in ("AP", "AP50", "AP75")]
        assert [scores[key] for key in keys] == pytest.approx(judge.stats[:3].tolist(), abs=1e-9)
        assert 0.1 < scores[keys[0]] < scores[keys[1]] < 1
        drawn = metric.replicates(np.ones((2, 30), np.float32))
        assert drawn[keys[0]] == pytest.approx([scores[keys[0]]] * 2)
    assert scores["densepose_GPSm_AP"] != scores["densepose_GPS_AP"]


def test_without_labelled_parts_there_is_gps_alone(surface):
    metric = DensePoseScores(INFO)
    metric.update(
        [detections(BOXES, [0.9, 0.8, 0.7], [1, 1, 1], [0.5, 0.5, 0.5], surface)],
        [labels(BOXES, [1, 1, 1], [0.5, 0.5, 0.5], surface)],
    )
    assert {key for key in metric.compute() if key.endswith("AP")} == {"densepose_GPS_AP"}


def test_detections_of_objects_without_points_do_not_count(surface):
    target = labels(BOXES, [1, 0, 1], [0.5, 0, 0.5], surface, crowd=torch.tensor([False, False, True]))
    metric = DensePoseScores(INFO)
    metric.update([detections(BOXES, [0.3, 0.9, 0.8], [1, 1, 1], [0.5, 0.1, 0.1], surface)], [target])
    assert metric.compute()["densepose_GPS_AP"] == 1


def test_without_distances_there_is_no_ap():
    metric = DensePoseScores(INFO)
    plain = Surface(charts=2, coarse=2)
    metric.update([detections(BOXES, [1.0] * 3, [1] * 3, [0.5] * 3, plain)], [labels(BOXES, [1] * 3, [0.5] * 3, plain)])
    assert "densepose_GPS_AP" not in metric.compute()


@pytest.mark.parametrize(
    ("changes", "charts", "words"),
    [
        ({}, 3, "has not the charts 1 to 3"),
        ({"vertex": PLACES["vertex"] + 1}, 2, "not those of all pairs of 22 vertices"),
        ({"distances": np.zeros((21, 21))}, 2, "not those of all pairs of 21 vertices"),
        ({"sigma": np.zeros(2)}, 2, "sigma must be above 0"),
        ({"u": np.zeros(3)}, 2, "must be of one length"),
        ({"distances": np.full(210, np.nan)}, 2, "must be finite"),
    ],
)
def test_files_of_another_body_are_refused_by_name(tmp_path, changes, charts, words):
    np.savez(tmp_path / "other.npz", **{**PLACES, **changes})
    declared = {"densepose": {"charts": charts, "geodesics": "other.npz"}}
    origin = Origin(DatasetInfo("people", INFO.categories, {}, declared=declared), (9, 9), tmp_path, "info.json")
    with pytest.raises(DataError, match=words) as caught:
        list(DensePose.problems([], origin))
    assert "other.npz" in str(caught.value)
