"""Costs against hand counts, and against torchvision's Mask R-CNN whose cost was published part by part."""

import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from segcli.engine import cost, machine
from segcli.models import build_model
from segcli.models.interface import Model
from segcli.models.rcnn.heads import mesh


class Network(Model):
    """Any function of images as a model; modules given by name are its children."""

    def __init__(self, run, **children):
        super().__init__()
        self.run = run
        for name, child in children.items():
            self.add_module(name, child)

    def network(self, images: Tensor) -> None:
        self.run(self, images)


def count(run, size=(8, 8), **children):
    return cost.flops(Network(run, **children), size)


def test_convolution_counts_one_per_multiply_add():
    conv = nn.Conv2d(3, 16, 3, stride=2, padding=1, groups=1)
    assert count(lambda m, x: m.conv(x), (64, 32), conv=conv)["gflops"] == 3 * 16 * 9 * 32 * 16 / 1e9


def test_grouped_convolution():
    conv = nn.Conv2d(6, 12, 3, padding=1, groups=3)
    out = count(lambda m, x: m.conv(torch.cat([x, x], 1)), conv=conv)
    assert out["gflops"] == (6 // 3) * 12 * 9 * 64 / 1e9


def test_transposed_convolution_multiplies_every_input_pixel():
    up = nn.ConvTranspose2d(3, 5, 2, stride=2)
    assert count(lambda m, x: m.up(x), (10, 20), up=up)["gflops"] == 3 * 5 * 4 * 200 / 1e9


def test_attention_and_einsum_are_counted():
    def run(model, images):
        q = images.new_empty(1, 8, 500, 32)
        F.scaled_dot_product_attention(q, q, q)
        torch.einsum("qc,chw->qhw", images.new_empty(100, 256), images.new_empty(256, 16, 16))

    assert count(run)["gflops"] == pytest.approx((2 * 500 * 500 * 256 + 100 * 256 * 256) / 1e9)


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_in_evaluation_mode_is_not_zero(weights):
    layer = nn.MultiheadAttention(64, 4, batch_first=True)

    def run(model, images):
        x = images.new_empty(1, 100, 64)
        model.layer(x, x, x, need_weights=weights)

    assert count(run, layer=layer)["gflops"] == pytest.approx((4 * 100 * 64 * 64 + 2 * 100 * 100 * 64) / 1e9)


def test_transformer_layer_takes_no_uncounted_shortcut():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    out = count(lambda m, x: m.layer(x.new_empty(1, 50, 64)), layer=layer)
    assert out["gflops"] == pytest.approx((4 * 50 * 64 * 64 + 2 * 50 * 50 * 64 + 2 * 50 * 64 * 128) / 1e9)


def test_operators_without_a_formula_are_listed_and_data_movement_is_not():
    def run(model, images):
        y = model.norm(torch.cat([images, images], 1).relu() + 1)
        y = y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        grid = images.new_empty(1, 4, 4, 2)
        F.grid_sample(y, grid, align_corners=False)
        F.grid_sample(y, grid, align_corners=False)
        F.interpolate(y, scale_factor=2, mode="bilinear")
        torchvision.ops.roi_align(y, images.new_empty(7, 5), (2, 2))

    uncounted = count(run, norm=nn.GroupNorm(2, 6))["uncounted"]
    assert {u["op"] for u in uncounted if u["elementwise"]} == {"aten.relu", "aten.add"}
    assert sum(u["share"] for u in uncounted) == pytest.approx(1)  # nothing here is counted
    listed = {u["op"]: u["calls"] for u in uncounted if not u["elementwise"]}
    assert listed == {
        "aten.native_group_norm": 1,
        "aten.grid_sampler_2d": 2,
        "aten.upsample_bilinear2d": 1,
        "torchvision.roi_align": 1,
    }


def test_parts_follow_the_modules():
    heads = nn.ModuleDict({"box": nn.Linear(3, 4), "mask": nn.Linear(3, 10)})
    backbone = nn.Module()
    backbone.body, backbone.fpn = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 5, 1, bias=False)

    def run(model, images):
        model.backbone.fpn(model.backbone.body(images))
        for head in model.roi_heads.heads.values():
            head(images.new_empty(2, 3))
        images.new_empty(5, 5) @ images.new_empty(5, 5)

    roi_heads = nn.Module()
    roi_heads.heads = heads
    model = Network(run, backbone=backbone, roi_heads=roi_heads)
    assert cost.flops(model, (4, 4))["parts"] == {
        "backbone.body": 9 * 16 / 1e9,
        "backbone.fpn": 15 * 16 / 1e9,
        "roi_heads.heads.box": 24 / 1e9,
        "roi_heads.heads.mask": 60 / 1e9,
        cost.OTHER: 125 / 1e9,
    }
    backbone.body.requires_grad_(False)
    assert cost.parameters(model) == {
        "params": 9 + 15 + 16 + 40,
        "params_trainable": 15 + 16 + 40,
        "parts": {"backbone.body": 9, "backbone.fpn": 15, "roi_heads.heads.box": 16, "roi_heads.heads.mask": 40},
    }


def test_torchvision_mask_rcnn_costs_what_was_published():
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)

    def run(model, images):
        model.rpn.head(list(model.backbone(images).values()))
        model.box_predictor(model.box_head(images.new_empty(1000, 256, 7, 7)))

    heads = theirs.roi_heads
    model = Network(
        run, backbone=theirs.backbone, rpn=theirs.rpn, box_head=heads.box_head, box_predictor=heads.box_predictor
    )
    out = cost.flops(model, (800, 800))
    parts = out["parts"]
    assert parts["backbone.body"] + parts["backbone.fpn"] == pytest.approx(88.381, abs=1e-3)
    assert parts["rpn"] == pytest.approx(31.639, abs=1e-3)
    assert parts["box_head"] + parts["box_predictor"] == pytest.approx(14.360, abs=1e-3)
    assert out["gflops"] == pytest.approx(134.380, abs=1e-3)


def test_pooling_of_regions_is_named_among_what_is_not_counted():
    heads = {"box": {}, "mask": {"pooler": "roi_pool"}}
    backbone = {"name": "resnet", "depth": 18}
    with torch.device("meta"):
        model = build_model(
            {"name": "rcnn", "backbone": backbone, "heads": heads}, task="instance", num_classes=2, num_things=2
        )
    calls = {u["op"]: u["calls"] for u in cost.flops(model, (64, 96))["uncounted"]}
    assert calls["torchvision.roi_align"] == calls["torchvision.roi_pool"] == 4  # one a level of the pyramid


def test_a_dataset_of_several_sizes_has_a_mean_and_a_spread():
    conv = nn.Conv2d(3, 10, 1)
    model = Network(lambda m, x: m.conv(x), conv=conv)
    one = 30 * 100 * 100 / 1e9
    out = cost.flops_over(model, [(100, 100), (100, 300), (100, 100), (100, 300)])
    assert out == {"mean": round(2 * one, 4), "sd": round(one, 4), "images": 4, "canvases": 2}
    many = cost.flops_over(model, [(100, 100 + i) for i in range(100)])
    assert many["images"] == many["canvases"] == cost.CANVASES
    assert many["mean"] == pytest.approx(1.495 * one, abs=1e-4)


def test_a_canvas_that_was_counted_is_not_counted_again(monkeypatch):
    model = Network(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 10, 1))
    count, counted = cost.flops, []
    monkeypatch.setattr(cost, "flops", lambda model, size: counted.append(size) or count(model, size))
    sizes = [(8, 8), (8, 16), (8, 8)]
    again = cost.measure(model, (8, 8), sizes=sizes)["gflops_dataset"]
    assert counted == [(8, 8), (8, 16)]
    assert again == cost.flops_over(model, sizes)


def test_a_head_that_runs_region_by_region_says_what_one_costs():
    model = Network(lambda m, x: m.head(x.new_empty(7, 100)), head=nn.Linear(100, 50))
    model.regions = lambda: {"head": 7}
    part = cost.measure(model, (8, 8), repeats=3)["parts"]["head"]
    assert part["regions"] == 7
    assert part["gflops_per_region"] == round(5000 / 1e9, 6)


def test_a_region_of_mesh_rcnn_costs_what_the_papers_shapes_do():
    """Mesh R-CNN's settings for Pix3D: voxels of 24³, a mesh of 2,562 vertices. The published code's three bottlenecks
    (256 → 128) run on each vertex, where they cost 1.20 in all; here they run before sampling, on 14 x 14 cells."""
    head = mesh.build(num_things=9, channels=256, strides=[4, 8, 16, 32])
    run = lambda model, x: model.head.count([x.new_empty(1, 256, 64 // s, 64 // s) for s in (4, 8, 16, 32)], 2)
    parts = count(run, voxel=head.voxel_head, z=head.z_head, mesh=head.mesh_head, head=head)["parts"]
    voxel, z, refined = (parts[name] / 2 for name in ("voxel", "z", "mesh"))
    assert voxel == pytest.approx(0.381, rel=0.01)
    assert z == pytest.approx(0.014, rel=0.02)
    assert refined + 3 * 256 * 128 * (2562 - 14 * 14) / 1e9 == pytest.approx(1.20, rel=0.01)


def test_measuring_leaves_the_model_as_it_was():
    model = Network(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 4, 1), b=nn.BatchNorm2d(4)).train()
    model.a.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    out = cost.measure(model, (16, 24), repeats=3)
    assert model.training
    assert model.b.training
    assert not model.a.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert out["params"] == 24
    assert out["gflops_input"] == [16, 24]
    assert out["gflops_paper_rule"] is None
    assert 0 < out["latency_ms"]["median"] <= out["latency_ms"]["p95"]
    assert set(out["parts"]) == {"a", "b"}


def test_the_papers_own_rule_is_asked_of_the_model():
    model = Network(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, 1))
    model.paper_gflops = lambda: 86.2
    assert cost.measure(model, (8, 8), repeats=3)["gflops_paper_rule"] == 86.2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets the high-water mark")
def test_peak_memory_sees_a_large_activation_and_is_not_confused_by_an_earlier_peak():
    def run(model, images):
        wide = model.a(images).expand(50, -1, -1, -1).clone()  # 50·4·256·256 floats: 52 MB
        wide.sum()

    model = Network(run, a=nn.Conv2d(3, 4, 1))
    earlier = torch.ones(100_000_000 // 4)
    del earlier
    assert 50 < cost.peak_memory(model, (256, 256)) < 90


def test_memory_is_unknown_where_the_system_cannot_tell(monkeypatch):
    monkeypatch.setattr(machine, "sys", SimpleNamespace(platform="darwin"))
    model = Network(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, 1))
    assert cost.peak_memory(model, (8, 8)) is None
