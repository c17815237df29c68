"""Every view draws, of every family that has it; what is shown is what the losses use."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import LAYERS, TRUNK, batch, rectangles, small_detr, small_maskformer
from explained import CHOSEN, LITE, PIXELS, SMALL, opened
from scipy.optimize import linear_sum_assignment

import segcli
from segcli.core import plugins
from segcli.explain.explain import available, look, views_named
from segcli.explain.page import Section, explain_page
from segcli.explain.sheet import sheet
from segcli.fields.mesh import PosedMeshes
from segcli.models import build_model
from segcli.ops.matcher import total
from segcli.predictions.meshes import before_camera
from segcli.types import Instances, Target, encode_masks

MODELS = [  # (task, model, views that it must have)
    ("instance", {"name": "rcnn", "backbone": TRUNK, "heads": {"box": {"width": 32}, "mask": {"width": 32}}}, "paste"),
    ("instance", {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_mask": {}}}, "mask_channels"),
    ("keypoints", {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_keypoint": {}}}, "keypoint_maps"),
    ("densepose", {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_densepose": {}}}, "densepose_maps"),
    ("mesh", {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_mesh": {"grid": 4}}}, "mesh_stages"),
    ("detection", {"name": "detr", **SMALL}, "self_attention positions matching duplicates query_attention layers"),
    ("detection", {"name": "detr_lite", **CHOSEN}, "sampling_points matching self_attention"),
    ("detection", {"name": "detr_lite", **SMALL}, "query_attention"),
    ("panoptic", {"name": "maskformer", **SMALL, "transformer": LAYERS}, "dot_product query_masks matching readings"),
    ("instance", {"name": "maskformer_lite", **CHOSEN}, "dot_product sampling_points readings"),
    ("semantic", {"name": "per_pixel", "backbone": TRUNK}, "class_maps entropy features"),
]


def labels(count=2):
    xyxy = torch.tensor([[10.0, 8, 50, 60], [60, 20, 110, 66]])[:count]
    masks = rectangles(xyxy, (72, 120))
    semantic = torch.full((72, 120), 2)
    for k, mask in enumerate(masks):
        semantic[mask] = k
    kept = Instances(xyxy, torch.arange(count), masks=encode_masks(masks.numpy()))
    return Target(5, (72, 120), kept, semantic)


def alike(one, other):
    """The same prediction, up to rounding."""
    assert one.size == other.size
    for kind in ("instances", "semantic", "panoptic"):
        assert (getattr(one, kind) is None) == (getattr(other, kind) is None), kind
    if one.instances is not None:
        torch.testing.assert_close(one.instances.scores, other.instances.scores, atol=1e-4, rtol=0)
        assert [*one.instances.fields] == [*other.instances.fields]
        assert (one.instances.masks is None) == (other.instances.masks is None)
    if one.semantic is not None:
        assert (one.semantic == other.semantic).mean() > 0.99
    if one.panoptic is not None:
        assert (one.panoptic.ids == other.panoptic.ids).mean() > 0.99


@pytest.mark.parametrize(("task", "settings", "expected"), MODELS)
def test_every_view_of_a_model_draws_and_is_on_the_page(task, settings, expected):
    model, passes = opened(task, settings), []
    model.model.trunk().register_forward_hook(lambda *_: passes.append(1))
    scene = look(model, PIXELS, None if model.model.fields else labels(), 0.5)
    assert len(passes) == 1  # what it has inside and what it predicts are of one pass
    with torch.inference_mode():
        alike(scene.prediction, model.model.predict(scene.batch)[0])
    views = available(scene, views_named(()), named=False)
    assert set(expected.split()) | {"features"} <= views.keys()
    sections = [Section(name, view, view.shown(scene)) for name, view in views.items()]
    for name, view, shown in sections:
        assert shown.pictures or shown.facts, name
        assert sheet(view, shown).shape[1:] == (1600, 3)
    page = explain_page("a <title>", scene, sections)
    assert len(page) < 10e6
    assert "<title>a &lt;title&gt;</title>" in page
    assert all(f'"name":"{name}"' in page for name in views)


def test_every_view_is_of_some_model_above():
    named = {name for *_, views in MODELS for name in views.split()}
    assert named | {"features", "proposals", "roi_align", "pixel_embeddings", "query_scores", "query_places"} == {
        *plugins.names("view")
    }


def test_the_last_stage_of_a_mesh_is_the_predicted_one():
    settings = {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_mesh": {"grid": 4, "stages": 2}}}
    scene = look(opened("mesh", settings), PIXELS, None, 0.5)
    meshes = views_named(["mesh_stages"])["mesh_stages"].shown(scene).widgets[0].meshes
    first, *_, last = (name for name in meshes if name.startswith("1: "))
    field, order = PosedMeshes.of(scene.prediction.instances), scene.prediction.instances.scores.argmax()
    [(points, faces)] = before_camera(field[order[None]], scene.prediction.size)
    np.testing.assert_allclose(meshes[last][0], points, atol=1e-5)
    assert np.array_equal(meshes[last][1], faces)
    assert np.array_equal(meshes[first][1], faces)  # stages move vertices alone


def test_every_view_names_code_that_can_be_read():
    for name, view in views_named(()).items():
        path, _, function = view.place.partition(": ")
        line, text = view.source()
        lines = (Path(segcli.__file__).parents[1] / path).read_text(encoding="utf-8").splitlines()
        assert text.splitlines()[0] == lines[line - 1].strip(), name
        assert f"def {function.split('.')[-1]}(" in text, name


@pytest.mark.parametrize("count", [0, 2])
def test_images_with_no_object_and_with_more_than_queries(count):
    model = opened("detection", {"name": "detr", **SMALL, "queries": 1})
    if count:
        with pytest.warns(UserWarning, match="2 objects and model.queries is 1"):
            scene = look(model, PIXELS, labels(count), 0.5)
    else:
        scene = look(model, PIXELS, labels(count), 0.5)
    shown = views_named(["matching"])["matching"].shown(scene)
    assert ("no labelled object" if not count else "1 teach nothing") in " ".join(shown.facts)


@pytest.mark.parametrize("family", ["detr", "maskformer", "detr_lite"])
def test_the_matching_that_is_shown_is_the_one_that_the_losses_use(family):
    if family == "detr_lite":
        torch.manual_seed(0)
        model = build_model({"name": "detr_lite", **CHOSEN}, task="detection", num_classes=4, num_things=2)
    else:
        model = small_detr("detection") if family == "detr" else small_maskformer("instance")
    one, used = batch((3, 2)), []
    model.eval()
    match = model.match
    model.match = lambda *given: used.append(match(*given)) or used[-1]
    with torch.no_grad():
        model(one)  # the losses
        found = model.inspect(one)
    layers = int(used[0].layer.max()) + 1
    before = 0
    for i, (queries, objects) in enumerate(found["matching"]):
        expected = used[0].pairs(layers - 1, i)
        assert torch.equal(queries, expected[0])
        assert torch.equal(objects, expected[1])
        cost = total(found["costs"][i])
        assert len(found["costs"][i]) == 3
        rows, columns = linear_sum_assignment(cost.numpy())
        assert (rows.tolist(), (columns + before).tolist()) == (queries.tolist(), objects.tolist())
        before += cost.shape[1]
    assert before == 5


def test_boxes_of_the_last_layer_are_those_of_the_prediction():
    model = opened("detection", {"name": "detr", **SMALL})
    scene = look(model, PIXELS, None, 0.5)
    order, scores, _ = scene.queries()
    found = scene.prediction.instances
    order, scores = order[: len(found)], scores[: len(found)]
    assert len(found) == 3  # of nine queries: the recipe's max_detections
    shown = scene.tensor("layer_boxes")[-1, 0][order] * (PIXELS.shape[1] / scene.size[1])
    torch.testing.assert_close(found.scores, scores)
    inside = shown.clamp(min=0).minimum(torch.tensor([120.0, 72, 120, 72]))
    torch.testing.assert_close(found.boxes, inside, atol=0.5, rtol=0)


def test_objects_have_the_scores_and_the_order_of_the_prediction():
    """Heads may change scores, as the lite mask head does."""
    model = opened("instance", {"name": "rcnn_lite", **LITE, "heads": {"iou_box": {}, "lite_mask": {}}})
    scene = look(model, np.random.default_rng(0).integers(0, 255, (72, 120, 3), np.uint8), None, 0.0)
    found = scene.inside["detections"][0]
    quality = found.extra["mask_quality"]
    quality = torch.linspace(0.1, 1, len(quality))
    predicted = scene.prediction.instances
    finished = (found.scores * quality).sort(descending=True)
    scene = dataclasses.replace(
        scene,
        prediction=dataclasses.replace(
            scene.prediction,
            instances=dataclasses.replace(
                predicted,
                boxes=found.boxes[finished.indices] * (120 / scene.size[1]),
                labels=found.labels[finished.indices],
                scores=finished.values,
                masks=None,
            ),
        ),
    )
    named = scene.objects()
    assert [n for n, _, _ in named] == finished.indices[:8].tolist()
    assert [text for _, _, text in named] == [
        f"{k}: {scene.name(int(found.labels[n]), float(score))}"
        for k, (n, score) in enumerate(zip(finished.indices[:8].tolist(), finished.values.tolist(), strict=False), 1)
    ]
    assert [n for n, _, _ in scene.objects(2)] == [n for n in finished.indices.tolist() if n < 2]
    above = dataclasses.replace(scene, score=float(finished.values[1]))
    assert above.shown().tolist() == finished.indices[:2].tolist()
    assert len(dataclasses.replace(scene, score=1.0).shown()) == 1
