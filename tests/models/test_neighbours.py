"""A lite model says the same of an image whoever else is in the batch, and in training it sees the same canvas."""

import numpy as np
import pytest
import torch

from segcli.engine.opening import prepare_layout
from segcli.models import build_model
from segcli.types import Batch

RESNET = {"name": "resnet", "depth": 18}
BOXES = {"queries": 20, "levels": 3, "boxes": {"selection": True}}
BOXES["transformer"] = {"dim": 32, "heads": 4, "ffn": 32, "encoder_layers": 1, "decoder_layers": 2}
DECODER = {"dim": 32, "heads": 4, "ffn": 32, "decoder_layers": 1}
MODELS = {
    "mask_rcnn": ("instance", {"name": "rcnn_lite", "width": 32, "heads": {"iou_box": {}, "lite_mask": {}}}),
    "detr": ("detection", {"name": "detr_lite", **BOXES}),
    "maskformer": ("panoptic", {"name": "maskformer_lite", "kernels": True, **BOXES}),
    "maskformer_semantic": ("semantic", {"name": "mask2former_lite", "queries": 4, "transformer": DECODER}),
    "per_pixel": ("semantic", {"name": "per_pixel", "dim": 32}),
    "per_pixel_plus": ("semantic", {"name": "per_pixel_plus", **DECODER}),
}
SHAPES = [(60, 24), (24, 60), (64, 64), (50, 61)]


def outputs(model, images):
    """What the model says of each image before anything is decided: class scores, boxes, masks as far as there are."""
    pre = model.preprocess
    tensors = [pre.image(i) for i in images]
    padded, padding = pre.pad(tensors)
    sizes, originals = [(t.shape[1], t.shape[2]) for t in tensors], [i.shape[:2] for i in images]
    batch = Batch(padded, padding, sizes, originals, list(range(len(images))))
    found = model.inspect(batch)
    keys = ("class_probabilities", "boxes", "mask_logits", "probabilities", "pixels")
    values = [found[k] for k in keys if k in found]
    values += list((found.get("proposal_outputs") or {}).values())[:2]
    return values


@pytest.mark.parametrize("size", [64, (40, 64)])
@pytest.mark.parametrize("name", MODELS)
def test_an_image_is_seen_alone_as_beside_others(name, size):
    task, settings = MODELS[name]
    if size != 64 and name not in ("mask_rcnn", "detr", "maskformer"):
        pytest.skip("with two numbers these are the official models, which pad as their references do")
    torch.manual_seed(0)
    model = build_model({"backbone": RESNET, **settings}, task=task, num_classes=4, num_things=2)
    model.preprocess = model.preprocess.with_size(size)
    prepare_layout(model.eval())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in SHAPES]
    with torch.inference_mode():
        together = outputs(model, images)
        pair = outputs(model, images[1::-1])
        for i, image in enumerate(images):
            for whole, own in zip(together, outputs(model, [image]), strict=True):
                torch.testing.assert_close(whole[i], own[0], rtol=1e-4, atol=1e-5)
        for whole, two in zip(together, pair, strict=True):
            torch.testing.assert_close(whole[0], two[1], rtol=1e-4, atol=1e-5)
    assert together
    assert model.preprocess.canvas([(10, 64)]) == model.preprocess.canvas([(64, 10), (30, 30)]) == (64, 64)
