"""A batch in pieces: what the network runs, what is left of it, and batches that have next to nothing."""

import contextlib

import pytest
import torch
from equal_steps import FAMILIES, batch, build, double_precision

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.engine.accumulation import say_what_differs, split, step_losses
from segcli.models.interface import Model

CPU = torch.device("cpu")


def backward(model, data, parts):
    """(the step's losses, the gradient)."""
    model.zero_grad()
    numbers = {}
    for _, losses in step_losses(model, data, parts, CPU, contextlib.nullcontext()):
        torch.stack(list(losses.values())).sum().backward()
        for key, value in losses.items():
            numbers[key] = numbers.get(key, 0.0) + value.item()
    return numbers, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def without_objects(data, *places):
    """The batch whose images at `places` have no object, and whose label map is unknown there."""
    for i in places:
        data.targets[i].instances = data.targets[i].instances[:0]
        data.targets[i].semantic.fill_(255)
    return data


@pytest.mark.parametrize("name", FAMILIES)
def test_pieces_without_anything_to_find_weigh_as_in_the_whole_batch(name):
    with double_precision():
        model = build(name)
        for data in (without_objects(batch(2, range(4)), 0, 3), without_objects(batch(2, range(2)), 0, 1)):
            whole, expected = backward(model, data, 1)
            numbers, found = backward(model, data, len(data.images))
            assert numbers == pytest.approx(whole, rel=1e-9, abs=1e-12)
            assert (found - expected).norm() <= 1e-9 * expected.norm() + 1e-12
    assert distributed.parts() == 1


@pytest.mark.parametrize(
    ("name", "counted"), [("rcnn", True), ("maskformer_lite", True), ("detr_lite", False), ("per_pixel", False)]
)
def test_only_counts_that_the_model_finds_on_its_way_need_a_second_run_and_that_keeps_nothing(name, counted):
    model = build(name)
    kept = []
    model.backbone.register_forward_hook(lambda *_: kept.append(torch.is_grad_enabled()))
    backward(model, batch(1, range(4)), 2)
    assert kept == [False] * 2 * counted + [True] * 2
    kept.clear()
    backward(model, batch(1, range(4)), 1)
    assert kept == [True]


def test_counting_leaves_no_trace():
    model = build("lite")
    norm = torch.nn.BatchNorm2d(3)
    model.backbone.register_forward_pre_hook(lambda _, inputs: (norm(*inputs),))
    model.add_module("extra", norm)
    data = batch(1, range(4))
    random = torch.get_rng_state()
    steps = iter(step_losses(model, data, 2, CPU, contextlib.nullcontext()))
    _, losses = next(steps)
    assert norm.num_batches_tracked == 1
    assert norm.running_mean.tolist() == pytest.approx((0.1 * data.images[:2].mean((0, 2, 3))).tolist(), abs=1e-6)
    assert all(value.requires_grad for value in losses.values())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_head_that_shares_its_count_only_where_it_has_one_is_told():
    class Head(Model):
        shares_counts = True

        def forward(self, batch, normalisers=None):
            found = sum(len(target.instances) for target in batch.targets)
            return {"loss": batch.images.sum() * (distributed.share(found) if found else 0)}

    data = without_objects(batch(1, range(4)), 2, 3)
    with pytest.raises(UsageError, match="1 times for one piece of the batch and 0 times for another"):
        next(step_losses(Head(), data, 2, CPU, contextlib.nullcontext()))


def test_a_batch_is_split_along_its_images():
    first, second = split(batch(1, range(4)), 2)
    assert (first.image_ids, second.image_ids) == ([0, 1], [2, 3])
    assert (first.seeds, second.seeds) == ([50, 51], [52, 53])
    assert first.images.shape == second.images.shape


def test_what_parts_have_of_their_own_is_said_once(capsys):
    model = build("fcn").train()
    say_what_differs(model, 1)
    say_what_differs(build("detr"), 2)
    assert capsys.readouterr().err == ""
    say_what_differs(model, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: 2 batch norms (classifier.1, aux_classifier.1) take their statistics from")
