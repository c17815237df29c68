"""detectron2's R-CNNs load strictly: every name and shape of the official layouts, and what their conventions mean."""

from typing import Any

import pytest
import torch
from torch import Tensor

from segcli.engine.checkpoint import load_strict
from segcli.models import build_model
from segcli.models.rcnn.rcnn import RCNN
from segcli.weights.translate import translate

CLASSES = {"mesh": 9, "densepose": 1}  # Pix3D's, and people


def convolution(name: str, outputs: int, inputs: int, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def frozen(name: str, outputs: int, inputs: int, size: int) -> dict[str, tuple[int, ...]]:
    norms = {f"{name}.norm.{leaf}": (outputs,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.weight": (outputs, inputs, size, size), **norms}


def detector(classes: int) -> dict[str, tuple[int, ...]]:
    """ResNet-50, pyramid, proposals and box head as detectron2 names and shapes them."""
    trunk = "backbone.bottom_up."
    out = frozen(f"{trunk}stem.conv1", 64, 3, 7)
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        wide = 256 * 2 ** (stage - 2)
        for block in range(blocks):
            inputs = wide if block else (64 if stage == 2 else wide // 2)
            name = f"{trunk}res{stage}.{block}."
            out |= frozen(f"{name}conv1", wide // 4, inputs, 1) | frozen(f"{name}conv2", wide // 4, wide // 4, 3)
            out |= frozen(f"{name}conv3", wide, wide // 4, 1)
            out |= {} if block else frozen(f"{name}shortcut", wide, inputs, 1)
        out |= convolution(f"backbone.fpn_lateral{stage}", 256, wide, 1)
        out |= convolution(f"backbone.fpn_output{stage}", 256, 256, 3)
    rpn = "proposal_generator.rpn_head."
    out |= convolution(f"{rpn}conv", 256, 256, 3) | convolution(f"{rpn}objectness_logits", 3, 256, 1)
    out |= convolution(f"{rpn}anchor_deltas", 12, 256, 1)
    out |= linear("roi_heads.box_head.fc1", 1024, 256 * 49) | linear("roi_heads.box_head.fc2", 1024, 1024)
    out |= linear("roi_heads.box_predictor.cls_score", classes + 1, 1024)
    out |= linear("roi_heads.box_predictor.bbox_pred", 4 * classes, 1024)
    return out | {"pixel_mean": (3, 1, 1), "proposal_generator.anchor_generator.cell_anchors.0": (3, 4)}


def mesh_parts() -> dict[str, tuple[int, ...]]:
    out: dict[str, tuple[int, ...]] = {}
    for i in range(4):
        out |= convolution(f"roi_heads.mask_head.mask_fcn{i + 1}", 256, 256, 3)
        out |= convolution(f"roi_heads.voxel_head.voxel_fcn{i + 1}", 256, 256, 3)
    for head, rows in (("mask", 9), ("voxel", 24)):
        out |= convolution(f"roi_heads.{head}_head.deconv", 256, 256, 2)
        out |= convolution(f"roi_heads.{head}_head.predictor", rows, 256, 1)
    out |= linear("roi_heads.z_head.z_fc1", 1024, 256 * 49) | linear("roi_heads.z_head.z_fc2", 1024, 1024)
    out |= linear("roi_heads.z_head.z_pred", 9, 1024)
    for stage in range(3):
        name = f"roi_heads.mesh_head.stages.{stage}."
        out |= linear(f"{name}bottleneck", 128, 256) | linear(f"{name}verts_offset", 3, 131)
        for i in range(3):
            inputs = 131 + (128 if stage and not i else 0)
            out |= linear(f"{name}gconvs.{i}.w0", 128, inputs) | linear(f"{name}gconvs.{i}.w1", 128, inputs)
    return out


def densepose_parts(legacy: bool) -> dict[str, tuple[int, ...]]:
    out: dict[str, tuple[int, ...]] = {}
    for i in range(8):
        out |= convolution(f"roi_heads.densepose_head.body_conv_fcn{i + 1}", 512, 512 if i else 256, 3)
    outputs = {"ann_index": 15 if legacy else 2, "index_uv": 25, "u": 25, "v": 25}
    for name, rows in outputs.items():
        layer = f"roi_heads.densepose_predictor.{name}_lowres"
        out |= {f"{layer}.weight": (512, rows, 4, 4), f"{layer}.bias": (rows,)}
    if not legacy:
        for level, layers in ((2, 1), (3, 1), (4, 2), (5, 3)):
            for i in range(layers):
                out |= convolution(f"roi_heads.decoder.p{level}.{2 * i}", 256, 256, 3)
        out |= convolution("roi_heads.decoder.predictor", 256, 256, 1)
    return out


def random(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) * 0.02 for name, shape in shapes.items()}


def model(heads: dict[str, Any], classes: int) -> RCNN:
    settings = {"name": "rcnn", "backbone": {"name": "resnet", "depth": 50, "stride_in": "1x1"}, "heads": heads}
    with torch.device("meta"):
        built = build_model(settings, task="detection", num_classes=classes, num_things=classes)
    assert isinstance(built, RCNN)
    return built.to_empty(device="cpu")


@pytest.mark.parametrize(
    ("heads", "parts"),
    [
        ({"box": {}, "mask": {}, "mesh": {}}, mesh_parts()),
        ({"box": {}, "densepose": {}}, densepose_parts(legacy=False)),
        ({"box": {}, "legacy_densepose": {}}, densepose_parts(legacy=True)),
    ],
    ids=["Mesh R-CNN", "DensePose", "DensePose legacy"],
)
def test_a_file_in_the_official_layout_loads_strictly(heads: dict[str, Any], parts: dict[str, tuple[int, ...]]):
    classes = CLASSES["mesh" if "mesh" in heads else "densepose"]
    ours, file = model(heads, classes), random(detector(classes) | parts)
    state, source = translate(file, set(ours.state_dict()))
    assert source == "detectron2"
    load_strict(ours, state, "model_final.pkl")
    if "mesh" in heads:
        own = ours.roi_heads.named()["mesh"].state_dict()
        for name in ("voxel_head.voxel_fcn4.bias", "z_head.z_pred.weight", "mesh_head.stages.2.gconvs.0.w1.weight"):
            assert torch.equal(own[name], file[f"roi_heads.{name}"])
    else:
        own = ours.roi_heads.named()["densepose"].state_dict()
        assert torch.equal(own["head.14.weight"], file["roi_heads.densepose_head.body_conv_fcn8.weight"])
        if "densepose" in heads:
            assert torch.equal(own["decoder.levels.3.6.weight"], file["roi_heads.decoder.p5.4.weight"])


def test_images_in_the_other_convention_give_the_same_first_features():
    file = random(detector(1))
    state, _ = translate(file, {"x"}, "detectron2")
    rgb = torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    theirs = (rgb.flip(1) * 255) - torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    expected = torch.nn.functional.conv2d(theirs, file["backbone.bottom_up.stem.conv1.weight"], padding=3)
    got = torch.nn.functional.conv2d((rgb - mean) / std, state["backbone.body.conv1.weight"], padding=3)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_the_background_comes_first_and_has_no_box():
    file = random(detector(3))
    state, _ = translate(file, {"x"}, "detectron2")
    name = "roi_heads.heads.box.predictor."
    assert torch.equal(state[f"{name}cls_score.weight"], file["roi_heads.box_predictor.cls_score.weight"][[3, 0, 1, 2]])
    assert torch.equal(state[f"{name}bbox_pred.bias"][4:], file["roi_heads.box_predictor.bbox_pred.bias"])
    assert not state[f"{name}bbox_pred.bias"][:4].any()


def test_keys_that_no_rule_knows_are_refused_by_name():
    ours = model({"box": {}}, 1)
    file = random(detector(1) | {"roi_heads.embedder.weight": (3, 3)})
    state, _ = translate(file, set(ours.state_dict()))
    with pytest.raises(Exception, match=r"roi_heads\.embedder\.weight"):
        load_strict(ours, state, "model_final.pkl")
