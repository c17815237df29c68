"""Shapes that are remembered, or known without asking torch, are those that torch gives."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segcli.ops.multiply_adds import MultiplyAdds


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


def inside(run):
    """What a function gives while it is counted, and the counter."""
    counter = MultiplyAdds(nn.Module(), [])
    with counter.attached(), torch.no_grad(), counter:
        return run(), counter


@pytest.mark.parametrize(
    "run",
    [
        lambda: F.interpolate(meta(2, 3, 7, 9), scale_factor=2, mode="bilinear"),
        lambda: F.interpolate(meta(2, 3, 7, 9), size=(5, 31), mode="bicubic", antialias=False),
        lambda: F.grid_sample(meta(2, 3, 7, 9), meta(2, 5, 4, 2), align_corners=False),
        lambda: F.batch_norm(meta(2, 3, 7, 9), meta(3), meta(3)),
        lambda: meta(2, 3, 7, 9).transpose(1, 2) * 2,
        lambda: meta(2, 5).topk(3).indices,
        lambda: F.scaled_dot_product_attention(*[meta(1, 2, 6, 4)] * 3),
    ],
)
def test_a_second_call_gives_what_torch_gives(run):
    expected = run()
    (first, second), _ = inside(lambda: (run(), run()))
    for found in (first, second):
        assert (found.shape, found.stride(), found.dtype) == (expected.shape, expected.stride(), expected.dtype)
        assert found.is_meta
    assert first is not second


def test_equal_numbers_of_different_types_are_told_apart():
    counts = meta(4, dtype=torch.int64)
    found, _ = inside(lambda: [counts + value for value in (1, 1.0, True, 1)])
    assert [one.dtype for one in found] == [torch.int64, torch.float32, torch.int64, torch.int64]


def test_what_is_done_to_a_result_does_not_change_the_next():
    def run():
        images = meta(4, 4)
        first = images + 1
        first.unsqueeze_(0)
        return images + 1

    assert inside(run)[0].shape == (4, 4)


def test_what_changes_values_in_place_gives_its_argument_and_is_counted():
    images = meta(2, 3)
    found, counter = inside(lambda: [F.relu6(images, inplace=True), images.mul_(2), images.clamp_(meta(2, 3))])
    assert all(one is images for one in found)
    assert counter.uncounted == {(f"aten.{name}", True): 1 for name in ("hardtanh_", "mul_", "clamp_")}


def test_operators_that_were_remembered_are_counted_as_often_as_they_run():
    _, counter = inside(lambda: [meta(2, 3) @ meta(3, 5) + 1 for _ in range(3)])
    assert counter.macs["(other)", "aten.mm"] == 3 * 30
    assert counter.uncounted["aten.add", True] == 3


def test_values_that_can_be_known_are_computed():
    """Of tensors that have some, on whatever device the rest is."""
    found, _ = inside(lambda: [torch.tensor([value]) + 1 for value in (1, 2)])
    assert torch.cat(found).tolist() == [2, 3]
