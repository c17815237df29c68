"""Weights that come with the package: what `rcnn_lite` learned on `scenes`, images that a formula makes
(recipes/pretrain/; docs/weights.md has their card). Half precision, without the trunk, which stayed frozen and
has weights of its own."""

from collections.abc import Mapping
from pathlib import Path

from segcli.core.errors import UsageError

LICENCE = "Apache-2.0"
FOLDER = Path(__file__).with_name("scenes_weights")
FILES = {"rcnn_lite": "rcnn_lite"}  # family: its file
TRUNK = {"name": "efficientnet_lite0", "weights": "imagenet"}
WITHOUT = "--set init=null begins with the trunk's ImageNet weights alone"


def file_for(model: Mapping[str, object]) -> Path:
    """The file for a recipe's `model` section. Raises UsageError where there is none."""
    family = str(model["name"])
    if family not in FILES:
        raise UsageError(
            f"init: scenes: there are no such weights for {family}, but for {', '.join(FILES)}", hint=WITHOUT
        )
    backbone = model.get("backbone")
    if not isinstance(backbone, dict) or any(backbone.get(key) != value for key, value in TRUNK.items()):
        raise UsageError(
            "init: scenes: its weights go with the backbone efficientnet_lite0 that begins with imagenet",
            hint="--set init=null begins without them",
        )
    return FOLDER / f"{FILES[family]}.safetensors"
