"""Which architectures of the library `transformers` are models here, and how one is made of a checkpoint's files.

Each does what its class's name says; all that are listed were tried (tests/models/test_transformers.py).
"""

import dataclasses
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from segcli.core.errors import ModelError, UsageError
from segcli.core.files import read_json
from segcli.core.hub import folder_of, require_library
from segcli.core.plugins import nearest

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.image_processing_utils import BaseImageProcessor

BOXES, MASKED_BOXES, SEGMENTS, PIXELS = "boxes", "boxes with masks", "segments", "pixels"  # what a model gives
TASKS_OF = {
    BOXES: ("detection",),
    MASKED_BOXES: ("instance",),
    SEGMENTS: ("semantic", "instance", "panoptic"),
    PIXELS: ("semantic",),
}
READERS = {  # detectors -> whose post-processing reads their outputs; checkpoints may name another for their images
    **dict.fromkeys(["DetrForObjectDetection", "TableTransformerForObjectDetection"], "DetrImageProcessor"),
    "YolosForObjectDetection": "YolosImageProcessor",
    **dict.fromkeys(
        ["ConditionalDetrForObjectDetection", "DabDetrForObjectDetection"], "ConditionalDetrImageProcessor"
    ),
    **dict.fromkeys(["DeformableDetrForObjectDetection", "LwDetrForObjectDetection"], "DeformableDetrImageProcessor"),
    **dict.fromkeys(["RTDetrForObjectDetection", "RTDetrV2ForObjectDetection"], "RTDetrImageProcessor"),
    **dict.fromkeys(["DFineForObjectDetection", "Deimv2ForObjectDetection"], "RTDetrImageProcessor"),
    "RfDetrForObjectDetection": "RfDetrImageProcessor",
}
KINDS = {
    **dict.fromkeys(READERS, BOXES),
    "RfDetrForInstanceSegmentation": MASKED_BOXES,
    **dict.fromkeys(["EomtDinov3ForUniversalSegmentation", "EomtForUniversalSegmentation"], SEGMENTS),
    **dict.fromkeys(["Mask2FormerForUniversalSegmentation", "MaskFormerForInstanceSegmentation"], SEGMENTS),
    **dict.fromkeys(["BeitForSemanticSegmentation", "Data2VecVisionForSemanticSegmentation"], PIXELS),
    **dict.fromkeys(["DPTForSemanticSegmentation", "MobileNetV2ForSemanticSegmentation"], PIXELS),
    **dict.fromkeys(["MobileViTForSemanticSegmentation", "MobileViTV2ForSemanticSegmentation"], PIXELS),
    **dict.fromkeys(["SegformerForSemanticSegmentation", "UperNetForSemanticSegmentation"], PIXELS),
}
BACKBONES = {  # where the trunk is, its pyramid or projector left out
    **dict.fromkeys(KINDS, ("model.backbone",)),
    "RfDetrForObjectDetection": ("model.backbone.backbone",),
    "RfDetrForInstanceSegmentation": ("model.model.backbone.backbone",),
    "LwDetrForObjectDetection": ("model.backbone.backbone",),
    "Deimv2ForObjectDetection": ("model.conv_encoder.model",),
    "YolosForObjectDetection": ("vit",),
    **dict.fromkeys(["EomtForUniversalSegmentation", "EomtDinov3ForUniversalSegmentation"], ("embeddings", "layers")),
    "Mask2FormerForUniversalSegmentation": ("model.pixel_level_module.encoder",),
    "MaskFormerForInstanceSegmentation": ("model.pixel_level_module.encoder",),
    "BeitForSemanticSegmentation": ("beit",),
    "Data2VecVisionForSemanticSegmentation": ("data2vec_vision",),
    "DPTForSemanticSegmentation": ("dpt", "backbone"),
    "MobileNetV2ForSemanticSegmentation": ("mobilenet_v2",),
    "MobileViTForSemanticSegmentation": ("mobilevit",),
    "MobileViTV2ForSemanticSegmentation": ("mobilevitv2",),
    "SegformerForSemanticSegmentation": ("segformer",),
    "UperNetForSemanticSegmentation": ("backbone",),
}


@dataclasses.dataclass(frozen=True)
class Files:
    """A checkpoint's config.json and preprocessor_config.json, as they stand there."""

    config: dict[str, object]
    processor: dict[str, object]

    @property
    def architecture(self) -> str:
        found = self.config.get("architectures")
        return str(found[0]) if isinstance(found, list) and found else ""


def library() -> ModuleType:
    """The package itself. Raises ModelError with the command that installs it, also where it is there and broken."""
    require_library()
    try:
        import transformers
    except Exception as error:  # whatever its parts, or libraries of the wrong version, raise
        raise _broken(error) from error
    return transformers


def _broken(error: Exception) -> ModelError:
    said = f"{type(error).__name__}: {_reason(error)}"
    return ModelError(
        f"the installed package transformers can't be imported: {said}",
        hint="pip install --force-reinstall 'segcli[transformers]'",
    )


def read_files(checkpoint: str) -> Files:
    """Raises ModelError for a checkpoint that can't be had, or one without a processor."""
    folder = folder_of(checkpoint)
    config = _object(folder / "config.json")
    if (folder / "preprocessor_config.json").is_file():
        return Files(config, _object(folder / "preprocessor_config.json"))
    if (folder / "processor_config.json").is_file():
        processor = _object(folder / "processor_config.json").get("image_processor")
        if isinstance(processor, dict):
            return Files(config, processor)
    raise ModelError(
        f"{checkpoint}: no preprocessor_config.json: how its images are prepared is not known",
        hint="AutoImageProcessor.from_pretrained(ORIGINAL).save_pretrained(FOLDER) writes it",
    )


def _object(path: Path) -> dict[str, object]:
    found = read_json(path, error=ModelError)
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds no JSON object")
    return found


def check(files: Files, checkpoint: str, task: str) -> str:
    """The kind of the checkpoint's model. Raises ModelError where it is none of KINDS or needs code of its own,
    UsageError where it does not do the task."""
    name = files.architecture
    if "auto_map" in files.config or "auto_map" in files.processor:
        raise ModelError(f"{checkpoint}: needs code of its own (auto_map), which is never run")
    if not name:
        raise ModelError(f"{checkpoint}: its config.json names no architecture", hint="architectures: [CLASS]")
    if name not in KINDS:
        raise ModelError(f"{checkpoint}: is a {name}, which is not one of the supported", hint=nearest(name, [*KINDS]))
    kind = KINDS[name]
    if task not in TASKS_OF[kind]:
        raise UsageError(f"{checkpoint}: {name} does not do task {task!r}", hint="tasks: " + ", ".join(TASKS_OF[kind]))
    return kind


def configuration(files: Files, labels: int) -> "PretrainedConfig":
    """The library's configuration for so many classes, called 0, 1, …; weights of a trunk alone are never loaded by it,
    and attention is the library's own: a configuration may name a kernel, which is code, of the hub."""
    replaced = ("dtype", "torch_dtype", "num_labels", "label2id", "id2label")
    values = {k: v for k, v in files.config.items() if k not in replaced}
    values["id2label"] = {i: str(i) for i in range(labels)}
    values["label2id"] = {str(i): i for i in range(labels)}
    config: PretrainedConfig = getattr(library(), files.architecture).config_class.from_dict(values)
    config._attn_implementation = None  # of its parts, too
    for part in (config, getattr(config, "backbone_config", None)):
        if part is not None and getattr(part, "use_pretrained_backbone", False):
            part.use_pretrained_backbone = False
    return config


def build_network(files: Files, labels: int, checkpoint: str) -> "PreTrainedModel":
    """The architecture for so many classes, with random weights. Raises ModelError where the configuration makes
    none."""
    try:
        network: PreTrainedModel = getattr(library(), files.architecture)(configuration(files, labels))
    except (MemoryError, ModelError):
        raise
    except ImportError as error:  # its parts are imported when they are asked for
        raise _broken(error) from error
    except Exception as error:  # the library and its checks of types raise many kinds: all mean these settings
        raise ModelError(f"{checkpoint}: its config.json makes no {files.architecture}: {_reason(error)}") from error
    return network


def _reason(error: Exception) -> str:
    """The message on one line; a KeyError's is the key alone."""
    said = " ".join(str(error).split())[:200]
    said = re.sub(r"\b\w+(Error|Exception): ", "", said)
    return f"{said} is not known" if isinstance(error, KeyError) else said


def build_processor(files: Files, checkpoint: str) -> "BaseImageProcessor":
    """The image processor that the checkpoint names. Raises ModelError where the library has none of that name."""
    from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

    stated = files.processor.get("image_processor_type") or files.processor.get("feature_extractor_type")
    name = str(stated).removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    found = get_image_processor_class_from_name(name)
    if found is None:
        raise ModelError(f"{checkpoint}: its image processor {stated} is none of transformers")
    try:
        processor: BaseImageProcessor = found.from_dict(dict(files.processor))
    except Exception as error:  # as of build_network
        raise ModelError(f"{checkpoint}: its preprocessor_config.json makes no {name}: {_reason(error)}") from error
    return processor


def build_reader(architecture: str) -> "BaseImageProcessor | None":
    """What reads a detector's outputs; None for other kinds."""
    name = READERS.get(architecture)
    reader: BaseImageProcessor | None = getattr(library(), name)() if name else None
    return reader
