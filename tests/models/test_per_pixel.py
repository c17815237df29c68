"""The per-pixel baselines as models."""

import pytest
import torch
from batches import RESNET, SIZE, batch_of

from segcli.core.errors import UsageError
from segcli.models import build_model
from segcli.types import IGNORE, Instances, Target

VARIANTS = {
    "fcn": {"backbone": {**RESNET, "dilate_last": 0}},
    "per_pixel": {"backbone": RESNET},
    "per_pixel_plus": {"backbone": RESNET, "decoder_layers": 2},
}


def model_for(variant, **settings):
    torch.manual_seed(0)
    settings = {"name": variant, **VARIANTS[variant], **settings}
    return build_model(settings, task="semantic", num_classes=4, num_things=0)


def labelled(*labels):
    """A batch of images of one label each."""
    return batch_of(*(Target(i, SIZE, Instances.empty(), torch.full(SIZE, label)) for i, label in enumerate(labels)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_from_every_batch(variant):
    model = model_for(variant)
    for batch in (labelled(1, 3), labelled(2, IGNORE), labelled(IGNORE, IGNORE)):
        model.zero_grad()
        losses = model(batch)
        assert all(v.ndim == 0 and torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(v == 0 for v in losses.values())  # the last batch has no labelled pixel


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_and_ignored_pixels_do_not_count(variant):
    model = model_for(variant).eval()
    batch = labelled(1)
    before = model(batch)["pixel"].item()
    batch.targets[0].semantic[:20] = IGNORE
    rows = model.inspect(batch)["logits"]
    up = torch.nn.functional.interpolate(rows, size=(64, 96), mode="bilinear", align_corners=False)
    expected = -up.log_softmax(1)[0, 1, 20:56, :90].mean()
    assert model(batch)["pixel"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert model(batch)["pixel"].item() != before


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_prediction_is_a_label_map_on_the_original_pixels(variant):
    model = model_for(variant).eval()
    first, second = model.predict(labelled(0, 1))
    assert first.semantic.shape == second.semantic.shape == first.size == (101, 163)
    assert first.semantic.dtype.name == "uint8"
    assert first.instances is None
    assert model.network(torch.randn(1, 3, 64, 96)).shape == (1, 4, 64, 96)
    assert model.inspect(labelled(0))["probabilities"].sum(1).mean().item() == pytest.approx(1)


def test_without_auxiliary_losses_nothing_is_left_untrained():
    for variant in ("fcn", "per_pixel_plus"):
        model = model_for(variant, auxiliary=0.0)
        losses = model(labelled(1, 2))
        assert set(losses) == {"pixel"}
        losses["pixel"].backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_other_tasks_are_refused():
    with pytest.raises(UsageError, match="does not do task 'instance'"):
        build_model({"name": "per_pixel"}, task="instance", num_classes=3, num_things=3)


@pytest.mark.parametrize(
    ("variant", "millions", "gflops"), [("per_pixel", 31.034, 47.4), ("per_pixel_plus", 41.229, 49.4)]
)
def test_counted_cost_on_ade20k(variant, millions, gflops):
    with torch.device("meta"):
        model = build_model({"name": variant}, task="semantic", num_classes=150, num_things=0)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)
    assert model.paper_gflops() == pytest.approx(gflops, rel=0.015)


def test_fcn_costs_what_torchvision_prints():
    """torchvision's 152.717 G runs the auxiliary head, too: 9.99 G at 65 x 65."""
    with torch.device("meta"):
        model = build_model({"name": "fcn"}, task="semantic", num_classes=21, num_things=0)
    auxiliary = 65 * 65 * (9 * 1024 * 256 + 256 * 21) / 1e9
    assert model.paper_gflops() + auxiliary == pytest.approx(152.717, rel=1e-3)
