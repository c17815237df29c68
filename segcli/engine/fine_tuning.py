"""How much each part of a model learns: rates by part and by layer, what is frozen, a family's own defaults."""

import sys
from collections.abc import Collection, Iterable, Mapping

from torch import nn

from segcli.core.errors import UsageError
from segcli.core.plugins import nearest
from segcli.core.recipe.recipe import Optimizer, Recipe
from segcli.models.interface import Model


def follow(model: Model, environment: Mapping[str, object]) -> None:
    """Let a resumed run keep the groups of parameters that it began with (its environment.json): those of before
    `new_layers` was recorded froze nothing by a rate of 0, and called a backbone what is named so."""
    model.first_rates = "new_layers" not in environment


def with_family_defaults(recipe: Recipe, model: Model) -> Recipe:
    """The recipe, in which `train.optimizer` takes from `model.fine_tuning` what the recipe does not set itself; rates
    of parts that this model does not have are left out."""
    own, family = recipe.train.optimizer, model.fine_tuning
    if family is None or own.name != "adamw":
        return recipe
    names = [name for name, _ in model.named_parameters()]
    scales = {part: factor for part, factor in family.lr_scales.items() if any(part in name for name in names)}
    values: dict[str, object] = {"lr": family.lr, "layer_decay": family.layer_decay, "lr_scales": scales}
    values |= {"weight_decay": family.weight_decay, "norm_weight_decay": family.norm_weight_decay}
    rate = own.lr if family.lr is None or "lr" in own.model_fields_set else family.lr
    values["backbone_lr"] = None if family.backbone is None else rate * family.backbone
    taken = {k: v for k, v in values.items() if v not in (None, {}) and k not in own.model_fields_set}
    optimizer = Optimizer.model_validate({**own.model_dump(), **taken})
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"optimizer": optimizer})})


def rates(model: Model, settings: Optimizer) -> dict[str, float]:
    """Parameter name -> its base learning rate; 0 is frozen.

    `backbone_lr` applies to `model.backbone_parts`. With `layer_decay` d a backbone of L layers learns at d^(L - l) of
    it in layer l (0 is the first), at d^(L + 1) before them (patch embedding, stem) and at all of it behind them, as
    BEiT (Bao et al., 2022) and RF-DETR do. `lr_scales` multiply. Raises UsageError for a setting that is part of no
    parameter of this model.
    """
    backbone = model.backbone_parts
    depth, count = layers(model) if settings.layer_decay is not None else ({}, 0)
    names = [name for name, _ in model.named_parameters()]
    asked = settings.backbone_lr is not None and not model.first_rates
    if asked and not any(name.startswith(backbone) for name in names):
        raise UsageError(
            "train.optimizer.backbone_lr: this model has no part called a backbone", hint="backbone_lr: null"
        )
    out = {}
    for name in names:
        rate = settings.lr
        if name.startswith(backbone):
            rate = settings.lr if settings.backbone_lr is None else settings.backbone_lr
            rate *= (settings.layer_decay or 1.0) ** (count + 1 - depth.get(name, count + 1))
        for fragment, factor in settings.lr_scales.items():
            if fragment in name:
                rate *= factor
        out[name] = rate
    _check_scales(model, settings, out)
    return out


def layers(model: Model) -> tuple[dict[str, int], int]:
    """(parameter of the backbone -> its depth: 0 before the layers, 1 to L in them, L + 1 behind them; L).

    A layer is an entry of one of the backbone's outermost lists: a block of a vision transformer, a block or a stage of
    a pyramid. Raises UsageError where there is none.
    """
    parts = model.backbone_parts
    lists: list[tuple[str, int]] = []  # of modules: their name's beginning, and how many there are
    for path, module in model.named_modules():
        inside = f"{path}.".startswith(parts) and not any(path.startswith(before) for before, _ in lists)
        if inside and isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1:
            lists.append((f"{path}.", len(module)))
    count = sum(length for _, length in lists)
    if not count:
        raise UsageError("train.optimizer.layer_decay: this model's backbone has no layers", hint="layer_decay: null")
    out, begun = {}, 0
    first = {before: sum(length for _, length in lists[:i]) for i, (before, _) in enumerate(lists)}
    for name, _ in model.named_parameters():
        if not name.startswith(parts):
            continue
        found = next((before for before, _ in lists if name.startswith(before)), None)
        if found is not None:
            begun = first[found] + int(name.removeprefix(found).split(".")[0]) + 1
            out[name] = begun
        else:
            out[name] = begun if begun < count else count + 1
    return out, count


def freeze(model: Model, settings: Optimizer) -> None:
    """Freeze every parameter whose rate is 0: it costs no gradient, and batch norms of it stay as they are. Raises as
    `rates` does, and UsageError where nothing is left to learn."""
    rate_of = rates(model, settings)
    if model.first_rates:
        return
    for name, parameter in model.named_parameters():
        if rate_of[name] == 0:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("train.optimizer: every parameter is frozen, so there is nothing to learn")


def new_layers(model: Model, steps: int) -> list[str]:
    """Parameters that learn alone in the first `steps` steps: those that begin at random beside pretrained ones."""
    if not steps:
        return []
    if not model.loaded:
        raise UsageError(
            "train.schedule.new_layers_first: nothing of this model begins with pretrained weights",
            hint="new_layers_first: 0",
        )
    new = [name for name, p in model.named_parameters() if p.requires_grad and name not in model.loaded]
    if not new:
        print("note: train.schedule.new_layers_first: no layer begins at random, so all learn at once", file=sys.stderr)
    return new


def describe(model: Model, settings: Optimizer, new: Collection[str]) -> str:
    """One line: how many parameters of backbone, class layers and the rest learn, at which rates; what is frozen."""
    parts: dict[str, list[str]] = {"backbone": [], "class layers": [], "the rest": []}
    for name, _ in model.named_parameters():
        kind = "backbone" if name.startswith(model.backbone_parts) else "the rest"
        parts["class layers" if name.startswith(model.class_layers) else kind].append(name)
    rate_of, parameters = rates(model, settings), dict(model.named_parameters())
    sentences = []
    for title, names in parts.items():
        moving = [name for name in names if parameters[name].requires_grad]
        still = [name for name in names if not parameters[name].requires_grad]
        said = []
        if moving:
            low, high = min(rate_of[n] for n in moving), max(rate_of[n] for n in moving)
            span = f"{high:.1e}" if low == high else f"{low:.1e} to {high:.1e}"
            said.append(f"{_millions(parameters[n].numel() for n in moving)} at {span}")
        if still:
            said.append(f"{_millions(parameters[n].numel() for n in still)} frozen")
        if said:
            sentences.append(f"{title} {', '.join(said)}")
    first = f"; first alone: {_millions(parameters[n].numel() for n in new)} that begin at random" if new else ""
    return "parameters that learn, at which rate: " + "; ".join(sentences) + first


def _millions(counts: Iterable[int]) -> str:
    return f"{sum(counts) / 1e6:.3g} M"


def _check_scales(model: Model, settings: Optimizer, rate_of: Mapping[str, float]) -> None:
    """What a rate of 0 has frozen, or will, counts as trained."""
    trained = [name for name, p in model.named_parameters() if p.requires_grad or rate_of[name] == 0]
    for fragment in settings.lr_scales:
        if not any(fragment in name for name in trained):
            parts = sorted({part for name in trained for part in name.split(".") if not part.isdigit()})
            raise UsageError(
                f"train.optimizer.lr_scales: no trained parameter has {fragment!r} in its name",
                hint=nearest(fragment, parts),
            )
