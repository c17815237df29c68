"""Frozen batch norms that the convolutions before them apply: the same function with two passes over memory fewer.

γ(Wx − μ)/√(σ²+ε) + β = (Wg)x + (β − μg) with g = γ/√(σ²+ε). g scales the small kernel instead of the large map, at
every call, so that names, weights and gradients stay what they were.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from segcli.ops.cpu.convolution import Conv2d


class FrozenNorm(FrozenBatchNorm2d):
    """The constants of a batch norm; the identity once a convolution applies them."""

    applied = False

    def forward(self, x: Tensor) -> Tensor:
        return x if self.applied else super().forward(x)


class NormedConv(Conv2d):
    """A convolution without bias, followed by the frozen norm that it was given."""

    norm: tuple[FrozenNorm]  # a tuple, so that it is not registered here a second time
    kept: tuple[tuple[object, ...], Tensor, Tensor] | None = None  # (state, weight, bias) of the last prediction

    def forward(self, x: Tensor) -> Tensor:
        anew = torch.is_grad_enabled() or torch.compiler.is_exporting()
        return self._conv_forward(x, *(self._scaled() if anew else self._kept()))

    def _scaled(self) -> tuple[Tensor, Tensor]:
        norm = self.norm[0]
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain

    def _kept(self) -> tuple[Tensor, Tensor]:
        """`_scaled`, computed again only after a weight or a constant has changed or moved."""
        norm = self.norm[0]
        values = (self.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        if any(v.is_inference() or v.is_meta for v in values):  # these don't count their changes
            return self._scaled()
        key = (norm.eps, *((v.data_ptr(), v.device, v._version) for v in values))
        if self.kept is None or self.kept[0] != key:
            self.kept = (key, *self._scaled())
        return self.kept[1:]


def apply_norms(net: nn.Module) -> None:
    """Let every convolution of `net` apply the frozen norm that follows it in the order of its modules."""
    last: nn.Conv2d | None = None
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            last = module
        elif isinstance(module, FrozenNorm):
            assert last is not None, "a frozen norm without a convolution before it"
            assert last.bias is None
            assert last.out_channels == len(module.weight)
            last.__class__ = NormedConv
            last.norm = (module,)  # type: ignore[assignment]
            module.applied, last = True, None


def hold_still(part: nn.Module) -> None:
    """Keep every batch norm of `part` whose weights are frozen in evaluation mode: in training mode it would go on
    following the batches, and what is called frozen would drift. Call it after each `train()`."""
    for module in part.modules():
        if isinstance(module, _BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()
