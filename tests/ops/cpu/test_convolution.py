"""The fast weight gradient is the gradient."""

import pytest
import torch
from torch import nn

from segcli.ops.cpu.convolution import Conv2d, use_fast_gradients


@pytest.mark.parametrize("size", [(48, 60), (9, 11)])  # above and below the size from which it is used
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "bias"), [(3, 1, 1, True), (3, 2, 1, False), (7, 2, 1, True), (3, 1, 2, False)]
)
def test_equals_autograd_in_double_precision(size, kernel, stride, dilation, bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, kernel, stride, dilation * (kernel // 2), dilation, bias=bias).double()
    fast = Conv2d(5, 7, kernel, stride, dilation * (kernel // 2), dilation, bias=bias).double()
    fast.load_state_dict(plain.state_dict())
    results = []
    for layer in (plain, fast):
        x = torch.randn(2, 5, *size, dtype=torch.double, generator=torch.Generator().manual_seed(1))
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        y = layer(x)
        (y * torch.linspace(-1, 1, y.numel(), dtype=torch.double).view_as(y)).sum().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_model_keeps_its_names_and_its_special_convolutions():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Own(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.ConvTranspose2d(4, 4, 2))
    names = list(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    use_fast_gradients(model)
    assert [type(m) for m in model] == [Conv2d, Own, Conv2d, nn.ConvTranspose2d]
    assert list(model.state_dict()) == names
    assert torch.equal(model(x), before)


def test_frozen_weights_and_frozen_inputs_get_no_gradient():
    layer = Conv2d(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    layer.weight.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None
