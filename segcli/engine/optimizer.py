"""Optimiser, learning-rate schedule and moving average, from a recipe's `train` section."""

import math
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from segcli.core.recipe.recipe import Optimizer, Schedule
from segcli.engine.fine_tuning import rates
from segcli.models.interface import Model

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(model: Model, settings: Optimizer, new: Collection[str] = frozenset()) -> torch.optim.Optimizer:
    """AdamW or SGD with a parameter group per learning rate and weight decay; each group stores its rate as `base`.

    new: names of the parameters that learn before the others (`Schedule.new_layers_first`); their groups say `new`.
    """
    norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    rate_of = rates(model, settings)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        leaf = name.rpartition(".")[2]
        decay = settings.weight_decay
        plain = parameter.ndim <= 1 or id(parameter) in embeddings or "bias" in leaf  # bias tables are matrices
        if plain and settings.norm_weight_decay is not None:
            decay = settings.norm_weight_decay
        bias = parameter.ndim == 1 and leaf.endswith("bias") and id(parameter) not in norms
        if bias and settings.bias_weight_decay is not None:
            decay = settings.bias_weight_decay
        groups.setdefault((rate_of[name], decay, name in new), []).append(parameter)
    listed = [
        {"params": p, "lr": r, "base": r, "weight_decay": d, **({"new": True} if first else {})}
        for (r, d, first), p in groups.items()
    ]
    # fused: one pass over memory; the default on a CPU makes several
    if settings.name == "sgd":
        return torch.optim.SGD(listed, lr=settings.lr, momentum=settings.momentum, fused=True)
    return torch.optim.AdamW(listed, lr=settings.lr, betas=settings.betas, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, settings: Schedule, step: int, total: int, share: float | None) -> None:
    """Each group's learning rate at `step`, see `rate_factor`."""
    waiting = settings.new_layers_first if any(group.get("new") for group in optimizer.param_groups) else 0
    for group in optimizer.param_groups:
        wait = 0 if group.get("new") else waiting
        group["lr"] = group["base"] * rate_factor(settings, step, total, share, wait)


def rate_factor(settings: Schedule, step: int, total: int, share: float | None = None, wait: int = 0) -> float:
    """The factor on a group's base rate at `step` (0-based) of `total`; share: of the training (0..1) done by then, for
    trainings given in minutes (pace.py). wait: steps in which the group does not learn; its warm-up follows them."""
    if step < wait:
        return 0.0
    if step - wait < settings.warmup_steps:
        return settings.warmup_factor + (1 - settings.warmup_factor) * (step - wait + 1) / settings.warmup_steps
    share = step / max(total, 1) if share is None else share
    if settings.name == "constant":
        return 1.0
    if settings.name == "step":
        return settings.gamma ** sum(share >= m for m in settings.milestones)
    rest = min(max((share - settings.flat) / (1 - settings.flat), 0.0), 1.0)
    if settings.name == "poly":
        return (1 - rest) ** settings.power
    return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * rest))


class MovingAverage:
    """Exponential moving average of the weights: s ← d·s + (1 − d)·w, with d rising to `decay` over the first steps."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """step: the number of optimiser steps done, 1 after the first."""
        decay = min(self.decay, (1 + step) / (20 + step))
        current = model.state_dict()
        pairs = [(self.state[k], v) for k, v in current.items() if v.is_floating_point()]
        torch._foreach_lerp_([s for s, _ in pairs], [v for _, v in pairs], 1 - decay)
        for key, value in current.items():
            if not value.is_floating_point():
                self.state[key].copy_(value)

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Load a saved average from any device; it stays on the model's device.

        Raises KeyError if keys differ, RuntimeError if shapes do.
        """
        if state.keys() != self.state.keys():
            raise KeyError(f"average of other weights: {sorted(state.keys() ^ self.state.keys())[:4]}")
        for key, own in self.state.items():
            if own.shape != state[key].shape:  # copy_ would broadcast
                raise RuntimeError(f"average of {key} is {list(state[key].shape)}, the model's {list(own.shape)}")
            own.copy_(state[key])


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale gradients down to a total norm of `limit`; -> the norm before. None only measures."""
    return torch.nn.utils.clip_grad_norm_(list(parameters), math.inf if limit is None else limit, foreach=True)
