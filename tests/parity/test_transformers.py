"""Models of the library `transformers` beside the library itself: the same checkpoint, opened by each, gives the same
outputs and losses, and the same predictions by the library's own post-processing."""

import copy
import dataclasses

import numpy as np
import pytest
import tiny_checkpoints
import torch
import torch.nn.functional as F
import transformers
from batches import batch
from transformers.utils import ModelOutput

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.engine.checkpoint import initialise
from segcli.models import build_model
from segcli.models.transformers.architectures import KINDS, MASKED_BOXES, PIXELS, SEGMENTS, TASKS_OF
from segcli.types import IGNORE, Batch

SEGMENTED = [name for name, kind in KINDS.items() if kind == SEGMENTS]
MASK2FORMER = "Mask2FormerForUniversalSegmentation"
CASES = [(name, TASKS_OF[kind][-1]) for name, kind in KINDS.items()]
CASES += [(MASK2FORMER, task) for task in TASKS_OF[SEGMENTS][:-1]]


def model_of(folder, task):
    """With the checkpoint's weights."""
    settings = {"name": "transformers", "checkpoint": str(folder)}
    model = build_model(settings, task=task, num_classes=3, num_things=2 if task == "panoptic" else 3)
    initialise(model, DatasetInfo("d", tuple(Category(n, i) for i, n in tiny_checkpoints.NAMES.items()), {}))
    return model.eval()


def full_canvas(images_BCHW, original=(96, 96)):
    """Two images that fill the canvas, with objects and stuff on it."""
    side = images_BCHW.shape[2]
    targets = []
    for target in batch((3, 2)).targets:
        height, width = target.size
        room = (0, 96 - width, 0, 96 - height)
        instances = dataclasses.replace(target.instances, masks=F.pad(target.instances.masks, room))
        semantic = F.pad(target.semantic, room, value=IGNORE)
        targets.append(dataclasses.replace(target, size=(96, 96), instances=instances, semantic=semantic))
    padding = torch.zeros(2, side, side, dtype=torch.bool)
    return Batch(images_BCHW, padding, [(side, side)] * 2, [original] * 2, [7, 8], targets, [1, 2])


def noise(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def shares(target, side):
    x1, y1, x2, y2 = (target.instances.boxes / side).unbind(1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)


def library_labels(full, kind, task, side):
    if kind == PIXELS:
        return {"labels": torch.stack([t.semantic for t in full.targets])}
    if kind == SEGMENTS:
        classes, masks = zip(*[labelled_segments(target, task) for target in full.targets], strict=True)
        return {"class_labels": list(classes), "mask_labels": [m.float() for m in masks]}
    of = side if kind == MASKED_BOXES else 96  # what boxes are shares of
    labels = [{"class_labels": t.instances.labels, "boxes": shares(t, of)} for t in full.targets]
    if kind == MASKED_BOXES:
        for label, target in zip(labels, full.targets, strict=True):
            label["masks"] = F.pad(target.instances.masks.float(), (0, side - 96, 0, side - 96))
    return {"labels": labels}


def labelled_segments(target, task):
    if task == "semantic":
        classes = target.semantic[target.semantic != IGNORE].unique()
        return classes, target.semantic == classes[:, None, None]
    classes, masks = target.instances.labels, target.instances.masks
    if task == "instance":
        return classes, masks
    return torch.cat([classes, torch.tensor([2])]), torch.cat([masks, (target.semantic == 2)[None]])


OUTPUTS = ("logits", "pred_boxes", "pred_masks", "class_queries_logits", "masks_queries_logits")


@pytest.mark.parametrize(("name", "task"), CASES)
@torch.no_grad()
def test_losses_and_outputs_are_the_librarys_own(checkpoint, name, task):
    """Of the same checkpoint, opened by the library."""
    folder, kind = checkpoint(name), KINDS[name]
    model = model_of(folder, task)
    reference = getattr(transformers, name).from_pretrained(folder).eval()
    side = (model.preprocess.stretch or (96, 96))[0]  # of the canvas, which can be larger than the images on it
    full = full_canvas(F.pad(noise(96), (0, side - 96, 0, side - 96)))
    full = dataclasses.replace(full, sizes=[(96, 96)] * 2)
    torch.manual_seed(5)  # of the points that mask losses are read at
    mine = model(full)["total"].item()
    torch.manual_seed(5)
    theirs = reference(pixel_values=full.images, **library_labels(full, kind, task, side))
    assert mine == pytest.approx(theirs.loss.sum().item(), rel=1e-5)
    assert mine > 0.1
    out, compared = model.run(full), [key for key in OUTPUTS if key in theirs]
    assert compared
    for key in compared:
        torch.testing.assert_close(out[key], theirs[key], rtol=1e-5, atol=1e-5)


def largest_first(scores, labels, areas):
    return np.array(sorted(zip(scores, labels, areas, strict=True), reverse=True), float)


@pytest.mark.parametrize(
    ("name", "task"),
    [(MASK2FORMER, "instance"), *((n, TASKS_OF[kind][-1]) for n, kind in KINDS.items() if kind != SEGMENTS)],
)
@torch.inference_mode()
def test_predictions_are_those_of_the_librarys_post_processing(checkpoint, name, task):
    """On images of 384 pixels, the size that the library takes masks over."""
    model, original = model_of(checkpoint(name), task), (384, 384)
    model.max_detections = 1000 if task == "detection" else model.queries or 0  # as many as the library gives
    images = noise((model.preprocess.stretch or original)[0])
    found, out = model.predict(full_canvas(images, original)), model.net(pixel_values=images)
    process, given = model.reader or model.processor, {"target_sizes": [original] * 2}
    if task == "semantic":
        for p, expected in zip(found, process.post_process_semantic_segmentation(out, **given), strict=True):
            assert (torch.from_numpy(p.semantic.astype(int)) == expected).float().mean() > 0.9999
        return
    if task == "detection":
        for p, expected in zip(found, process.post_process_object_detection(out, threshold=0.0, **given), strict=True):
            best_first = expected["scores"].argsort(descending=True, stable=True)
            assert len(best_first) >= 10
            assert p.instances.labels.tolist() == expected["labels"][best_first].tolist()
            assert torch.allclose(p.instances.scores, expected["scores"][best_first], atol=1e-5)
            assert torch.allclose(p.instances.boxes, expected["boxes"][best_first].clamp(0, 384), atol=1e-2)
        return
    masks = process.post_process_instance_segmentation(out, threshold=0.0, return_binary_maps=True, **given)
    for p, expected in zip(found, masks, strict=True):
        parts = expected["segments_info"]
        areas = [int(mask.sum()) for mask in expected["segmentation"]]
        theirs = largest_first([s["score"] for s in parts], [s["label_id"] for s in parts], areas)
        own = p.instances
        mine = largest_first(own.scores.tolist(), own.labels.tolist(), [own.mask(i).sum() for i in range(len(own))])
        assert len(mine) == len(theirs) > 0
        assert np.allclose(mine[:, 0], theirs[:, 0], atol=2e-5)
        assert np.allclose(mine[:, 2].sum(), theirs[:, 2].sum(), rtol=1e-3)


def outputs(side, sureness, queries=12):
    """Of two images: classes, the last of which is no object, and masks of a few cells each, which overlap."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 4, (2, queries), generator=generator)
    owner = torch.randint(0, queries, (2, 6, 6), generator=generator)
    noise = torch.randn(2, queries, 6, 6, generator=generator)
    masks = 5.0 * F.one_hot(owner, queries).permute(0, 3, 1, 2) - 3 + noise
    masks = F.interpolate(masks, size=(side, side), mode="bicubic")
    classes = sureness * F.one_hot(labels, 4) + torch.randn(2, queries, 4, generator=generator)
    return ModelOutput(class_queries_logits=classes, masks_queries_logits=masks, patch_offsets=None)


@pytest.mark.parametrize("name", [n for n in SEGMENTED if n.startswith("Eomt")])
def test_panoptic_maps_of_eomt_are_the_librarys(checkpoint, name):
    """On images that do not fill the canvas, and with doubts about classes."""
    model, originals = model_of(checkpoint(name), "panoptic"), [(123, 101), (70, 105)]
    out = outputs(24, sureness=4.0)
    sizes = [model.preprocess.output_size(*size) for size in originals]
    images = torch.zeros(2, 3, 96, 96)
    given = Batch(images, torch.zeros(2, 96, 96, dtype=torch.bool), sizes, originals, [7, 8], None, [1, 2])
    theirs = model.processor.post_process_panoptic_segmentation(out, originals, stuff_classes=[2])
    for found, expected in zip(model._read(out, given), theirs, strict=True):
        segments = [(s["id"] + 1, s["label_id"]) for s in expected["segments_info"]]
        assert len(segments) >= 2
        assert [(s.id, s.label) for s in found.panoptic.segments] == segments
        assert (torch.from_numpy(found.panoptic.ids) == expected["segmentation"] + 1).float().mean() > 0.9999


@pytest.mark.parametrize("name", [n for n in SEGMENTED if not n.startswith("Eomt")])
def test_panoptic_maps_of_maskformers_are_the_librarys_but_for_its_deviations(checkpoint, name):
    """Without stuff, with scores of 1 and at 384 pixels it has one alone: of Mask2Former, pixels outside the mask."""
    settings = {"name": "transformers", "checkpoint": str(checkpoint(name))}
    model, side = build_model(settings, task="panoptic", num_classes=3, num_things=3), 384
    out = outputs(side, sureness=60.0)
    theirs = model.processor.post_process_panoptic_segmentation(
        copy.deepcopy(out), threshold=0.8, target_sizes=[(side, side)] * 2
    )
    batch = full_canvas(torch.zeros(2, 3, side, side), (side, side))
    for i, (found, expected) in enumerate(zip(model._read(out, batch), theirs, strict=True)):
        ids, mine = expected["segmentation"].long(), torch.from_numpy(found.panoptic.ids).long()
        segments = [(s["id"], s["label_id"]) for s in expected["segments_info"]]
        assert len(segments) >= 2
        assert [(s.id, s.label) for s in found.panoptic.segments] == segments
        if name == MASK2FORMER:
            known = out.class_queries_logits[i].argmax(-1) != 3
            ids = ids * (out.masks_queries_logits[i][known] >= 0).any(0)  # with equal scores the largest mask wins
        assert (mine == ids).float().mean() > 0.9999
