"""From the key layout of a source to this project's names."""

from torch import Tensor

from segcli.core.errors import UsageError
from segcli.core.plugins import nearest
from segcli.weights import (
    detectron2_rcnn,
    huggingface_detr,
    huggingface_maskformer,
    maskformer_official,
    torchvision_rcnn,
)

SOURCES = ("auto", "segcli", "torchvision", "detr", "maskformer", "detectron2", "huggingface")
MASK_PARTS = ("bbox_attention.", "mask_head.")  # what DETR's mask head adds beside `detr.`

COCO_ROWS = (92, 251)  # DETR's classes by COCO id, boxes and panoptic


def translate(state: dict[str, Tensor], own: set[str], source: str = "auto") -> tuple[dict[str, Tensor], str]:
    """`state` under the names of a model whose keys are `own`, and the layout that it had.

    Raises UsageError for an unknown source, ModelError where a map does not know a key. What a map leaves alone (an
    unknown key) keeps its name, so that the caller lists it.
    """
    if source not in SOURCES:
        raise UsageError(f"there is no weight source {source!r}", hint=nearest(source, list(SOURCES)))
    if source == "auto":
        source = guess(state, own)
    if source == "huggingface":
        masks = any(".pixel_level_module." in key for key in state)
        state = huggingface_maskformer.to_official(state) if masks else huggingface_detr.to_official(state)
        source = "maskformer" if masks else "detr"
    elif source == "torchvision":
        state = torchvision_rcnn.from_torchvision(state)
    elif source == "detectron2":
        state = detectron2_rcnn.from_detectron2(state)
    elif source == "maskformer":
        state = maskformer_official.from_official(state)
    if any(key.endswith("class_embed.weight") for key in own):
        state = _nest_detr(state, own)
    return state, source


def guess(state: dict[str, Tensor], own: set[str]) -> str:
    """The source whose marks the keys bear; `segcli` for the model's own names and for unknown ones."""
    if state.keys() == own:
        rows = [len(v) for k, v in state.items() if k in ("class_embed.bias", "detr.class_embed.bias")]
        return "detr" if rows and rows[0] in COCO_ROWS else "segcli"  # names alike; the official ones keep COCO's gaps
    marks = {
        "huggingface": ("model.pixel_level_module.", "class_labels_classifier.", "detr.class_labels_classifier."),
        "detectron2": ("backbone.bottom_up.", "proposal_generator."),
        "torchvision": ("roi_heads.box_head.", "roi_heads.box_predictor."),
        "maskformer": ("backbone.res2.", "sem_seg_head."),
        "detr": ("backbone.0.body.", "detr.backbone.0.body."),
    }
    for source, starts in marks.items():
        if any(key.startswith(starts) for key in state):
            return source
    return "segcli"


def _nest_detr(state: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """With masks the detector's names begin with `detr.`: put that before them, or away, as the model has it."""
    nested, given = (any(key.startswith("detr.") for key in keys) for keys in (own, state))
    if nested and not given:
        return {k if k.startswith(MASK_PARTS) else f"detr.{k}": v for k, v in state.items()}
    if given and not nested:
        return {k.removeprefix("detr."): v for k, v in state.items()}
    return state
