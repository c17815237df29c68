"""Keypoints: how labels follow the image, what is refused, how they are scored, drawn and stored."""

import dataclasses
import json
import math
from pathlib import Path

import cv2
import hotcoco
import numpy as np
import pytest
import torch
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.compose import build_augment
from segcli.data.dataset import Dataset
from segcli.drawing.overlays import draw
from segcli.engine.opening import build, fields_of
from segcli.engine.training import open_datasets
from segcli.fields.keypoints import Keypoints
from segcli.metrics.keypoints import build as build_metric
from segcli.metrics.keypoints import deviations
from segcli.models import build_model
from segcli.models.interface import Samples
from segcli.models.rcnn.heads.keypoint import build as build_head
from segcli.models.rcnn.heads.lite_keypoint import LiteKeypointHead
from segcli.predictions.coco_results import coco_results
from segcli.types import Batch, Instances, Origin, Prediction, Target
from segcli.weights.class_rows import official_info

CAT = Category("cat", 3, keypoints=("nose", "left ear", "right ear"), skeleton=((0, 1), (0, 2)), flip_pairs=((1, 2),))
INFO = DatasetInfo("two", (CAT, Category("dog", 17, keypoints=("nose",))), {})
ORIGIN = Origin(INFO, (64, 64), Path("files"), "labels")
LABELS = [
    {"id": 1, "category_id": 3, "keypoints": [10, 20, 2, 5, 6, 1, 0, 0, 0]},
    {"id": 2, "category_id": 17, "keypoints": [30, 31, 2]},
    {"id": 3, "category_id": 3},
]


def field() -> Keypoints:
    return Keypoints.read(LABELS, ORIGIN)


def test_labels_are_read_by_class():
    points = field().points
    assert points.shape == (3, 3, 3)
    assert points[0].tolist() == [[10, 20, 2], [5, 6, 1], [0, 0, 0]]
    assert points[1].tolist() == [[30, 31, 2], [0, 0, 0], [0, 0, 0]]
    assert not points[2].any()


def test_a_mirror_image_swaps_left_and_right():
    flipped = field().flip(64)
    assert flipped.points[0].tolist() == [[54, 20, 2], [0, 0, 0], [59, 6, 1]]
    assert flipped.points[1, 0].tolist() == [34, 31, 2]
    assert torch.equal(flipped.flip(64).points, field().points)


def test_a_crop_forgets_what_is_outside_and_scaling_moves_the_rest():
    cut = field().crop(6, 4, 20, 20).scale(2, 0.5)
    assert cut.points[0].tolist() == [[8, 8, 2], [0, 0, 0], [0, 0, 0]]
    assert not cut.points[1].any()


def test_a_rotation_moves_points_unless_their_names_say_what_is_up():
    quarter = np.array([[0.0, 1, 0], [-1, 0, 64]])  # counter-clockwise, of an image 64 wide
    assert field().rotate(quarter).points[0].tolist() == [[20, 54, 2], [6, 59, 1], [0, 0, 0]]
    upright = dataclasses.replace(field(), upright=True)
    with pytest.raises(UsageError, match="rotation renames"):
        upright.rotate(quarter)


@pytest.mark.parametrize(
    ("keypoints", "says"),
    [
        ([1, 2, 2], "annotation 101: 3 numbers for 3 keypoints of its class, which need 9"),
        ([1, 2, 2, 3, 4, 7, 0, 0, 0], "annotation 101: a keypoint's visibility is 7"),
        ([1, 2, 2, 3, None, 2, 0, 0, 0], "annotation 101: keypoints are not a list of finite numbers"),
        ("left", "annotation 101: keypoints are not a list of finite numbers"),
    ],
)
def test_broken_labels_are_named(with_joints, keypoints, says):
    edit(with_joints, lambda a: a.update(keypoints=keypoints), only=101)
    with pytest.raises(DataError, match=says):
        Dataset(with_joints, "train", fields={"keypoints": Keypoints})


@pytest.fixture
def with_joints(tiny_copy):
    """The tiny dataset, whose cats and dogs have three and one keypoints, all visible."""
    categories = tuple(dataclasses.replace(c, source_id=s) for c, s in zip(INFO.categories, (3, 17), strict=True))
    info = DatasetInfo("tiny", categories, {"train": 4, "val": 2})
    (tiny_copy / "info.json").write_text(json.dumps(info.to_json()), encoding="utf-8")

    def put(a):
        x, y, w, h = a["bbox"]
        points = [x + w / 2, y + 1, 2, x + 1, y + h / 2, 2, x + w - 1, y + h / 2, 2]
        a["keypoints"] = points if a["category_id"] == 3 else points[:3]

    edit(tiny_copy, put)
    return tiny_copy


def edit(root, change, only=None):
    for path in (root / "annotations").glob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        for annotation in data["annotations"]:
            if only in (None, annotation["id"]):
                change(annotation)
        path.write_text(json.dumps(data), encoding="utf-8")


def recipe(root, heads="lite_keypoint"):
    return Recipe.parse(
        {
            **{"name": "r", "task": "keypoints", "data": {"root": str(root), "size": 64}},
            "model": {
                **{"name": "rcnn_lite", "width": 32, "proposals": [8, 8]},
                **{"backbone": {"name": "resnet", "depth": 18}, "heads": {"iou_box": {}, heads: {}}},
            },
            "train": {"steps": 2, "batch_size": 2, "evaluations": 1},
        },
        "r.yaml",
    )


def test_labels_that_are_all_invisible_are_nothing_to_learn_from(with_joints):
    edit(with_joints, lambda a: a.update(keypoints=[0] * len(a["keypoints"])))
    with pytest.raises(DataError, match="no object of its train split has keypoints"):
        open_datasets(recipe(with_joints), {"keypoints": Keypoints})


def test_a_dataset_without_keypoints_and_a_recipe_without_the_head_are_refused(tiny_dataset, with_joints):
    with pytest.raises(UsageError, match="no class of the dataset declares keypoints"):
        fields_of(recipe(tiny_dataset), DatasetInfo.load(tiny_dataset))
    with pytest.raises(UsageError, match="needs a head that learns keypoints"):
        build(recipe(with_joints, heads="lite_mask"), DatasetInfo.load(with_joints))


def test_a_skeleton_that_names_a_missing_joint_is_refused(tiny_copy):
    data = json.loads((tiny_copy / "info.json").read_text(encoding="utf-8"))
    data["categories"][0] |= {"keypoints": ["nose"], "skeleton": [[0, 1]]}
    (tiny_copy / "info.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(DataError, match=r"skeleton or flip_pairs of 'cat' name keypoint 1, and it declares 1"):
        DatasetInfo.load(tiny_copy)


def test_training_augmentation_moves_labels_with_the_pixels(with_joints):
    """A red dot is painted at a keypoint: it stays there, under its mirrored name."""
    dataset = Dataset(with_joints, "train", fields={"keypoints": Keypoints})
    sample = dataset.read(0)
    x, y = sample.target.instances.fields["keypoints"].points[0, 1, :2].tolist()
    image = np.zeros_like(sample.image)
    cv2.circle(image, (int(x), int(y)), 3, (255, 0, 0), -1)
    augment = build_augment({"flip": 1.0, "scale": [1.0, 1.0]}, canvas=(96, 96), info=dataset.info)
    moved = augment(dataclasses.replace(sample, image=image), np.random.default_rng(0), lambda: sample)
    rows, columns = np.nonzero(moved.image[..., 0].astype(int) - moved.image[..., 1] > 120)
    place = moved.target.instances.fields["keypoints"].points[0, 2]
    assert place[2] == 2
    assert place[0] == pytest.approx(columns.mean() + 0.5, abs=1.5)
    assert place[1] == pytest.approx(rows.mean() + 0.5, abs=1.5)


@pytest.mark.parametrize(
    ("name", "box", "keypoint"), [("rcnn", "box", "keypoint"), ("rcnn_lite", "iou_box", "lite_keypoint")]
)
def test_every_parameter_learns_with_any_labels(name, box, keypoint):
    """Objects with and without labelled keypoints, all of them without, no object at all."""
    torch.manual_seed(0)
    heads = {box: {"width": 32}, keypoint: {"width": 16}}
    settings = {"name": name, "backbone": {"name": "resnet", "depth": 18}, "heads": heads}
    counts = {"num_classes": 2, "num_things": 2, "num_keypoints": 3}
    model = build_model({**settings, "width": 32}, task="keypoints", **counts)
    model = model.to(memory_format=torch.channels_last)  # as training has it
    boxes = torch.tensor([[2.0, 3, 40, 50], [20, 20, 60, 60], [1, 1, 30, 30]])
    for labels in (field(), dataclasses.replace(field(), points=torch.zeros(3, 3, 3)), field()[torch.arange(0)]):
        model.train().zero_grad()
        n = len(labels)
        instances = Instances(boxes[:n], torch.arange(n) % 2, fields={"keypoints": labels})
        padding = torch.zeros(1, 64, 64, dtype=torch.bool)
        targets = [Target(1, (64, 64), instances)]
        batch = Batch(torch.randn(1, 3, 64, 64), padding, [(64, 64)], [(90, 80)], [1], targets, [3])
        losses = model(batch)
        assert all(math.isfinite(value.item()) for value in losses.values())
        assert (losses["loss_keypoint"] > 0) == bool(labels.points.any())
        sum(losses.values()).backward()
        assert [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    found = model.eval().predict(dataclasses.replace(batch, targets=None))[0].instances
    points = found.fields["keypoints"].points
    assert points.shape == (len(found), 3, 3)
    assert ((points[..., 2] >= 0) & (points[..., 2] <= 1)).all()


def test_two_devices_learn_what_one_does_of_both_batches(monkeypatch):
    """Each device's loss is its part of the mean over all devices' labelled keypoints, which are never equally many."""
    torch.manual_seed(0)
    head = build_head(num_things=2, num_keypoints=3, channels=8, strides=[4], width=8, convolutions=1)
    boxes = torch.tensor([[2.0, 3, 40, 50], [20, 20, 60, 60], [1, 1, 30, 30]])
    target = Target(1, (64, 64), Instances(boxes, torch.tensor([0, 1, 0]), fields={"keypoints": field()}))
    maps, first, rest = [torch.randn(2, 8, 16, 16)], torch.tensor([0]), torch.tensor([1, 2])  # 2 keypoints, 1 keypoint
    of = lambda *parts: Samples(
        [boxes[p] for p in parts], [p * 0 + 1 for p in parts], list(parts), [target] * len(parts), [3] * len(parts)
    )
    whole, counts = head.loss(maps, of(first, rest))["loss_keypoint"], []
    monkeypatch.setattr("segcli.core.distributed.share", lambda count: counts.append(count) or count / 1.5)
    parts = [head.loss([maps[0][i : i + 1]], of(p))["loss_keypoint"] for i, p in enumerate((first, rest))]
    assert counts == [2, 1]
    assert (sum(parts) / 2).item() == pytest.approx(whole.item(), rel=1e-5)
    head.loss([maps[0][:1]], of(torch.tensor([2])))
    assert counts[2:] == [0], "a device without keypoints says so, for the others wait for it"


def test_lite_finds_places_between_the_cells():
    side = 56
    grid = torch.arange(side) + 0.5
    x, y = 20.8, 33.3
    maps = -((grid - x) ** 2 + (grid[:, None] - y) ** 2)[None, None] / 2
    places, _ = LiteKeypointHead.read(None, maps, torch.tensor([[10.0, 20, 66, 132]]))
    assert places[0, 0].tolist() == pytest.approx([10 + x, 20 + 2 * y], abs=0.2)


def person(count: int, seed: int) -> Instances:
    rng = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 17, 3, generator=rng) * torch.tensor([300, 200, 0])
    points[..., 2] = torch.randint(0, 3, (count, 17), generator=rng)
    points *= (points[..., 2:] > 0).float()
    boxes = torch.tensor([[0.0, 0, 300, 200]]).repeat(count, 1)
    labels = torch.zeros(count, dtype=torch.int64)
    crowd = torch.zeros(count, dtype=torch.bool)
    return Instances(boxes, labels, crowd=crowd, fields={"keypoints": Keypoints(points)})


def test_oks_ap_is_that_of_pycocotools_also_of_drawn_images():
    """Guesses of falling quality on five images, with an object without labelled keypoints. Resamples, for
    the intervals of `compare`, score as if the images were there as often."""
    info, rng = official_info("coco_person"), torch.Generator().manual_seed(9)
    metric, half = (build_metric(info=info, resample=True) for _ in range(2))
    drawn, times = build_metric(info=info), [[1, 1, 1, 1, 1], [2, 0, 1, 0, 2]]
    annotations, results = [], []
    for key in range(1, 6):
        truth = person(4, key)
        truth.fields["keypoints"].points[0, :, 2] *= key != 2
        noise = torch.randn(4, 17, 3, generator=rng) * torch.tensor([1, 1, 0]) * torch.arange(0, 40, 10)[:, None, None]
        guess = Keypoints(truth.fields["keypoints"].points + noise)
        scores = torch.rand(4, generator=rng)
        found = Instances(truth.boxes, truth.labels, scores=scores, fields={"keypoints": guess})
        pair = lambda k, f=found, t=truth: ([Prediction(k, (200, 300), f)], [Target(k, (200, 300), t)])
        (metric if key < 3 else half).update(*pair(key))
        for copy in range(times[1][key - 1]):
            drawn.update(*pair(10 * key + copy))
        for i in range(4):
            points = truth.fields["keypoints"].points[i]
            common = {"image_id": key, "category_id": 1, "keypoints": points.double().ravel().tolist()}
            common |= {"bbox": [0, 0, 300, 200], "area": 60000, "iscrowd": 0, "id": len(annotations) + 1}
            annotations.append({**common, "num_keypoints": int((points[:, 2] > 0).sum())})
            results.append(
                {
                    **{"image_id": key, "category_id": 1, "score": scores[i].item()},
                    "keypoints": guess.points[i].double().ravel().tolist(),
                }
            )
    oracle = COCO()
    images = [{"id": key, "height": 200, "width": 300} for key in range(1, 6)]
    oracle.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    oracle.createIndex()
    evaluation = COCOeval(oracle, oracle.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metric.merge(half)
    scores, found = metric.compute(), metric.replicates(np.array(times, np.float32))
    assert {k: v[0] for k, v in found.items()} == pytest.approx(scores, abs=1e-6)
    assert {k: v[1] for k, v in found.items()} == pytest.approx(drawn.compute(), abs=1e-6)
    assert 0.1 < scores["keypoints_AP"] < 0.95
    assert scores == pytest.approx({"keypoints_AP": evaluation.stats[0], "keypoints_AP50": evaluation.stats[1]})
    assert metric.per_class()["person"] == pytest.approx(scores)


def test_deviations_of_people_are_for_people_alone():
    """17 points of another animal differ from COCO's 17; spelling does not."""
    joints = official_info("coco_person").categories[0].keypoints
    of = lambda *names: deviations(
        DatasetInfo("d", tuple(Category(f"c{i}", i, keypoints=n) for i, n in enumerate(names)), {})
    )
    assert of(joints) == hotcoco.Params("keypoints").kpt_oks_sigmas
    assert of(tuple(name.replace("_", " ").title() for name in joints)) == of(joints) == of(joints, ())
    animal = ("left_eye", "right_eye", "nose", "neck", "tail", *(f"paw_{i}" for i in range(12)))
    assert of(animal) == of(joints[::-1]) == of(joints, animal) == pytest.approx([0.06694] * 17, abs=1e-5)


def test_predictions_are_stored_by_class_and_read_back():
    found = Instances(torch.ones(3, 4), torch.tensor([0, 1, 0]), torch.ones(3), fields={"keypoints": field()})
    entries = coco_results(Prediction(1, (64, 64), found), INFO)
    assert [len(e["keypoints"]) for e in entries] == [9, 3, 9]
    again = Keypoints.read(entries, ORIGIN)
    assert torch.equal(again.points, field().points)


def test_skeletons_are_drawn_over_the_image():
    image = np.full((64, 64, 3), 128, np.uint8)
    boxes = torch.tensor([[2.0, 2, 40, 40], [20, 20, 60, 60], [1, 1, 30, 30]])
    plain = Instances(boxes, torch.tensor([0, 1, 0]))
    drawn = dataclasses.replace(plain, fields={"keypoints": field()})
    before, after = (draw(image, Target(1, (64, 64), i), INFO, labels=False) for i in (plain, drawn))
    changed = (before != after).any(-1)
    scale = before.shape[0] // 64
    assert changed[scale * 12 : scale * 14, scale * 7 : scale * 8].any()  # on the line from nose to left ear
    assert changed[scale * 31, scale * 30]
    assert not changed[: scale * 3].any()  # nothing at (0, 0), where unlabelled keypoints are stored


def test_the_joints_of_official_weights():
    person = official_info("coco_person").categories[0]
    joints = person.keypoints
    assert (len(joints), len(person.skeleton)) == (17, 19)
    assert all(joints[a].replace("left", "right") == joints[b] for a, b in person.flip_pairs)


@pytest.mark.parametrize(("model", "box"), [("rcnn", "box"), ("rcnn_lite", "iou_box")])
@pytest.mark.parametrize(("task", "heads"), [("instance", 1), ("instance", 0), ("keypoints", 1)])
def test_a_recipe_with_too_few_heads_is_shown_those_that_its_model_has(model, box, task, heads):
    """The hint, taken word for word, builds."""
    settings = {
        "name": model,
        "backbone": {"name": "timm", "model": "test_resnet"},
        "heads": {box: {}} if heads else {},
    }
    given = {"task": task, "num_classes": 2, "num_things": 2, "num_keypoints": 3}
    with pytest.raises(UsageError) as refused:
        build_model(settings, **given)
    advised = yaml.safe_load(refused.value.hint)["model.heads"]
    assert build_model({**settings, "heads": advised}, **given)
