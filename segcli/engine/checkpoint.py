"""Weights and training states on disk: written whole or not at all, read without running code."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import ModelError
from segcli.core.files import part_beside, write_atomic
from segcli.engine.training_state import weights_of
from segcli.models.interface import Backbone, Model, Started
from segcli.weights import transformers_checkpoint
from segcli.weights.backbones import load_backbone
from segcli.weights.class_rows import around_the_mean, order_of, take_rows
from segcli.weights.official import Checkpoint, find, resolve
from segcli.weights.plain_tensors import plain_tensors, reason, refuse_unusable
from segcli.weights.reading import read_state, refuse_damage
from segcli.weights.state_digest import DIGEST, signed, verified, weights_digest
from segcli.weights.translate import translate

# Suffixes of constant buffers; optional in a checkpoint.
CONSTANTS = ("num_batches_tracked", "relative_position_index", "empty_weight", "pixel_mean", "pixel_std")


def save_state(path: Path, state: dict[str, Any], previous: Path | None = None) -> None:
    """Write a training state (tensors, numbers, strings, lists, dicts) with its digest.

    previous: the new name of the checkpoint that `path` held before.
    """

    def write(part: Path) -> None:
        torch.save(signed(state), part)
        if previous is not None and path.is_file():
            _keep(path, previous)

    write_atomic(path, write)


def _keep(path: Path, previous: Path) -> None:
    """Link `path` as `previous`, so that a complete checkpoint is under `path` at any moment."""
    part = part_beside(previous)
    part.unlink()
    try:
        os.link(path, part)
        os.replace(part, previous)
    except OSError:  # a file system without hard links
        os.replace(path, previous)
    finally:
        part.unlink(missing_ok=True)  # rename leaves it if both names are links to one file


def recover(last: Path, previous: Path) -> dict[str, Any]:
    """The training state of the last checkpoint. If that is damaged or missing, the previous one replaces it, with a
    message. Raises ModelError if neither is usable."""
    try:
        state = load_state(last)
        weights_of(state, str(last))
    except ModelError as error:
        if not previous.is_file():
            raise
        state = load_state(previous)
        weights_of(state, str(previous))  # raises if it is damaged, too
        progress = state.get("progress")
        step = progress.get("step") if isinstance(progress, dict) else "?"
        os.replace(previous, last)
        print(f"note: {error}: going on from the checkpoint before it, of step {step}", file=sys.stderr)
    return state


def load_state(path: Path) -> dict[str, Any]:
    """Read a state written by `save_state`. Raises ModelError if it is missing, truncated, altered since it was
    written, or holds anything but plain data."""
    if not path.is_file():
        raise ModelError(f"{path}: no checkpoint", hint="was the run stopped before its first save?")
    refuse_damage(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types; each means that the file is unusable
        raise ModelError(f"{path}: not a readable checkpoint: {reason(error)}") from error
    loaded: dict[str, Any] = verified(state, str(path))
    return loaded


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Weights alone, as safetensors, with a digest of them."""
    plain: dict[str, Tensor] = {}
    stored: set[int] = set()  # safetensors refuses tensors that share memory, as tied weights do
    for key, value in state.items():
        tensor = value.detach().contiguous().cpu()
        plain[key] = tensor.clone() if tensor.data_ptr() in stored else tensor
        stored.add(plain[key].data_ptr())
    described = {**metadata, DIGEST: weights_digest(plain)}

    def write(part: Path) -> None:
        try:
            safetensors.torch.save_file(plain, part, described)
        except safetensors.SafetensorError as error:  # a full disk, too
            raise RuntimeError(str(error)) from error

    write_atomic(path, write)


def initialise(model: nn.Module, info: DatasetInfo | None = None, *, partial: bool = True) -> list[dict[str, str]]:
    """Load the pretrained weights that a recipe's `model` section names: of backbones, or of a whole model, whose class
    layers take rows by the names of the dataset's classes. -> source and licence of each.

    `partial=False` (for a model that is not trained further) allows no random weights. Raises ModelError.
    """
    used, given = [], set[int]()
    if isinstance(model, Started):
        used.append(_start_whole(model, info, partial))
    for module in model.modules():
        if isinstance(module, Backbone) and module.pretrained is not None:
            used.append(load_backbone(module, module.pretrained, module.settings))
            given |= {id(parameter) for parameter in module.parameters()}
    if isinstance(model, Model):
        model.loaded |= {name for name, parameter in model.named_parameters() if id(parameter) in given}
    return used


def _start_whole(model: Started, info: DatasetInfo | None, partial: bool) -> dict[str, str]:
    found = transformers_checkpoint.read(model.begins_with, model.architecture)
    own = model.net.state_dict()
    layers = [key.removeprefix("net.") for key in model.class_layers]
    names = info.names[: model.labels] if info else []
    try:
        state, anew = transformers_checkpoint.for_classes(found, own, layers, names)
    except ModelError as error:
        raise ModelError(f"{model.begins_with}: {error}") from error
    note = f"class layers begin anew, for {model.labels} classes" if anew else "class rows taken by name"
    if anew and not partial:
        raise ModelError(f"{model.begins_with}: has other classes than the dataset", hint="train from it first")
    print(f"note: {model.begins_with}: {note}", file=sys.stderr)
    refuse_unusable(state, own, model.begins_with)
    model.net.load_state_dict({**own, **state})
    model.loaded |= {f"net.{key}" for key in state}
    return {"source": model.begins_with, "licence": found.licence}


def load_weights(
    model: nn.Module,
    file: str | Path,
    source: str = "auto",
    *,
    info: DatasetInfo | None = None,
    same_classes: bool = True,
    mean_rows: bool = False,
    partial: bool = True,
    kept: tuple[str, ...] = (),
    called: str | None = None,
) -> dict[str, list[str]]:
    """Load a weight file, or an official checkpoint by name, into a model. -> the report of keys.

    source: auto, segcli, torchvision, detr, maskformer, detectron2 or huggingface: the naming scheme of the file's
    keys. info: the dataset's classes. If all of them are classes of the official checkpoint, class layers take its rows
    by class name; class layers of any other size keep their random start, and so do all where the file's classes are
    not the model's (same_classes=False); with mean_rows, every class begins near the mean of the file's rows, which are
    one a class. Whole heads may be missing in the file (they stay random) or in the model
    (they are skipped). All this is printed on stderr and returned in the report: "loaded", "reinitialised", "missing",
    "unexpected", "selected" (class rows by name), "ignored" (constants, counters). No other difference is allowed.
    kept: prefixes of parameters that stay as they are where the file has none: of a trunk with its own weights.
    called: what notes call the file.
    `partial=False` (for a model that is not trained further) allows no random weights. Raises ModelError that lists
    every difference, leaving the model unchanged; UsageError for an unknown source.
    """
    known = find(file)
    if known is not None and known.source == "backbone":
        raise ModelError(
            f"{file} are weights of a backbone alone", hint="name them as model.backbone.weights: imagenet"
        )
    state = read_state(resolve(file))
    own = model.state_dict()
    state, layout = translate(state, set(own), known.source if known and source == "auto" else source)
    state = {key: value for key, value in own.items() if key.startswith(kept)} | state
    classes = model.class_layers if isinstance(model, Model) else ()  # any module may be given weights
    rows = [k for k in state if mean_rows and k.startswith(classes) and k in own]
    means = {k: around_the_mean(state[k], own[k]) for k in rows if state[k].shape[1:] == own[k].shape[1:]}
    state |= means
    report: dict[str, list[str]] = {"selected": _select_rows(state, own, layout, classes, info)}
    report |= _fit(state, own, classes, str(file), same_classes)
    notes = _notes(report, own, model, known, same_classes)
    if means:
        notes.insert(0, f"other classes: each begins near the mean of the file's: {_layers(means)}")
    if not partial and (report["reinitialised"] or report["missing"]):
        raise ModelError(f"{file}: weights of another model: " + "; ".join(notes), hint="train with them as init first")
    for note in notes:
        print(f"note: {called or file}: {note}", file=sys.stderr)
    loaded = {key: state[key] for key in report["loaded"]}
    refuse_unusable(loaded, own, str(file))
    model.load_state_dict({**own, **loaded})
    if isinstance(model, Model):
        model.loaded |= loaded.keys()
    return report


def _select_rows(
    state: dict[str, Tensor],
    own: dict[str, Tensor],
    layout: str,
    classes: tuple[str, ...],
    info: DatasetInfo | None,
) -> list[str]:
    """Select the rows of the dataset's classes in the official class layers of `state`, if all classes are there."""
    layers = [key for key in state if key in own and key.startswith(classes) and state[key].ndim]
    candidates = [info.names, info.names[: info.num_things]] if info else []  # of a layer: all classes, or the things
    for rows in sorted({len(state[key]) for key in layers}):
        for names in candidates:
            order = order_of(layout, rows, names)
            if order is None or any(len(state[k]) % rows for k in layers):
                continue
            taken = {key: take_rows(state[key], rows, order) for key in layers}
            if all(len(value) == len(own[key]) for key, value in taken.items()):
                state.update(taken)
                return layers
    return []


def _fit(
    state: dict[str, Tensor], own: dict[str, Tensor], classes: tuple[str, ...], where: str, same_classes: bool
) -> dict[str, list[str]]:
    """Compare the keys of model and file; raise ModelError for any difference that is not allowed."""
    constant = lambda key: key.endswith(CONSTANTS)
    missing = [k for k in own if k not in state and not constant(k)]
    unexpected = [k for k in state if k not in own and not constant(k)]
    other = [k for k in own if k in state and own[k].shape != state[k].shape]
    anew = [k for k in other if k.startswith(classes) and _other_count(own[k], state[k])]
    if not same_classes:
        anew += [k for k in own if k in state and k not in other and k.startswith(classes)]
    problems = {
        "missing": [k for k in missing if not (part := _part(k)) or any(s.startswith(part) for s in state)],
        "unexpected": [k for k in unexpected if not (part := _part(k)) or any(o.startswith(part) for o in own)],
        "of another shape": [k for k in other if k not in anew],
    }
    if any(problems.values()):
        raise ModelError(f"{where}: weights of another model: {_list(problems, own, state)}")
    return {
        "loaded": [k for k in own if k in state and k not in anew],
        "reinitialised": anew,
        "missing": missing,
        "unexpected": unexpected,
        "ignored": [k for k in state if k not in own and constant(k)],
    }


def _other_count(own: Tensor, given: Tensor) -> bool:
    """Whether two weights differ only in the number of outputs (the second axis of a transposed convolution)."""
    return own.ndim == given.ndim and sum(a != b for a, b in zip(own.shape, given.shape, strict=True)) == 1


def _part(key: str) -> str:
    """The optional part (a second head, mask head, stuff kernels) that the parameter `key` belongs to."""
    match = re.match(r"(roi_heads\.heads\.\w+|bbox_attention|mask_head|aux_classifier|stuff|masks)\.", key)
    return match[0] if match else ""


def _layers(keys: Iterable[str]) -> str:
    return ", ".join(sorted({key.rpartition(".")[0] for key in keys}))


def _notes(
    report: dict[str, list[str]],
    own: dict[str, Tensor],
    model: nn.Module,
    known: Checkpoint | None,
    same_classes: bool,
) -> list[str]:
    """Messages for the user about weights that were loaded only in part."""
    notes = []
    parts = lambda keys: ", ".join(sorted({_part(key).rstrip(".") for key in keys}))
    if report["selected"]:
        notes.append("class rows taken by name")
    if report["reinitialised"]:
        why = "another number of classes" if same_classes else "other classes"
        notes.append(f"{why}: begin anew: {_layers(report['reinitialised'])}")
    if report["missing"]:
        notes.append(f"not in the file, begin at random: {parts(report['missing'])}")
    if report["unexpected"]:
        notes.append(f"not in this model, left out: {parts(report['unexpected'])}")
    eps = {m.eps for m in model.modules() if isinstance(m, FrozenBatchNorm2d)}
    if known is not None and known.frozen_eps is not None and eps - {known.frozen_eps}:
        notes.append(f"made with model.backbone.norm_eps: {known.frozen_eps}, and the model has {max(eps)}")
    return notes


def load_strict(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load `state`, or raise ModelError with every difference, leaving the model unchanged."""
    plain_tensors(state, where)
    own = model.state_dict()
    problems = {
        "missing": [k for k in own if k not in state],
        "unexpected": [k for k in state if k not in own],
        "of another shape": [k for k in own if k in state and own[k].shape != state[k].shape],
    }
    if any(problems.values()):
        raise ModelError(f"{where}: weights of another model: {_list(problems, own, state)}")
    refuse_unusable(state, own, where)
    model.load_state_dict(state)


def _list(problems: dict[str, list[str]], own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    out = []
    for title, keys in problems.items():
        shape = title == "of another shape"
        shown = [f"{k} {list(state[k].shape)} for {list(own[k].shape)}" if shape else k for k in keys[:4]]
        if keys:
            out.append(f"{len(keys)} {title} ({', '.join(shown)}{', …' if len(keys) > 4 else ''})")
    return "; ".join(out)
