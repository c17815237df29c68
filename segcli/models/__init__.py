"""`build_model`: from a recipe's `model` section and a dataset's class counts to a module with random weights."""

from collections.abc import Mapping
from types import MappingProxyType

from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.models.interface import Backbone, Declared, Model, Prunable


def build_model(
    settings: Mapping[str, object],
    *,
    task: str,
    num_classes: int,
    num_things: int,
    num_keypoints: int = 0,
    declared: Declared = MappingProxyType({}),
) -> Model:
    """Build `settings["name"]` for `num_classes` categories, of which the first `num_things` are things, with at most
    `num_keypoints` keypoints each. declared: what the dataset declares for each field of its objects.

    Never loads weights. Raises UsageError for an unknown name or setting, or a plugin that builds no Model.
    """
    settings = dict(settings)
    name = str(settings.pop("name"))
    given: dict[str, object] = {"task": task, "num_classes": num_classes, "num_things": num_things}
    given |= {"num_keypoints": num_keypoints, "declared": declared}
    model = call(find("model", name, "model.name").build, settings, "model", **given)
    if not isinstance(model, Model):
        raise UsageError(
            f"the model plugin {name} builds a {type(model).__name__}, not a segcli.models.interface.Model"
        )
    return model


def settled(settings: Mapping[str, object]) -> dict[str, object]:
    """A recipe's `model` section with what building needs from elsewhere (a checkpoint's configuration) written into
    it, as the plugin's `settled` does it, so that a run opens by itself."""
    plugin = find("model", str(settings["name"]), "model.name")
    settle = getattr(plugin, "settled", None)
    return dict(settings) if settle is None else settle(dict(settings))


def build_backbone(settings: Mapping[str, object], *, maps: int | None = None) -> Backbone:
    """Build `settings["name"]` from the backbone folder. The weights that the key `weights` names are not loaded here.

    maps: how many of its coarsest maps the model reads (None: all). Raises UsageError for an unknown name or setting,
    or a plugin that builds no Backbone.
    """
    settings = dict(settings)
    name = settings.pop("name", None)
    pretrained = settings.pop("weights", None)
    plugin = find("backbone", str(name), "model.backbone.name")
    backbone = call(plugin.build, settings, "model.backbone")
    backbone.pretrained, backbone.settings = pretrained, {"name": name, **settings}
    if not isinstance(backbone, Backbone):
        raise UsageError(
            f"the backbone plugin {name} builds a {type(backbone).__name__}, which is no backbone",
            hint="it needs channels, strides, forward and load_pretrained (docs/backbones.md)",
        )
    if maps is not None and isinstance(backbone, Prunable):
        backbone.keep_coarsest(maps)
    return backbone
