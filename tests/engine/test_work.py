"""The work of a training step against hand counts, and what a run records of its own."""

import json
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segcli.engine import machine, work


def gflops(model, loss):
    return work.step_gflops(model, lambda: loss().backward())


def count(model, *shape):
    images = torch.rand(shape)
    return gflops(model, lambda: model(images).sum()) * 1e9


def test_the_first_convolution_has_no_gradient_of_the_images():
    one = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    forward = 2 * 3 * 8 * 9 * 16 * 12
    assert count(one, 2, 3, 32, 24) == 2 * forward
    images = torch.rand(2, 3, 32, 24, requires_grad=True)
    assert gflops(one, lambda: one(images).sum()) * 1e9 == 3 * forward


def test_a_second_convolution_costs_three_times_its_forward_pass():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
    assert count(model, 1, 3, 10, 10) == (2 * 3 * 8 + 3 * 8 * 5 * 9) * 100


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_groups_count_in_gradients_as_in_the_forward_pass(groups):
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, padding=1, groups=groups))
    assert count(model, 1, 3, 8, 8) == (2 * 3 * 6 + 3 * 6 // groups * 12 * 9) * 64


def test_transposed_convolutions():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 4, 2, stride=2))
    assert count(model, 1, 3, 8, 10) == (2 * 3 * 6 + 3 * 6 * 4 * 4) * 80


def test_frozen_layers_cost_their_forward_pass_alone():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 2, 1))
    model[:2].requires_grad_(False)
    assert count(model, 1, 3, 10, 10) == (3 * 6 + 6 * 6 + 2 * 6 * 2) * 100
    model[0].requires_grad_(True)  # a frozen layer above one that learns passes its gradient on
    assert count(model, 1, 3, 10, 10) == (2 * 3 * 6 + 2 * 6 * 6 + 3 * 6 * 2) * 100


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_counted_whichever_kernel_computes_it(masked):
    """Two products forward and four for the gradients: fused ones, where torch has no formula, and plain ones."""
    layer = nn.Linear(32, 3 * 32, bias=False)
    mask = torch.rand(40, 40) if masked else None
    tokens = torch.rand(2, 40, 32)

    def loss():
        query, key, value = (t.reshape(2, 40, 4, 8).transpose(1, 2) for t in layer(tokens).chunk(3, -1))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum()

    projections = 2 * 2 * 40 * 32 * 96
    assert gflops(layer, loss) * 1e9 == projections + 3 * 2 * (2 * 40 * 40 * 32)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert gflops(layer, loss) * 1e9 == projections + 3 * 2 * (2 * 40 * 40 * 32)


def test_a_transformer_layer_in_training():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    tokens = torch.rand(2, 50, 64, requires_grad=True)
    forward = 2 * (4 * 50 * 64 * 64 + 2 * 50 * 50 * 64 + 2 * 50 * 64 * 128)
    assert gflops(layer, lambda: layer(tokens).sum()) * 1e9 == 3 * forward


def test_operators_that_only_apples_gpus_have():
    aten, x, weight = torch.ops.aten, torch.empty(2, 7, 3), torch.empty(5, 3)
    assert work.multiply_adds(aten.linear, (x, weight), {}, torch.empty(2, 7, 5)) == 2 * 7 * 3 * 5
    backward = (x, torch.empty(2, 7, 5), weight, [False, True, True])
    assert work.multiply_adds(aten.linear_backward, backward, {}, None) == 2 * 7 * 3 * 5


def test_a_counted_step_leaves_no_trace():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert count(model, 2, 3, 4, 4) > 0
    torch.manual_seed(7)
    model.train()
    state = torch.get_rng_state()
    images = torch.zeros(2, 3, 4, 4)
    gflops(model, lambda: model(images).sum())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def test_cpu_time_is_of_this_process_and_no_time_that_passes():
    clock = work.CpuClock()
    burn(0.05)
    assert clock.lap() >= 0.05
    own = time.process_time()
    time.sleep(0.2)
    assert clock.lap() < 0.1 + time.process_time() - own


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems don't tell what children take")
def test_cpu_time_of_children_with_odd_names_counts(tmp_path):
    script = tmp_path / "a ) 1 (b"
    script.write_text(
        "#!/bin/sh\ni=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; echo done; exec sleep 60\n", encoding="utf-8"
    )
    script.chmod(0o755)
    own, before = time.process_time(), machine.cpu_seconds()
    child = subprocess.Popen([str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert machine.cpu_seconds() - before > time.process_time() - own + 0.02
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_run_records_its_work(trained):
    spent = json.loads((trained / "runs" / "tiny run" / "cost.json").read_text(encoding="utf-8"))
    assert spent["train_steps"] == 3
    assert spent["train_cpu_seconds"] > 0
    # backbone, neck and proposals three times their forward pass; heads see far fewer regions than inference does
    trunk = sum(part["gflops"] for name, part in spent["parts"].items() if "heads" not in name)
    assert 2.5 * trunk < spent["train_gflops"] / spent["images_seen"] < 3 * spent["gflops"]
