"""Recipes and run folders of earlier versions: their `model` section in the names of today.

Until models for little data had names of their own, options switched to them: rcnn with `variant: lite`, detr and
maskformer with `box_queries: true`, maskformer with `masked_attention: true`, per_pixel with the name of a variant. The
names of their parameters did not change.
"""

from typing import Any

BEFORE = {  # a model's name in recipes of earlier versions
    "rcnn_lite": "rcnn",
    "detr_lite": "detr",
    "maskformer_lite": "maskformer",
    "mask2former_lite": "maskformer",
    "per_pixel_plus": "per_pixel",
    "fcn": "per_pixel",
}
LITE_HEADS = {"box": "iou_box", "mask": "lite_mask", "keypoint": "lite_keypoint"}
SWITCHES = {"box_queries": "{}_lite", "masked_attention": "mask2former_lite"}
OF_BOXES = {"levels": 1, "deformable": False, "selection": False, "distinct": None, "denoising": 0, "groups": 1}
WITHOUT_EFFECT = {  # what these took before, and never read
    "rcnn_lite": {"fpn_norm", "rpn_convolutions"},
    "detr_lite": {"auxiliary", "no_object", "mask_weight", "dice_weight", "stage", "score"},
    "maskformer_lite": {"auxiliary", "no_object", "pixel_decoder", "upsampling", "matching", "divisor"},
    "iou_box": {"convolutions"},
    "lite_mask": {"width", "convolutions", "norm"},
}
# null stood for the default
DEFAULT = {"width", "proposals", "samples", "score", "auxiliary", "convolutions", "points"}


def translate(model: dict[str, Any]) -> dict[str, Any]:
    """The section with today's names; as it is where it has them. Raises ValueError for a switch that has become a
    model's name and says another one, or an option that belongs to another model now."""
    name = model.get("name")
    if name in ("rcnn", "rcnn_lite"):
        return _rcnn(model)
    if name in ("per_pixel", "per_pixel_plus", "fcn") and "variant" in model:
        return _renamed(model, str(model["variant"]), {"variant"})
    if name in ("detr", "maskformer"):
        return _with_queries(model)
    if name in ("detr_lite", "maskformer_lite", "mask2former_lite"):
        return _without_switches(model)
    return model


def meant(base: dict[str, Any], over: dict[str, Any]) -> bool:
    """Whether a recipe that extends another one means its model by the name that this had before: it says nothing of
    the backbone, which a section of its own would."""
    return "backbone" not in over and over.get("name", "") == BEFORE.get(base.get("name", ""))


def _renamed(model: dict[str, Any], name: str, less: set[str], old: bool = True) -> dict[str, Any]:
    less = less | (WITHOUT_EFFECT.get(name, set()) if old else set())
    kept = {key: value for key, value in model.items() if key not in less and not (value is None and key in DEFAULT)}
    return {**kept, "name": name}


def _rcnn(model: dict[str, Any]) -> dict[str, Any]:
    if model.get("variant", "lite") not in ("lite", "standard", None):
        return model  # which is refused, as before
    old = "variant" in model
    lite = model.get("variant", "lite" if model["name"] == "rcnn_lite" else None) == "lite"
    out = _renamed(model, "rcnn_lite" if lite else "rcnn", {"variant", *(["fine"] if old and not lite else [])}, old)
    if isinstance(out.get("heads"), dict):
        out["heads"] = _heads(out["heads"], LITE_HEADS if lite else {}, old)
    return out


def _heads(given: dict[str, Any], names: dict[str, str], of_old: bool) -> dict[str, Any]:
    """Where an old recipe extends a new one both names are there; null under the old one removes the head."""
    heads: dict[str, Any] = {}
    for old, settings in given.items():
        name = names.get(old, old)
        if settings is None and name in heads:
            del heads[name]
        elif isinstance(settings or {}, dict):
            less = WITHOUT_EFFECT.get(name, set()) if of_old else set()
            own = {k: v for k, v in (settings or {}).items() if k not in less and not (v is None and k in DEFAULT)}
            heads[name] = {**heads.get(name, {}), **own}
        else:
            heads[name] = settings  # which is refused, as before
    return heads


def _with_queries(model: dict[str, Any]) -> dict[str, Any]:
    """detr and maskformer, or what a switch makes of them."""
    if model["name"] == "detr" and model.get("masked_attention"):
        raise ValueError("model.masked_attention never was a setting of detr: name: mask2former_lite has it")
    on = [switch for switch in SWITCHES if model.get(switch)]
    if len(on) > 1:
        raise ValueError("model.box_queries and model.masked_attention exclude each other")
    if on:
        masked = on == ["masked_attention"]
        off = {k for k, v in OF_BOXES.items() if masked and k != "levels" and model.get(k, v) == v}
        return _renamed(model, SWITCHES[on[0]].format(model["name"]), {*SWITCHES, *off})
    for key, default in {**OF_BOXES, "kernels": False}.items():
        if key != "levels" and model.get(key, default) != default:
            family = "maskformer" if key == "kernels" else model["name"]
            raise ValueError(f"model.{key} is a setting of model.name: {family}_lite")
    return _renamed(model, model["name"], {*SWITCHES, *OF_BOXES, "kernels"})


def _without_switches(model: dict[str, Any]) -> dict[str, Any]:
    name = model["name"]
    for switch, of in SWITCHES.items():
        on = name == of.format(BEFORE[name])
        if bool(model.get(switch, on)) != on:
            other = BEFORE[name] if on else of.format("maskformer")
            raise ValueError(f"model.{switch} is model.name: {other} now, and this recipe has model.name: {name}")
    return {key: value for key, value in model.items() if key not in SWITCHES}
