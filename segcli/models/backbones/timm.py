"""Any convolutional timm model as a feature pyramid's trunk."""

from typing import Any

import timm
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from segcli.errors import UsageError
from segcli.lookup import nearest


def build(
    *,
    model: str,
    levels: list[int] | None = None,
    norm: str = "frozen",
    frozen_stages: int = 0,
) -> "TimmFeatures":
    """model: a timm name. levels: which of its feature levels to return, fine to coarse (default: those of stride 4
    and coarser). norm: `frozen`, `trainable`, or `folded` (batch norm folded into trainable convolutions).
    frozen_stages: how many of the model's stages, the stem first, keep their weights.
    """
    return TimmFeatures(model, levels, norm, frozen_stages)


class TimmFeatures(nn.Module):
    """timm's `features_only` network under `net`, so that its own parameter names follow.

    Folding (norm: folded) replaces y = γ(Wx − μ)/√(σ²+ε) + β by one convolution W' = Wγ/√(σ²+ε), b' = β − μγ/√(σ²+ε)
    whose weights train: the same function at the start, fewer passes over memory (a third of a step on a CPU), and no
    statistics that a batch of two would spoil.
    """

    def __init__(self, model: str, levels: list[int] | None, norm: str, frozen_stages: int):
        super().__init__()
        if model not in timm.list_models():
            raise UsageError(f"model.backbone.model: timm has no {model!r}", hint=nearest(model, timm.list_models()))
        if norm not in ("frozen", "trainable", "folded"):
            raise UsageError(f"model.backbone.norm must be frozen, trainable or folded, not {norm!r}")
        probe: Any = timm.create_model(model, features_only=True)
        reductions = probe.feature_info.reduction()
        indices = levels if levels is not None else [i for i, r in enumerate(reductions) if r >= 4]
        net: Any = timm.create_model(model, features_only=True, out_indices=indices)
        self.net = net
        self.channels: list[int] = net.feature_info.channels()
        self.strides: list[int] = net.feature_info.reduction()
        self.norm = norm
        if norm == "folded":
            fold_norms(self.net)
        elif norm == "frozen":
            freeze_norms(self.net)
        for stage in stages(self.net)[:frozen_stages]:
            for module in stage:
                module.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.net(x_BCHW)

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load the classification model's weights under timm's names; what features_only leaves out may be left over.

        Raises KeyError where a needed key is missing.
        """
        own = self.net.state_dict()
        if self.norm == "folded":
            state = fold_state(state, own)
        self.net.load_state_dict({k: state[k] for k in own})


def stages(net: nn.Module) -> list[list[nn.Module]]:
    """The stem's modules, then each stage's, in order; timm keeps stages as children or as one list of them."""
    found: list[list[nn.Module]] = [[]]
    for name, child in net.named_children():
        if name in ("blocks", "stages", "layers"):
            found += [[c] for c in child.children()]
        elif any(word in name for word in ("block", "stage", "layer")):
            found.append([child])
        elif len(found) == 1:
            found[0].append(child)
    return found


def norm_pairs(net: nn.Module) -> list[tuple[str, str]]:
    """(convolution, batch norm) names that follow one another in the module order, as timm's blocks define them."""
    pairs, last = [], None
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            last = (name, module.out_channels)
        elif isinstance(module, nn.BatchNorm2d):
            if last is None or last[1] != module.num_features:
                raise UsageError(f"model.backbone.norm: this network's batch norms can't be folded (at {name})")
            pairs.append((last[0], name))
            last = None
    return pairs


def fold_norms(net: nn.Module) -> None:
    """Give each convolution before a batch norm a bias, and leave of the norm its activation alone."""
    for conv_name, norm_name in norm_pairs(net):
        conv = net.get_submodule(conv_name)
        norm = net.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
        parent, _, leaf = norm_name.rpartition(".")
        setattr(net.get_submodule(parent), leaf, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def fold_state(state: dict[str, Tensor], own: dict[str, Tensor], eps: float = 1e-3) -> dict[str, Tensor]:
    """An unfolded state dict in terms of the folded keys `own`; eps is that of the TensorFlow-trained lite models."""
    convs = [k.removesuffix(".weight") for k in state if k.endswith(".weight") and state[k].ndim == 4]
    norms = [k.removesuffix(".running_mean") for k in state if k.endswith(".running_mean")]
    out = dict(state)
    for conv, norm in zip(convs, norms, strict=True):
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + eps).sqrt()
        out[f"{conv}.weight"] = state[f"{conv}.weight"] * gain[:, None, None, None]
        out[f"{conv}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return {k: out[k] for k in own}


def freeze_norms(net: nn.Module) -> None:
    """Replace batch norms by constants of the same names, keeping timm's fused activation behind each."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            frozen: nn.Module = FrozenBatchNorm2d(module.num_features, eps=module.eps)
            if isinstance(module, BatchNormAct2d):
                frozen = FrozenNormAct(module.num_features, module.eps, module.act)
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, frozen)


class FrozenNormAct(FrozenBatchNorm2d):
    """A constant batch norm followed by timm's activation."""

    def __init__(self, num_features: int, eps: float, act: nn.Module):
        super().__init__(num_features, eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))
