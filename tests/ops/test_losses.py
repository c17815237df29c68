"""Set losses against torch, torchvision and numbers worked out by hand; counts are part of the interface."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from segcli.ops import losses


def test_cross_entropy_over_its_count_is_torchs_weighted_mean():
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 5, 4)
    labels = torch.tensor([[[3, 3, 0, 1, 3], [2, 3, 3, 3, 3]]])
    weight = torch.tensor([1.0, 1.0, 1.0, 0.1])
    ours = losses.cross_entropy(logits, labels, 0.1) / losses.cross_entropy_count(3, 10, 0.1)
    torch.testing.assert_close(ours[0], F.cross_entropy(logits.flatten(0, 2), labels.flatten(), weight))


def test_cross_entropy_keeps_layers_apart():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 2, 5, 4), torch.randint(4, (3, 2, 5))
    together = losses.cross_entropy(logits, labels, 0.1)
    for layer in range(3):
        alone = losses.cross_entropy(logits[layer : layer + 1], labels[layer : layer + 1], 0.1)
        torch.testing.assert_close(together[layer], alone[0])


def test_focal_equals_torchvision_also_for_confident_logits():
    torch.manual_seed(0)
    logits, masks = torch.randn(6, 200) * 10, (torch.rand(6, 200) > 0.7).float()
    expected = sigmoid_focal_loss(logits, masks).mean(1)
    torch.testing.assert_close(losses.focal(logits, masks), expected)


def test_dice_of_a_perfect_and_of_an_opposite_mask():
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert losses.dice(mask * 200 - 100, mask).item() == pytest.approx(0, abs=1e-6)
    assert losses.dice(100 - mask * 200, mask).item() == pytest.approx(1 - 1 / 5)


def test_giou_loss_of_boxes_apart():
    # unit boxes two apart: no overlap, hull 3, union 2
    loss = losses.giou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    assert loss.item() == pytest.approx(1 + 1 / 3)


def test_sums_without_pairs_are_zero_with_a_gradient():
    parameter = torch.ones(5, 4, requires_grad=True)
    sums = losses.per_layer(losses.l1(parameter[:0], torch.zeros(0, 4)), 6)
    assert sums.tolist() == [0] * 6
    sums.sum().backward()
    assert parameter.grad is not None


def test_target_classes_are_no_object_but_for_matched_queries():
    index = (torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([2, 0]))
    classes = losses.target_classes((2, 2, 3), index, torch.tensor([4, 5]), 9)
    assert classes.tolist() == [[[9, 9, 9], [9, 9, 4]], [[5, 9, 9], [9, 9, 9]]]


def test_focal_at_zero_logits_is_known():
    # p = .5 everywhere: log 2 × .25 × α_t
    masks = torch.tensor([[1.0, 0.0]])
    assert losses.focal(torch.zeros(1, 2), masks).item() == pytest.approx(math.log(2) * 0.25 * (0.25 + 0.75) / 2)
