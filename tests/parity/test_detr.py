"""DETR equals transformers' DETR: random weights and statistics, padded batches, sizes that 32 does not divide."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from segcli.models import build_model
from segcli.models.detr.detector import padding
from segcli.models.detr.set_loss import last_layer
from segcli.ops import boxes
from segcli.types import Batch, Instances, Target
from segcli.weights.huggingface_detr import to_official

transformers = pytest.importorskip("transformers", reason="parity is measured against transformers")
from transformers.loss import loss_for_object_detection as reference_loss  # noqa: E402

SIZES = [(203, 170), (150, 267), (203, 267)]  # of the images on a canvas of 203×267
CLASSES = 7


def randomise(module: torch.nn.Module) -> None:
    """Statistics, affine parameters and biases that a fresh model has at 0 and 1; attention that is not uniform."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "bias")):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
        elif name.endswith(("running_var", "weight")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "query_position" in name:
            parameter.data.copy_(noise)
        elif parameter.ndim == 2:
            # sharp attention and a strong residual path: otherwise deep stacks make all tokens and queries alike
            gain = (
                3.0 if ".q_proj" in name or ".k_proj" in name else 0.3 if ".o_proj" in name or ".fc2" in name else 1.4
            )
            parameter.data.copy_(noise * gain / parameter.shape[1] ** 0.5)
        elif "norm" in name or name.endswith("bias"):
            parameter.data.add_(noise * 0.1)
        elif "mask_head.conv1.conv" in name:
            parameter.data[:, -8:] *= 300  # of the 8 attention maps, whose values are around 1/(8·T)


def pair(task: str, *, full: bool = False, auxiliary: bool = False):
    """(transformers' model, ours with its weights), in evaluation mode."""
    torch.manual_seed(0)
    small = {} if full else {"d_model": 128, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "num_queries": 15}
    layers = {} if full else {"encoder_layers": 2, "decoder_layers": 3}
    config = transformers.DetrConfig(
        backbone="resnet50" if full else "resnet18",
        use_pretrained_backbone=False,
        num_labels=CLASSES,
        auxiliary_loss=auxiliary,
        **small,
        **layers,
    )
    kind = transformers.DetrForObjectDetection if task == "detection" else transformers.DetrForSegmentation
    theirs = kind(config).eval()
    randomise(theirs)
    size = {} if full else {"queries": 15, "transformer": {"dim": 128, "ffn": 96, **layers}}
    backbone = {"name": "resnet", "depth": 50 if full else 18}
    ours = build_model(
        {"name": "detr", "backbone": backbone, **size}, task=task, num_classes=CLASSES, num_things=CLASSES
    ).eval()
    ours.load_state_dict(to_official(theirs.state_dict()))
    return theirs, ours


def padded_batch(masks: bool = False, counts: tuple[int, ...] = (4, 0, 2)) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images, pads, targets = [], [], []
    canvas = (max(h for h, _ in SIZES), max(w for _, w in SIZES))
    for i, ((h, w), n) in enumerate(zip(SIZES, counts, strict=True)):
        image = torch.zeros(3, *canvas)
        image[:, :h, :w] = torch.randn(3, h, w, generator=generator)
        pad = torch.ones(canvas, dtype=torch.bool)
        pad[:h, :w] = False
        low = torch.rand(n, 2, generator=generator) * torch.tensor([w, h]) * 0.5
        high = low + 8 + torch.rand(n, 2, generator=generator) * torch.tensor([w, h]) * 0.4
        xyxy = torch.cat([low, high], 1).round()
        shapes = torch.zeros(n, h, w, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(shapes, xyxy.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = torch.rand(y2 - y1, x2 - x1, generator=generator) > 0.2
        labels = torch.randint(CLASSES, (n,), generator=generator)
        targets.append(Target(i, (h, w), Instances(xyxy, labels, masks=shapes if masks else None)))
        images.append(image)
        pads.append(pad)
    return Batch(torch.stack(images), torch.stack(pads), SIZES, [(h * 2, w * 3) for h, w in SIZES], [0, 1, 2], targets)


def their_labels(batch: Batch) -> list[dict[str, Tensor]]:
    return [
        {
            "class_labels": t.instances.labels,
            "boxes": boxes.to_cxcywh(t.instances.boxes / torch.tensor([t.size[1], t.size[0]] * 2)),
            "masks": t.instances.masks,
        }
        for t in batch.targets
    ]


def assert_diverse(values_BQx: Tensor) -> None:
    """Images and queries differ by far more than the tolerance, or equal values would prove little."""
    scale = values_BQx.abs().max()
    assert (values_BQx[0] - values_BQx[-1]).abs().max() > 0.01 * scale
    assert (values_BQx[:, 0] - values_BQx[:, 1]).abs().max() > 0.01 * scale


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-4 of the largest value."""
    assert ours.shape == theirs.shape
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() < 1e-4


@pytest.mark.parametrize("full", [False, True], ids=["small", "r50"])
@torch.no_grad()
def test_logits_and_boxes(full: bool):
    theirs, ours = pair("detection", full=full)
    batch = padded_batch()
    expected = theirs(pixel_values=batch.images, pixel_mask=(~batch.padding).long())
    found = ours.run(batch.images, padding(batch), every_layer=False)
    assert_diverse(expected.logits)
    assert_diverse(expected.pred_boxes)
    assert_close(found.logits[-1], expected.logits)
    assert_close(found.boxes[-1], expected.pred_boxes)


@torch.no_grad()
def test_the_attention_that_is_shown_is_the_attention_that_is_computed():
    theirs, ours = pair("detection")
    theirs.set_attn_implementation("eager")  # fused attention gives no weights
    batch = padded_batch()
    pixel_mask = (~batch.padding).long()
    expected = theirs(pixel_values=batch.images, pixel_mask=pixel_mask, output_attentions=True)
    found = ours.inspect(batch)
    shown = found["encoder_attention"].flatten(-2)  # of the last layer
    assert_diverse(expected.encoder_attentions[-1])
    assert_close(shown, expected.encoder_attentions[-1])
    assert_close(found["decoder_attention"].flatten(-2), torch.stack(expected.cross_attentions))
    assert_close(found["query_attention"].flatten(-2), expected.cross_attentions[-1].mean(1))
    assert_close(found["class_probabilities"], expected.logits.softmax(-1))


@torch.no_grad()
def test_an_image_without_padding_needs_no_mask():
    theirs, ours = pair("detection")
    images = padded_batch().images[2:]
    expected = theirs(pixel_values=images)
    logits, found = ours.network(images)
    assert_close(logits, expected.logits)
    assert_close(found, expected.pred_boxes)


@torch.no_grad()
def test_masks_of_every_query():
    theirs, ours = pair("instance")
    batch = padded_batch()
    expected = theirs(pixel_values=batch.images, pixel_mask=(~batch.padding).long())
    found = ours.detr.run(batch.images, padding(batch), every_layer=False)
    assert_close(found.logits[-1], expected.logits)
    rows = torch.arange(3 * 15)
    masks = ours.masks(found, rows // 15, rows % 15).unflatten(0, (3, 15))
    assert_diverse(expected.pred_masks)
    assert_close(masks, expected.pred_masks)
    # what the paper counts is the same function by another order of work
    attention = ours.bbox_attention(found.queries, found.memory, found.size, found.mask)
    plain = ours.mask_head.plain(found.projected, attention, found.features[-2:-5:-1])
    assert_close(plain.unflatten(0, (3, 15)), expected.pred_masks)


@pytest.mark.parametrize("counts", [(4, 0, 2), (0, 0, 0), (1, 20, 0)], ids=["usual", "empty", "more than queries"])
@pytest.mark.filterwarnings("ignore:image 1 has 20 objects")
@torch.no_grad()
def test_matching_and_losses_of_every_layer(counts):
    # transformers feeds each layer's normed output to the next one when it computes auxiliary losses, which the
    # official code does not; so its losses are given our outputs
    theirs, ours = pair("detection", auxiliary=True)
    batch = padded_batch(counts=counts)
    labels = their_labels(batch)
    found = ours.run(batch.images, padding(batch), every_layer=True)
    _, expected, _ = reference_loss.ForObjectDetectionLoss(
        found.logits[-1], labels, "cpu", found.boxes[-1], theirs.config, found.logits, found.boxes
    )
    wanted = ours.targets(batch)
    matching = ours.match(found, wanted, batch)
    matcher = reference_loss.HungarianMatcher(1, 5, 2)
    for layer in range(3):
        pairs = matcher({"logits": found.logits[layer], "pred_boxes": found.boxes[layer]}, labels)
        first = np.cumsum([0, *counts])
        for i, (query, target) in enumerate(pairs):
            own = matching.pairs(layer, i)
            assert own[0].tolist() == query.tolist()
            assert (own[1] - first[i]).tolist() == target.tolist()
    losses = ours(batch)
    for name, key, weight in [("class", "loss_ce", 1), ("l1", "loss_bbox", 5), ("giou", "loss_giou", 2)]:
        torch.testing.assert_close(losses[name], expected[key] * weight, rtol=1e-4, atol=1e-5)
        auxiliary = expected[f"{key}_0"] + expected[f"{key}_1"]
        torch.testing.assert_close(losses[f"{name}_aux"], auxiliary * weight, rtol=1e-4, atol=1e-5)


def test_losses_and_gradients_with_masks_end_to_end():
    """In double precision: in single, an activation that rounds to the other side of a ReLU's kink moves a gradient."""
    theirs, ours = (model.double() for model in pair("instance"))
    batch = padded_batch(masks=True)
    batch = dataclasses.replace(batch, images=batch.images.double())
    ours.detr.loss = dataclasses.replace(ours.detr.loss, auxiliary=False)
    labels = [{**label, "boxes": label["boxes"].double()} for label in their_labels(batch)]
    torch.set_default_dtype(torch.float64)  # for the tensors that transformers makes on its way
    try:
        expected = theirs(pixel_values=batch.images, pixel_mask=(~batch.padding).long(), labels=labels)
    finally:
        torch.set_default_dtype(torch.float32)
    losses = ours(batch)
    names = {"class": ("loss_ce", 1), "l1": ("loss_bbox", 5), "giou": ("loss_giou", 2), "mask": ("loss_mask", 1)}
    for name, (key, weight) in {**names, "dice": ("loss_dice", 1)}.items():
        torch.testing.assert_close(losses[name].double(), expected.loss_dict[key] * weight, rtol=1e-4, atol=1e-5)
    torch.stack([value.double() for value in losses.values()]).sum().backward()
    expected.loss.backward()
    gradients = {k: p.grad for k, p in theirs.named_parameters() if p.grad is not None}
    gradients = to_official(gradients)
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            scale = gradients[name].abs().max().clamp(min=1e-3)
            assert ((parameter.grad - gradients[name]).abs().max() / scale).item() < 1e-3, name


@torch.no_grad()
def test_detections_after_post_processing():
    theirs, ours = pair("detection")
    batch = padded_batch()
    expected = transformers.DetrImageProcessor().post_process_object_detection(
        theirs(pixel_values=batch.images, pixel_mask=(~batch.padding).long()), 0.0, torch.tensor(batch.original_sizes)
    )
    for prediction, reference in zip(ours.predict(batch), expected, strict=True):
        order = reference["scores"].argsort(descending=True, stable=True)
        height, width = prediction.size
        inside = reference["boxes"][order].clamp(min=0).minimum(torch.tensor([width, height] * 2))
        torch.testing.assert_close(prediction.instances.scores, reference["scores"][order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(prediction.instances.boxes, inside, rtol=1e-4, atol=1e-2)
        assert prediction.instances.labels.tolist() == reference["labels"][order].tolist()


@torch.no_grad()
def test_masked_training_uses_matched_queries_alone_and_gives_their_masks():
    _, ours = pair("instance")
    batch = padded_batch(masks=True)
    found = ours.detr.run(batch.images, padding(batch), every_layer=True)
    last = last_layer(ours.detr.match(found, ours.detr.targets(batch), batch), len(found.logits))
    assert len(last.query) == 6
    every = ours.masks(found, torch.arange(45) // 15, torch.arange(45) % 15)
    assert_close(ours.masks(found, last.image, last.query), every[last.image * 15 + last.query])


def test_key_layouts_of_transformers_4_and_5_give_the_same_weights():
    theirs, ours = pair("instance")
    new = theirs.state_dict()
    old = {old_name(k): v for k, v in new.items()}
    assert set(old) != set(new)
    mapped = to_official(old)
    assert set(mapped) == set(ours.state_dict())
    for key, value in to_official(new).items():
        assert torch.equal(mapped[key], value)


def old_name(key: str) -> str:
    """A transformers 5 key as transformers 4 wrote it, into the files on its hub."""
    for new, old in [
        ("backbone.model.", "backbone.conv_encoder.model."),
        ("_attn.o_proj.", "_attn.out_proj."),
        (".mlp.fc", ".fc"),
        ("mask_head.output_conv.", "mask_head.out_lay."),
        ("bbox_attention.q_proj.", "bbox_attention.q_linear."),
        ("bbox_attention.k_proj.", "bbox_attention.k_linear."),
        *[(f"mask_head.conv{i}.conv.", f"mask_head.lay{i}.") for i in (1, 2)],
        *[(f"mask_head.conv{i}.norm.", f"mask_head.gn{i}.") for i in (1, 2)],
        *[(f"mask_head.fpn_stages.{i}.fpn_adapter.", f"mask_head.adapter{i + 1}.") for i in range(3)],
        *[(f"mask_head.fpn_stages.{i}.refine.conv.", f"mask_head.lay{i + 3}.") for i in range(3)],
        *[(f"mask_head.fpn_stages.{i}.refine.norm.", f"mask_head.gn{i + 3}.") for i in range(3)],
    ]:
        key = key.replace(new, old)
    return key
