"""Weights of a checkpoint of the library `transformers`, for a model with other classes."""

import collections
import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import ModelError
from segcli.core.files import read_json
from segcli.core.hub import cached, folder_of, licence_of
from segcli.weights.class_rows import official_info


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """state: under the library's names of today; names: its classes, by their rows; licence: as its card says."""

    state: dict[str, Tensor]
    names: list[str]
    licence: str


def read(checkpoint: str, architecture: str) -> Checkpoint:
    """Every tensor of a checkpoint, through the library's own loader, which knows older names of its parameters.

    Only safetensors are read, and attention is the library's own, whatever kernel (code of the hub) the configuration
    names. Says the licence of a name on the hub before it is loaded. Raises ModelError where a tensor is missing,
    damaged or of another architecture.
    """
    import transformers

    small = folder_of(checkpoint)
    licence = licence_of(small)
    if small != Path(checkpoint).expanduser() and not cached(checkpoint):
        print(f"note: loading {checkpoint}, licence {licence}, from huggingface.co", file=sys.stderr)
    folder = folder_of(checkpoint, weights=True)
    _refuse_damage(folder)
    given = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False, "dtype": torch.float32}
    given["ignore_mismatched_sizes"] = True  # they are refused below, in a sentence
    kind = getattr(transformers, architecture)
    told = transformers.utils.logging
    told.disable_progress_bar()  # a second's work
    before = told.get_verbosity()
    told.set_verbosity(told.CRITICAL)  # its table of differing tensors, a line each
    try:
        config = kind.config_class.from_pretrained(folder, local_files_only=True)
        config._attn_implementation = None  # of its parts, too
        found, report = kind.from_pretrained(folder, config=config, output_loading_info=True, **given)
    except Exception as error:  # the library raises many kinds; each means that the files are unusable
        raise ModelError(f"{checkpoint}: can't be loaded: {' '.join(str(error).split())[:200]}") from error
    finally:
        told.set_verbosity(before)
    _refuse_others(checkpoint, report)
    return Checkpoint(found.state_dict(), class_names(folder), licence)


def _refuse_others(checkpoint: str, report: dict[str, Iterable[Any]]) -> None:
    """Raise ModelError for tensors that the library's report says are missing or of another shape."""
    for kind, title in (("missing_keys", "missing"), ("mismatched_keys", "of another shape")):
        keys = sorted(key if isinstance(key, str) else str(key[0]) for key in report.get(kind) or ())
        if keys:
            shown = ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")
            raise ModelError(
                f"{checkpoint}: its tensors are not those of its config.json: {len(keys)} {title} ({shown})",
                hint="load or copy all files of the checkpoint again",
            )


def class_names(folder: Path) -> list[str]:
    """A checkpoint's classes in the order of their rows, each with a name of its own: N/A, N/A 2, …, as placeholders of
    unused ids are called."""
    table = read_json(folder / "config.json", error=ModelError).get("id2label")
    if not isinstance(table, dict):
        return []
    seen, out = collections.Counter[str](), []
    for key in sorted(table, key=int):
        name = str(table[key])
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return out


def classes_of(checkpoint: str, *, stuff: bool, things: bool) -> DatasetInfo:
    """A checkpoint's own classes, enough to predict without a dataset. stuff, things: of the task.

    Raises ModelError where both are asked for and nothing tells which is which.
    """
    names = class_names(folder_of(checkpoint))
    if not names:
        raise ModelError(f"{checkpoint}: its config.json names no classes", hint="--data DIR with the dataset's own")
    if stuff and things:
        known = official_info("coco_panoptic")
        if names != known.names:
            raise ModelError(
                f"{checkpoint}: which of its {len(names)} classes are things is not known", hint="prepare the dataset"
            )
        return known
    return DatasetInfo(checkpoint, tuple(Category(n, i + 1, thing=things) for i, n in enumerate(names)), {})


def for_classes(
    found: Checkpoint, own: dict[str, Tensor], class_layers: list[str], names: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """(the state for a model whose tensors are `own`, the class layers that keep their own values).

    Layers of classes take the checkpoint's rows by name where every one of `names` has one; rows behind the classes (no
    object, the padding of denoising) stay behind them. Raises ModelError where anything else differs.
    """
    rows = {name.lower(): i for i, name in enumerate(found.names)}
    order = [rows[name.lower()] for name in names] if all(name.lower() in rows for name in names) else None
    state, anew = {}, []
    for key, value in own.items():
        given = found.state.get(key)
        if given is None:
            raise ModelError(f"weights of another model: {key} is missing")
        if key in class_layers:
            behind = len(value) - len(names)
            fits = order is not None and len(given) - behind == len(found.names) and given.shape[1:] == value.shape[1:]
            if not fits:
                anew.append(key)
                continue
            assert order is not None
            given = given[[*order, *range(len(found.names), len(given))]]
        if given.shape != value.shape:
            raise ModelError(f"weights of another model: {key} is {list(given.shape)} for {list(value.shape)}")
        state[key] = given
    return state, anew


def _refuse_damage(folder: Path) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safetensors.safe_open(path, "pt"):
                pass
        except (OSError, safetensors.SafetensorError) as error:
            raise ModelError(
                f"{path}: is damaged, or half a download: {' '.join(str(error).split())[:160]}",
                hint="load or copy it again",
            ) from error
