"""Weights that come with the package: what lite models learned on `scenes`, images that a formula makes
(recipes/pretrain/; docs/weights.md has their card). Half precision; without the trunk where that stayed as
ImageNet left it."""

from collections.abc import Mapping
from pathlib import Path

from segcli.core.errors import UsageError

LICENCE = "Apache-2.0"
FOLDER = Path(__file__).with_name("scenes_weights")
# Family: the file that it begins with. detr_lite is maskformer_lite without masks.
FILES = {"rcnn_lite": "rcnn_lite", "detr_lite": "maskformer_lite", "maskformer_lite": "maskformer_lite"}
TRUNK = {"name": "efficientnet_lite0", "weights": "imagenet"}
WITHOUT = "--set init=null begins without them"


def file_for(model: Mapping[str, object]) -> Path:
    """The file for a recipe's `model` section. Raises UsageError where there is none."""
    family, backbone = str(model["name"]), model.get("backbone")
    if family not in FILES:
        known = ", ".join(FILES)
        raise UsageError(f"init: scenes: there are no such weights for {family}, but for {known}", hint=WITHOUT)
    if not isinstance(backbone, dict) or any(backbone.get(key) != value for key, value in TRUNK.items()):
        message = "init: scenes: its weights go with the backbone efficientnet_lite0 that begins with imagenet"
        raise UsageError(message, hint=WITHOUT)
    return FOLDER / f"{FILES[family]}.safetensors"
