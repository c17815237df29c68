"""`build_model`: from a recipe's `model` section and a dataset's class counts to a module with random weights."""

from typing import Any

from torch import nn

from segcli.lookup import call, find


def build_model(settings: dict[str, Any], *, task: str, num_classes: int, num_things: int) -> nn.Module:
    """Build `settings["name"]` for `num_classes` categories, of which the first `num_things` are things.

    Never loads weights. The module has `forward(batch) -> dict of weighted losses`, `predict(batch) -> [Prediction]`,
    `inspect(batch) -> dict`, `network(images_BCHW)` (the inference network at fixed shapes, for counting), `preprocess`
    (ops.preprocess.Preprocess), `fields` (name -> types.Field that its targets need) and `max_detections`.
    Raises UsageError for an unknown name or setting.
    """
    settings = dict(settings)
    name = settings.pop("name")
    plugin = find("model", name, "model.name")
    return call(plugin.build, settings, "model", task=task, num_classes=num_classes, num_things=num_things)
