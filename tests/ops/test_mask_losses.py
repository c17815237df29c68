"""The fused losses are the plain ones behind an interpolation, in value and in gradient."""

import pytest
import torch
import torch.nn.functional as F

from segcli.ops import losses, mask_losses
from segcli.types import IGNORE


def plain(logits, masks, index):
    up = F.interpolate(logits[:, None], size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0].flatten(1)
    labels = masks[index].flatten(1).to(up.dtype)
    return losses.focal(up, labels), losses.dice(up, labels)


@pytest.mark.parametrize("pixels", [1, 2**19])  # one mask at a time, all at once
def test_masks_match_the_plain_losses_and_their_gradients(monkeypatch, pixels):
    monkeypatch.setattr(mask_losses, "PIXELS", pixels)
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 9, 11)).requires_grad_()
    masks = torch.rand(3, 34, 45) > 0.6
    index = torch.tensor([2, 0, 0, 1, 2])
    weight = torch.rand(2, 5)
    for ours, theirs, w in zip(
        mask_losses.mask_losses(logits, masks, index), plain(logits, masks, index), weight, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
        gradients = [torch.autograd.grad((value * w).sum(), logits, retain_graph=True)[0] for value in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-8)


def test_masks_of_extreme_logits_stay_finite():
    logits = torch.tensor([[[-200.0, 200.0], [200.0, -200.0]]], requires_grad=True)
    masks = torch.ones(1, 8, 8, dtype=torch.bool)
    focal, dice = mask_losses.mask_losses(logits, masks, torch.tensor([0]))
    (focal + dice).sum().backward()
    assert torch.isfinite(focal).all()
    assert torch.isfinite(logits.grad).all()


def test_no_mask_at_all_still_gives_a_gradient():
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    focal, dice = mask_losses.mask_losses(
        logits, torch.zeros(0, 8, 8, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)
    )
    (focal.sum() + dice.sum()).backward()
    assert logits.grad is not None


def test_pixel_cross_entropy_matches_the_plain_one_and_its_gradient():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 6, 7, requires_grad=True)
    labels = torch.randint(0, 4, (2, 24, 28))
    labels[0, :5] = IGNORE
    weight = torch.tensor([0.3, 2.0])
    up = F.interpolate(logits, size=(24, 28), mode="bilinear", align_corners=False)
    theirs = F.cross_entropy(up, labels, ignore_index=IGNORE, reduction="none").sum((1, 2))
    ours = mask_losses.pixel_cross_entropy(logits, labels, IGNORE)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((v * weight).sum(), logits, retain_graph=True)[0] for v in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_pixel_cross_entropy_of_ignored_pixels_alone_is_zero_with_zero_gradient():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = mask_losses.pixel_cross_entropy(logits, torch.full((1, 16, 16), IGNORE), IGNORE)
    loss.sum().backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
