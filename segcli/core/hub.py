"""Checkpoints in the layout of Hugging Face's hub: folders on this disk, or names that its own client loads into
its cache. Only JSON, safetensors and the model card are ever taken."""

import importlib.util
import re
import textwrap
from pathlib import Path

import pydantic

from segcli.core.errors import ModelError
from segcli.core.files import parsed, read_json, read_text
from segcli.core.yaml_file import parse_yaml

SMALL = ["config.json", "preprocessor_config.json", "processor_config.json", "README.md"]
WEIGHTS = [*SMALL, "*.safetensors", "*.safetensors.index.json"]
NAME = re.compile(r"[\w.-]+/[\w.-]+")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")


class Index(pydantic.BaseModel):
    """model.safetensors.index.json: which file has which tensor."""

    weight_map: dict[str, str]


def require_library() -> None:
    """Raise ModelError with the command that installs the library, where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise ModelError("model transformers needs the package transformers", hint="pip install 'segcli[transformers]'")


def folder_of(checkpoint: str, *, weights: bool = False) -> Path:
    """The folder with a checkpoint's configuration and, with `weights`, its tensors; loaded where it is a hub's name.

    Raises ModelError for what is neither, for what can't be loaded, and where there are no safetensors.
    """
    require_library()
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        folder = _loaded(checkpoint, WEIGHTS if weights else SMALL)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{checkpoint}: no config.json, so no checkpoint of transformers")
    if weights:
        _check_weights(folder, checkpoint)
    return folder


def cached(name: str) -> bool:
    """Whether the tensors of a hub's name were loaded before."""
    from huggingface_hub import try_to_load_from_cache

    if not NAME.fullmatch(name):
        return False
    files = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in files)


def licence_of(folder: Path) -> str:
    """What the model card's head says, `unknown` without one."""
    card = folder / "README.md"
    text = read_text(card, error=ModelError) if card.is_file() else ""
    head = re.match(r"---\n(.*?)\n---\n", text, re.S)
    stated = parse_yaml(head[1], str(card), error=ModelError) if head else None
    return str(stated.get("license", "unknown")) if isinstance(stated, dict) else "unknown"


def _loaded(name: str, patterns: list[str]) -> Path:
    if not NAME.fullmatch(name):
        raise ModelError(f"{name}: no such folder, and not a name on the hub (OWNER/NAME)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # a hub client raises dozens of kinds; to the user all mean: not to be had now
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise ModelError(
            f"the checkpoint {name} can't be loaded from the hub: {reason}",
            hint="without a connection: a folder with config.json, preprocessor_config.json and model.safetensors",
        ) from error


def _check_weights(folder: Path, checkpoint: str) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(
            {*parsed(Index, read_json(index, error=ModelError), index, error=ModelError).weight_map.values()}
        )
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing == ["model.safetensors"] and any((folder / name).is_file() for name in PICKLED):
        raise ModelError(
            f"{checkpoint}: its weights are pickled, which can run code, and are not read",
            hint="model.save_pretrained of transformers writes safetensors",
        )
    if missing or not names:
        raise ModelError(
            f"{checkpoint}: {missing[0] if missing else 'model.safetensors'} is missing: half a download?",
            hint="load or copy it again",
        )
