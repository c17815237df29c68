"""Panoptic quality: hand-made cases, and hotcoco's file-based evaluation of the same maps."""

import json

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from PIL import Image
from scored_cases import CAT, DOG, INFO, SKY, panoptic, random_panoptic, score

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import SegcliError
from segcli.metrics.panoptic import PanopticScores
from segcli.types import Panoptic, Segment


def test_a_match_a_miss_and_a_false_alarm_counted_by_hand():
    labelled = panoptic([[1, 1, 1, 1, 2, 2, 3, 3]], s1=CAT, s2=CAT, s3=SKY)
    predicted = panoptic([[7, 7, 7, 8, 8, 9, 3, 3]], s7=CAT, s8=CAT, s9=DOG, s3=SKY)
    scores = score(predicted, labelled)
    # cat: 7 matches 1 with IoU 3/4; 8 covers a third of 2 together with 1: no match. dog: a false alarm. sky: right
    assert scores.per_class()["cat"] == {"PQ": pytest.approx(0.75 / 2), "SQ": 0.75, "RQ": 0.5}
    assert scores.per_class()["dog"] == {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0}
    assert scores.compute()["PQ"] == pytest.approx((0.375 + 0 + 1) / 3)
    assert scores.compute()["PQ_things"] == pytest.approx(0.375 / 2)
    assert scores.compute()["PQ_stuff"] == 1.0


def test_void_does_not_count_in_a_union():
    scores = score(panoptic([[1, 1, 1, 1]], s1=CAT), panoptic([[5, 5, 0, 0]], s5=CAT))
    assert scores.compute()["PQ"] == 1.0
    assert "PQ_stuff" not in scores.compute()


def test_predictions_on_void_or_on_a_crowd_of_their_class_are_excused():
    labelled = panoptic([[0, 0, 1, 1, 1, 2]], s1=(CAT, "crowd"), s2=CAT)
    excused = panoptic([[4, 4, 5, 5, 5, 6]], s4=DOG, s5=CAT, s6=CAT)
    assert score(excused, labelled).compute()["PQ"] == 1.0
    assert score(excused, labelled).per_class()["dog"] == {}
    other_class = panoptic([[0, 0, 5, 5, 5, 6]], s5=DOG, s6=CAT)
    assert score(other_class, labelled).compute()["PQ"] == 0.5


def test_of_several_crowds_of_a_class_the_last_one_counts_as_in_cocos_api():
    """Its evaluation keeps one crowd a class, each replacing the one before."""
    predicted = panoptic([[5, 5, 5, 5, 6, 6]], s5=CAT, s6=DOG)
    first = panoptic([[1, 1, 1, 2, 3, 3]], s1=(CAT, "crowd"), s2=(CAT, "crowd"), s3=DOG)
    assert score(predicted, first).per_class()["cat"] == {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0}, "a quarter lies on s2"
    last = panoptic([[1, 1, 1, 2, 3, 3]], s2=(CAT, "crowd"), s1=(CAT, "crowd"), s3=DOG)
    assert score(predicted, last).per_class()["cat"] == {}
    other = panoptic([[1, 1, 1, 2, 3, 3]], s1=(CAT, "crowd"), s2=(SKY, "crowd"), s3=DOG)
    assert score(predicted, other).per_class()["cat"] == {}, "a crowd of another class changes nothing"


def test_a_missed_crowd_is_not_a_miss():
    scores = score(panoptic([[0, 2]], s2=CAT), panoptic([[1, 2]], s1=(CAT, "crowd"), s2=CAT))
    assert scores.compute() == {"PQ": 1.0, "SQ": 1.0, "RQ": 1.0, "PQ_things": 1.0}


def test_nothing_to_score_has_no_key():
    assert PanopticScores(INFO).compute() == {}


def test_maps_that_disagree_with_their_lists_are_named():
    good = panoptic([[1]], s1=CAT)
    with pytest.raises(SegcliError, match="image 4: the predicted panoptic map has the segment 3"):
        score(panoptic([[3]], s1=CAT), good, image_id=4)
    with pytest.raises(SegcliError, match="image 4: the labelled panoptic map has the segment 3"):
        score(good, panoptic([[3]], s1=CAT), image_id=4)
    with pytest.raises(SegcliError, match="image 4: the predicted panoptic segment 2 has no pixel"):
        score(panoptic([[1]], s1=CAT, s2=DOG), good, image_id=4)
    with pytest.raises(SegcliError, match=r"predicted panoptic map is \[1, 2\], the label map \[1, 1\]"):
        score(panoptic([[1, 1]], s1=CAT), good)


def disturbed(rng, labelled):
    """The labels, moved a little, some with another class, some gone."""
    shift = tuple(rng.integers(-2, 3, 2))
    ids = np.roll(labelled.ids, shift, (0, 1))
    segments = [Segment(s.id, s.label if rng.random() < 0.8 else int(rng.integers(3))) for s in labelled.segments]
    gone = [s.id for s in segments if rng.random() < 0.2]
    ids = np.where(np.isin(ids, gone), 0, ids).astype(np.int32)
    return Panoptic(ids, [s for s in segments if s.id in set(np.unique(ids))])


def write(folder, name, maps, categories):
    """COCO panoptic json + PNGs."""
    (folder / name).mkdir()
    annotations = []
    for image_id, panoptic_map in maps.items():
        ids = panoptic_map.ids
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / name / f"{image_id}.png")
        segments = [
            {
                "id": s.id,
                "category_id": categories[s.label]["id"],
                "iscrowd": int(s.crowd),
                "area": int((ids == s.id).sum()),
                "bbox": [0, 0, 1, 1],
            }
            for s in panoptic_map.segments
        ]
        annotations.append({"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments})
    images = [{"id": i, "height": m.ids.shape[0], "width": m.ids.shape[1]} for i, m in maps.items()]
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(file)


def assert_equal_to_hotcoco(folder, labelled, predicted, info):
    categories = [{"id": i + 1, "name": c.name, "isthing": int(c.thing)} for i, c in enumerate(info.categories)]
    oracle = PanopticEval(write(folder, "gt", labelled, categories), write(folder, "pred", predicted, categories))
    oracle.evaluate()
    expected = oracle.results()
    shares = [PanopticScores(info), PanopticScores(info)]
    for i, image_id in enumerate(labelled):
        shares[i % 2].merge(score(predicted[image_id], labelled[image_id], info, image_id))
    shares[0].merge(shares[1])
    computed = shares[0].compute()
    assert computed["PQ"] == pytest.approx(expected["All"]["pq"], abs=1e-9)
    assert computed["SQ"] == pytest.approx(expected["All"]["sq"], abs=1e-9)
    assert computed["RQ"] == pytest.approx(expected["All"]["rq"], abs=1e-9)
    assert computed["PQ_things"] == pytest.approx(expected["Things"]["pq"], abs=1e-9)
    assert computed["PQ_stuff"] == pytest.approx(expected["Stuff"]["pq"], abs=1e-9)
    return computed


def test_random_maps_score_as_hotcoco_scores_them(tmp_path):
    rng = np.random.default_rng(0)
    labelled = {i: random_panoptic(rng, (70, 90), crowd=True) for i in range(12)}
    predicted = {i: disturbed(rng, m) for i, m in labelled.items()}
    computed = assert_equal_to_hotcoco(tmp_path, labelled, predicted, INFO)
    assert 0.2 < computed["PQ"] < 0.95


@pytest.mark.parametrize("name", ["coco_panoptic_sample/panoptic_examples", "coco128/annotations/panoptic_train2017"])
def test_cocos_maps_score_one_as_their_own_prediction_and_as_hotcoco_when_disturbed(shared_data, tmp_path, name):
    data = json.loads((shared_data / f"{name}.json").read_text())
    categories = sorted(data["categories"], key=lambda c: not c["isthing"])
    info = DatasetInfo("coco", tuple(Category(c["name"], c["id"], bool(c["isthing"])) for c in categories), {"val": 2})
    label = {c["id"]: i for i, c in enumerate(categories)}
    labelled = {}
    for annotation in data["annotations"][:24]:
        rgb = np.asarray(Image.open(shared_data / name / annotation["file_name"])).astype(np.int32)
        segments = [
            Segment(s["id"], label[s["category_id"]], crowd=bool(s["iscrowd"])) for s in annotation["segments_info"]
        ]
        labelled[annotation["image_id"]] = Panoptic(rgb @ [1, 256, 65536], segments)
    for image_id, panoptic_map in labelled.items():
        assert score(panoptic_map, panoptic_map, info, image_id).compute()["PQ"] == 1.0
    rng = np.random.default_rng(1)
    predicted = {i: Panoptic(np.roll(m.ids, 3, 1), m.segments) for i, m in labelled.items()}
    for panoptic_map in predicted.values():
        for segment in panoptic_map.segments[::5]:
            segment.label = int(rng.integers(133))
    predicted = {i: Panoptic(m.ids, [Segment(s.id, s.label) for s in m.segments]) for i, m in predicted.items()}
    assert assert_equal_to_hotcoco(tmp_path, labelled, predicted, info)["PQ"] < 1
