"""Recipes and run folders of earlier versions: their `model` section in the names of today.

Until models for little data had names of their own, options switched to them: rcnn with `variant: lite`, detr and
maskformer with `box_queries: true`, maskformer with `masked_attention: true`, per_pixel with the name of a variant.
Until models had sections, all their settings lay side by side: `dim`, now `transformer.dim`. The names of their
parameters did not change.
"""

from collections.abc import Set

Section = dict[str, object]  # a recipe's `model` section, which nobody has checked yet

BEFORE = {  # a model's name in recipes of earlier versions
    "rcnn_lite": "rcnn",
    "detr_lite": "detr",
    "maskformer_lite": "maskformer",
    "mask2former_lite": "maskformer",
    "per_pixel_plus": "per_pixel",
    "fcn": "per_pixel",
}
# a lite R-CNN's heads before -> today's names; a copy of rcnn_lite's table, which may change while old recipes don't
LITE_HEADS = {"box": "iou_box", "mask": "lite_mask", "keypoint": "lite_keypoint"}
SWITCHES = {"box_queries": "{}_lite", "masked_attention": "mask2former_lite"}
LITE = ("detr_lite", "maskformer_lite", "mask2former_lite")
OF_BOXES = {"levels": 1, "deformable": False, "selection": False, "distinct": None, "denoising": 0, "groups": 1}
WITHOUT_EFFECT = {  # settings that these had before, and never read
    "rcnn_lite": {"fpn_norm", "rpn_convolutions"},
    "detr_lite": {"auxiliary", "no_object", "mask_weight", "dice_weight", "stage", "score"},
    "maskformer_lite": {"auxiliary", "no_object", "pixel_decoder", "upsampling", "matching", "divisor"},
    "iou_box": {"convolutions"},
    "lite_mask": {"width", "convolutions", "norm"},
}
# null stood for the default
DEFAULT = {"width", "proposals", "samples", "score", "auxiliary", "convolutions", "points"}
Sections = dict[str, tuple[str, str]]  # a setting's name before -> (its section, its name there)
OF_SETS: Sections = {
    **{key: ("transformer", key) for key in ("dim", "heads", "ffn", "encoder_layers", "decoder_layers", "dropout")},
    **{f"{key}_weight": ("loss", key) for key in ("class", "l1", "giou", "mask", "dice")},
    **{key: ("loss", key) for key in ("no_object", "auxiliary", "points")},
    **{key: ("inference", key) for key in ("outputs", "upsampling", "score", "overlap")},
    **{key: ("boxes", key) for key in OF_BOXES if key != "levels"},
}
OF_RCNN: Sections = {
    "rpn_convolutions": ("rpn", "convolutions"),
    "anchors": ("rpn", "anchors"),
    "candidates": ("rpn", "candidates"),
    "proposal_score": ("rpn", "score"),
}
SECTIONS = {**dict.fromkeys(("detr", "maskformer", *LITE), OF_SETS), "rcnn": OF_RCNN}  # of a model


def translate(model: Section) -> Section:
    """The section with today's names; as it is where it has them. Raises ValueError for a switch that has become a
    model's name and says another one, an option that belongs to another model now, and a setting under two names."""
    name = str(model.get("name"))
    if name in ("rcnn", "rcnn_lite"):
        return _rcnn(model, name)
    if name in ("per_pixel", "per_pixel_plus", "fcn") and "variant" in model:
        return _renamed(model, str(model["variant"]), {"variant"})
    if name in SECTIONS:
        return _sectioned(_without_switches(model, name) if name in LITE else _with_queries(model, name), OF_SETS)
    return model


def meant(base: Section, over: Section) -> bool:
    """Whether a recipe that extends another one means its model by the name that this had before: it says nothing of
    the backbone, which a section of its own would."""
    return "backbone" not in over and over.get("name", "") == BEFORE.get(str(base.get("name")))


def superseded(base: Section, over: Section) -> Section:
    """`base` without the settings that `over`, which is laid on it, has by their other name."""
    out = dict(base)
    for old, (section, new) in SECTIONS.get(str(base.get("name")), {}).items():
        given, own = over.get(section), out.get(section)
        if old in over and isinstance(own, dict):
            out[section] = {key: value for key, value in own.items() if key != new}
        if (section in over and given is None) or (isinstance(given, dict) and new in given):
            out.pop(old, None)
    return out


def _sectioned(model: Section, sections: Sections) -> Section:
    model = _without_nulls(model, sections)
    out = {key: value for key, value in model.items() if key not in sections}
    for old in [key for key in model if key in sections]:
        section, new = sections[old]
        given = out.get(section) or {}
        if not isinstance(given, dict):
            raise ValueError(
                f"model.{old} is model.{section}.{new} now, and this recipe has model.{section}: {given!r}"
            )
        if isinstance(before := model.get(section), dict) and new in before:
            raise ValueError(f"model.{old} is model.{section}.{new} now, and this recipe has both")
        out[section] = {**given, new: model[old]}
    return out


def _without_nulls(model: Section, sections: Sections) -> Section:
    """The section without null for a setting or a section of `sections`: a recipe that extends another one takes that
    one's value back so, and the default holds."""
    out: Section = {}
    for key, value in model.items():
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if v is not None or (key, k) not in sections.values()}
        if value is not None or not (key in sections or key in {section for section, _ in sections.values()}):
            out[key] = value
    return out


def _renamed(model: Section, name: str, less: Set[str], old: bool = True) -> Section:
    less = less | (WITHOUT_EFFECT.get(name, set()) if old else set())
    kept = {key: value for key, value in model.items() if key not in less and not (value is None and key in DEFAULT)}
    return {**kept, "name": name}


def _rcnn(model: Section, name: str) -> Section:
    if model.get("variant", "lite") not in ("lite", "standard", None):
        return model  # which is refused, as before
    old = "variant" in model
    lite = model.get("variant", "lite" if name == "rcnn_lite" else None) == "lite"
    out = _renamed(model, "rcnn_lite" if lite else "rcnn", {"variant", *(["fine"] if old and not lite else [])}, old)
    if isinstance(heads := out.get("heads"), dict):
        out["heads"] = _heads(heads, LITE_HEADS if lite else {}, old)
    return out if lite else _sectioned(out, OF_RCNN)


def _heads(given: Section, names: dict[str, str], of_old: bool) -> Section:
    """Where an old recipe extends a new one both names are there; null under the old one removes the head."""
    heads: Section = {}
    for old, settings in given.items():
        name = names.get(old, old)
        before, settings = heads.get(name), settings or {}
        if given[old] is None and name in heads:
            del heads[name]
        elif isinstance(settings, dict):
            less = WITHOUT_EFFECT.get(name, set()) if of_old else set()
            own = {k: v for k, v in settings.items() if k not in less and not (v is None and k in DEFAULT)}
            heads[name] = {**before, **own} if isinstance(before, dict) else own
        else:
            heads[name] = settings  # which is refused, as before
    return heads


def _with_queries(model: Section, name: str) -> Section:
    """detr and maskformer, or what a switch makes of them. Without a switch the recipe may be one of today, which has
    no options of other models; with one that is off, these options had no effect."""
    if name == "detr" and model.get("masked_attention"):
        raise ValueError("model.masked_attention never was a setting of detr: name: mask2former_lite has it")
    on = [switch for switch in SWITCHES if model.get(switch)]
    if len(on) > 1:
        raise ValueError("model.box_queries and model.masked_attention exclude each other")
    if on:
        masked = on == ["masked_attention"]
        off = {k for k, v in OF_BOXES.items() if masked and k != "levels" and model.get(k, v) == v}
        return _renamed(model, SWITCHES[on[0]].format(name), {*SWITCHES, *off})
    old = any(switch in model for switch in SWITCHES)
    for key, default in {**OF_BOXES, "kernels": False}.items():
        if model.get(key, default) != default and not (old and key == "levels"):
            names = "maskformer_lite" if key == "kernels" else f"{name}_lite"
            both = key in ("levels", "kernels") and names == "maskformer_lite"
            raise ValueError(
                f"model.{key} is a setting of model.name: {names}{' and mask2former_lite' if both else ''}"
            )
    return _renamed(model, name, {*SWITCHES, *OF_BOXES, "kernels"})


def _without_switches(model: Section, name: str) -> Section:
    for switch, of in SWITCHES.items():
        on = name == of.format(BEFORE[name])
        if bool(model.get(switch, on)) != on:
            other = BEFORE[name] if on else of.format("maskformer")
            raise ValueError(f"model.{switch} is model.name: {other} now, and this recipe has model.name: {name}")
    return {key: value for key, value in model.items() if key not in SWITCHES}
