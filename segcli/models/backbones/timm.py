"""Any convolutional timm model as a feature pyramid's trunk."""

import copy
import dataclasses
import functools
from collections import Counter
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.ops import FrozenBatchNorm2d

from segcli.core.errors import UsageError
from segcli.core.plugins import nearest
from segcli.models.layers.frozen_norm import hold_still
from segcli.ops.multiply_adds import in_place

PLAIN = (nn.Conv2d, Conv2dSame)  # convolutions of their weights as they are: others standardise them first


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
        self.pairs: list[Pair] = []
        if norm == "folded":
            self.pairs = list(pairs_of(model, tuple(indices)))
            fold_norms(self.net, self.pairs)
        elif norm == "frozen":
            freeze_norms(self.net)
        for stage in stages(self.net)[:frozen_stages]:
            for module in stage:
                module.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.net(x_BCHW)

    def train(self, mode: bool = True) -> "TimmFeatures":
        super().train(mode)
        hold_still(self)
        return self

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load the classification model's weights under timm's names; what features_only leaves out may be left over.

        Raises KeyError where a needed key is missing.
        """
        # of networks whose stages are a list, features_only calls "stages.0" "stages_0"
        state = {**{key.replace(".", "_", 1): value for key, value in state.items()}, **state}
        state = fold_state(state, self.pairs)
        self.net.load_state_dict({k: state[k] for k in self.net.state_dict()})


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


@dataclasses.dataclass(frozen=True)
class Pair:
    """A convolution and the batch norm that alone reads its output, by their names; eps: that norm's own."""

    conv: str
    norm: str
    eps: float


@functools.cache
def pairs_of(model: str, levels: tuple[int, ...]) -> tuple[Pair, ...]:
    """`norm_pairs` of a timm model, which depend on nothing but its name and its levels: looked for once."""
    with torch.device("meta"):
        net: Any = timm.create_model(model, features_only=True, out_indices=list(levels))
    return tuple(norm_pairs(net, net.pretrained_cfg["input_size"]))


def norm_pairs(net: nn.Module, size: tuple[int, ...]) -> list[Pair]:
    """Each batch norm of `net` with the convolution before it, followed on an image of `size` (C, H, W).

    Found by what reads what: names and order don't tell a norm after a convolution from one before it. No value is
    computed. Raises UsageError where a norm follows something else, a convolution whose output is also read
    elsewhere, or one that uses its weights otherwise than as they are.
    """
    trial = copy.deepcopy(net).eval().to("meta")
    uses = _Uses()
    convs: dict[int, list[str]] = {}  # by their outputs' ids; a module that runs twice comes twice
    norms: list[tuple[str, nn.BatchNorm2d, Tensor]] = []
    for name, module in trial.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out, name=name: convs.setdefault(id(out), []).append(name))
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda m, i, name=name: norms.append((name, m, i[0])))
    with torch.no_grad(), uses:
        trial(torch.empty(1, *size, device="meta"))
    ran = Counter(name for names in convs.values() for name in names)
    pairs = []
    for name, norm, read in norms:
        conv = next(iter(convs.get(id(read), ())), None)
        plain = conv is not None and type(trial.get_submodule(conv)) in PLAIN
        if conv is None or not plain or ran[conv] > 1 or uses.count[id(read)] != 1:
            raise UsageError(
                f"model.backbone.norm: this network's batch norms can't be folded (at {name})",
                hint="model.backbone.norm: frozen",
            )
        pairs.append(Pair(conv, name, norm.eps))
    return pairs


class _Uses(TorchDispatchMode):
    """Counts how many operators read each tensor; keeps them all, so that no id comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.kept: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        self.count.update({id(t) for t in given})
        out = args[0] if in_place(func) else func(*args, **(kwargs or {}))
        self.kept += [given, out]
        return out


def fold_norms(net: nn.Module, pairs: list[Pair]) -> None:
    """Give each convolution before a batch norm a bias, and leave of the norm its activation alone."""
    for pair in pairs:
        conv, norm = net.get_submodule(pair.conv), net.get_submodule(pair.norm)
        assert isinstance(conv, nn.Conv2d)
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
        parent, _, leaf = pair.norm.rpartition(".")
        setattr(net.get_submodule(parent), leaf, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())


def fold_state(state: dict[str, Tensor], pairs: list[Pair]) -> dict[str, Tensor]:
    """An unfolded state dict with the pairs' norms folded into their convolutions, each with its own epsilon.

    Raises KeyError where a key is missing; of a norm without scale and shift those are 1 and 0.
    """
    out = dict(state)
    for pair in pairs:
        variance = state[f"{pair.norm}.running_var"]
        gain = state.get(f"{pair.norm}.weight", torch.ones_like(variance)) / (variance + pair.eps).sqrt()
        shift = state.get(f"{pair.norm}.bias", torch.zeros_like(variance))
        before = state.get(f"{pair.conv}.bias", torch.zeros_like(variance))
        out[f"{pair.conv}.weight"] = state[f"{pair.conv}.weight"] * gain[:, None, None, None]
        out[f"{pair.conv}.bias"] = shift + (before - state[f"{pair.norm}.running_mean"]) * gain
    return out


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
