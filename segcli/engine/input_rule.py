"""The version of the preprocessing rule, recorded in each run, so that an old run scores as it did.

Rule 2: sizes of one number have a square canvas and exact targets; MaskFormer's and the per-pixel baselines' sizes are
rounded as detectron2 rounds them, and the latter's are not padded. Rule 1, of runs without a recorded rule, had DETR's
rounding, the smallest canvas that holds the images of a batch, and targets sampled half a pixel off.
"""

import dataclasses
from collections.abc import Mapping

from segcli.core.errors import ModelError
from segcli.models.interface import Model

NEWEST = 2


def follow(model: Model, environment: Mapping[str, object]) -> None:
    """Set `model`'s preprocessing to the rule recorded in a run's environment.json.

    Raises ModelError for a rule that this version does not know.
    """
    rule = environment.get("input_rule", 1)
    if rule not in (1, NEWEST):
        raise ModelError(
            f"the run has input rule {rule!r}, and this version of segcli knows 1 to {NEWEST}",
            hint="use the version that trained it, or a newer one",
        )
    if rule == 1:
        now = model.preprocess
        method = "pil" if now.method == "detectron2" else now.method
        divisor = model.first_divisor or now.divisor
        model.preprocess = dataclasses.replace(now, method=method, targets="nearest", divisor=divisor, square=False)
