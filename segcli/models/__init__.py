"""`build_model`: from a recipe's `model` section and a dataset's class counts to a module with random weights."""

from typing import Any

from torch import nn

from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.models.interface import Model


def build_model(
    settings: dict[str, Any], *, task: str, num_classes: int, num_things: int, num_keypoints: int = 0
) -> Model:
    """Build `settings["name"]` for `num_classes` categories, of which the first `num_things` are things, with at most
    `num_keypoints` keypoints each.

    Never loads weights. Raises UsageError for an unknown name or setting, or a plugin that builds no Model.
    """
    settings = dict(settings)
    name = settings.pop("name")
    plugin = find("model", name, "model.name")
    given = {"task": task, "num_classes": num_classes, "num_things": num_things, "num_keypoints": num_keypoints}
    model = call(plugin.build, settings, "model", **given)
    if not isinstance(model, Model):
        raise UsageError(
            f"the model plugin {name} builds a {type(model).__name__}, not a segcli.models.interface.Model"
        )
    return model


def build_backbone(settings: dict[str, Any], *, maps: int | None = None) -> nn.Module:
    """Build `settings["name"]` from the backbone folder.

    maps: how many of its coarsest maps the model reads (None: all). A backbone whose finer maps have parameters of
    their own defines `keep_coarsest(maps)`: what nobody reads would never get a gradient.

    The key `weights` names pretrained weights. They are not loaded here: it is kept as `backbone.pretrained`, and
    `checkpoint.initialise` loads it before training. A backbone has `channels` and `strides` (fine to coarse) and
    returns one feature map for each.
    """
    settings = dict(settings)
    name = settings.pop("name", None)
    pretrained = settings.pop("weights", None)
    plugin = find("backbone", str(name), "model.backbone.name")
    backbone = call(plugin.build, settings, "model.backbone")
    if maps is not None and hasattr(backbone, "keep_coarsest"):
        backbone.keep_coarsest(maps)
    backbone.pretrained, backbone.settings = pretrained, {"name": name, **settings}
    return backbone
