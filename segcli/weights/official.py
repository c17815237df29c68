"""Official checkpoints: where they are, how they are checked, under which licence. Loaded when first named."""

import dataclasses
import re
import sys
from pathlib import Path

from segcli.core.downloads import cache_dir, fetch
from segcli.core.errors import ModelError
from segcli.core.plugins import nearest

PYTORCH = "https://download.pytorch.org/models/"
DETR = "https://dl.fbaipublicfiles.com/detr/"
MASKFORMER = "https://dl.fbaipublicfiles.com/maskformer/"
SWIN = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
HUB = "https://huggingface.co/"

NON_COMMERCIAL = "CC BY-NC 4.0 (not for commercial use)"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """source: the key layout, as in `load_weights`, or `backbone` for a trunk alone. megabytes: where it is published.
    frozen_eps: the eps of the frozen norms that the weights were made with, where it is not the usual 1e-5."""

    address: str
    source: str
    licence: str
    megabytes: float | None = None
    frozen_eps: float | None = None
    classes: str | None = None  # whose class names it predicts: see class_rows.official_info

    @property
    def digests(self) -> dict[str, str]:
        """The first digits of the file's digest, which torchvision and DETR (sha256) and MaskFormer (md5) put into its
        name. {} where none is known; Hugging Face states it with every download."""
        name = self.address.rsplit("/", 1)[-1]
        if match := re.search(r"-([0-9a-f]{8})\.pth$", name):
            return {"sha256": match[1]}
        if match := re.search(r"_([0-9a-f]{6})\.pkl$", name):
            return {"md5": match[1]}
        return {}


def _torchvision(
    file: str, megabytes: float, frozen_eps: float | None = None, classes: str | None = "coco"
) -> Checkpoint:
    return Checkpoint(f"{PYTORCH}{file}.pth", "torchvision", "BSD-3-Clause", megabytes, frozen_eps, classes)


def _trunk(file: str, megabytes: float) -> Checkpoint:
    return Checkpoint(f"{PYTORCH}{file}.pth", "backbone", "BSD-3-Clause", megabytes)


def _detr(file: str, megabytes: float) -> Checkpoint:
    classes = "coco_panoptic" if "panoptic" in file else "coco"
    return Checkpoint(f"{DETR}detr-{file}.pth", "detr", "Apache-2.0", megabytes, classes=classes)


def _maskformer(file: str) -> Checkpoint:
    classes = "coco_panoptic" if file.startswith("panoptic-coco") else None
    return Checkpoint(f"{MASKFORMER}{file}.pkl", "maskformer", NON_COMMERCIAL, classes=classes)


def _swin(file: str) -> Checkpoint:
    return Checkpoint(f"{SWIN}swin_{file}.pth", "backbone", "MIT")


def _hub(repository: str, licence: str) -> Checkpoint:
    classes = "coco_panoptic" if repository.endswith(("coco", "panoptic")) else "coco"
    address = f"{HUB}facebook/{repository}/resolve/main/model.safetensors"
    return Checkpoint(address, "huggingface", licence, classes=None if repository.endswith("ade") else classes)


TABLE: dict[str, Checkpoint] = {
    # COCO boxes, masks, keypoints
    "torchvision/fasterrcnn_resnet50_fpn": _torchvision("fasterrcnn_resnet50_fpn_coco-258fb6c6", 159.7, 0.0),
    "torchvision/fasterrcnn_resnet50_fpn_v2": _torchvision("fasterrcnn_resnet50_fpn_v2_coco-dd69338a", 167.1),
    "torchvision/maskrcnn_resnet50_fpn": _torchvision("maskrcnn_resnet50_fpn_coco-bf2d0c1e", 169.8, 0.0),
    "torchvision/maskrcnn_resnet50_fpn_v2": _torchvision("maskrcnn_resnet50_fpn_v2_coco-73cbd019", 177.2),
    "torchvision/keypointrcnn_resnet50_fpn": _torchvision(
        "keypointrcnn_resnet50_fpn_coco-fc266e95", 226.1, 0.0, "coco_person"
    ),
    # COCO images with Pascal VOC's 21 labels
    "torchvision/fcn_resnet50": _torchvision("fcn_resnet50_coco-1167a1af", 135.0, None, "voc"),
    "torchvision/fcn_resnet101": _torchvision("fcn_resnet101_coco-7ecb50ca", 207.7, None, "voc"),
    # ImageNet trunks
    "torchvision/resnet18": _trunk("resnet18-f37072fd", 44.7),
    "torchvision/resnet34": _trunk("resnet34-b627a593", 83.3),
    "torchvision/resnet50": _trunk("resnet50-0676ba61", 97.8),
    "torchvision/resnet101": _trunk("resnet101-63fe2227", 170.5),
    "detectron2/resnet101c": Checkpoint(
        "https://dl.fbaipublicfiles.com/detectron2/DeepLab/R-103.pkl", "backbone", NON_COMMERCIAL
    ),
    "swin/tiny": _swin("tiny_patch4_window7_224"),
    "swin/small": _swin("small_patch4_window7_224"),
    "swin/base": _swin("base_patch4_window12_384"),
    "swin/base_22k": _swin("base_patch4_window12_384_22k"),
    "swin/large_22k": _swin("large_patch4_window12_384_22k"),
    # DETR on COCO: boxes, then panoptic
    "detr/r50": _detr("r50-e632da11", 159),
    "detr/r50_dc5": _detr("r50-dc5-f0fb7ef5", 159),
    "detr/r101": _detr("r101-2c7b67e5", 232),
    "detr/r101_dc5": _detr("r101-dc5-a2e86def", 232),
    "detr/r50_panoptic": _detr("r50-panoptic-00ce5173", 165),
    "detr/r50_dc5_panoptic": _detr("r50-dc5-panoptic-da08f1b1", 165),
    "detr/r101_panoptic": _detr("r101-panoptic-40021d53", 237),
    # ADE20K, 150 classes
    "maskformer/ade20k_per_pixel_r50": _maskformer(
        "semantic-ade20k/per_pixel_baseline_R50_bs16_160k/model_final_1043f3"
    ),
    "maskformer/ade20k_per_pixel_plus_r50": _maskformer(
        "semantic-ade20k/per_pixel_baseline_plus_R50_bs16_160k/model_final_833630"
    ),
    "maskformer/ade20k_r50": _maskformer("semantic-ade20k/maskformer_R50_bs16_160k/model_final_d8dbeb"),
    "maskformer/ade20k_r101": _maskformer("semantic-ade20k/maskformer_R101_bs16_160k/model_final_1aeb94"),
    "maskformer/ade20k_r101c": _maskformer("semantic-ade20k/maskformer_R101c_bs16_160k/model_final_b432ea"),
    "maskformer/ade20k_swin_tiny": _maskformer("semantic-ade20k/maskformer_swin_tiny_bs16_160k/model_final_8657a5"),
    "maskformer/ade20k_swin_small": _maskformer("semantic-ade20k/maskformer_swin_small_bs16_160k/model_final_528157"),
    "maskformer/ade20k_swin_base": _maskformer(
        "semantic-ade20k/maskformer_swin_base_IN21k_384_bs16_160k_res640/model_final_45388b"
    ),
    "maskformer/ade20k_swin_large": _maskformer(
        "semantic-ade20k/maskformer_swin_large_IN21k_384_bs16_160k_res640/model_final_aefa3b"
    ),
    "maskformer/ade20k_panoptic_r50": _maskformer(
        "panoptic-ade20k/maskformer_panoptic_R50_bs16_720k/model_final_7aa977"
    ),
    "maskformer/ade20k_panoptic_r101": _maskformer(
        "panoptic-ade20k/maskformer_panoptic_R101_bs16_720k/model_final_0b3cc8"
    ),
    # COCO panoptic, 80 things and 53 kinds of stuff
    "maskformer/coco_r50": _maskformer("panoptic-coco/maskformer_panoptic_R50_bs64_554k/model_final_6f60dc"),
    "maskformer/coco_r101": _maskformer("panoptic-coco/maskformer_panoptic_R101_bs64_554k/model_final_57b049"),
    "maskformer/coco_swin_tiny": _maskformer("panoptic-coco/model_final_539394"),
    "maskformer/coco_swin_small": _maskformer("panoptic-coco/model_final_5bf6b1"),
    "maskformer/coco_swin_base": _maskformer("panoptic-coco/model_final_4b7f49"),
    "maskformer/coco_swin_large": _maskformer("panoptic-coco/model_final_7505c4"),
    # the same models at Hugging Face, in the layout of transformers
    **{
        f"facebook/detr-resnet-{kind}": _hub(f"detr-resnet-{kind}", "Apache-2.0")
        for kind in ("50", "50-dc5", "101", "101-dc5", "50-panoptic", "50-dc5-panoptic", "101-panoptic")
    },
    **{
        f"facebook/maskformer-{kind}": _hub(f"maskformer-{kind}", NON_COMMERCIAL)
        for kind in (
            *("swin-tiny-ade", "swin-small-ade", "swin-base-ade", "swin-large-ade", "resnet50-ade", "resnet101-ade"),
            *("swin-tiny-coco", "swin-small-coco", "swin-base-coco", "swin-large-coco"),
        )
    },
}


def find(name: str | Path) -> Checkpoint | None:
    """The official checkpoint of that name, or the one whose file it is by a file name that bears its digest."""
    if not Path(name).is_file():
        return TABLE.get(str(name))
    file = Path(name).name
    return next((c for c in TABLE.values() if c.digests and c.address.endswith(f"/{file}")), None)


def licence(name: str | Path) -> str:
    """The licence of an official checkpoint, by its name or file; `unknown` for others."""
    known = find(name)
    return known.licence if known else "unknown"


def resolve(name: str | Path, *, progress: bool = True) -> Path:
    """The file of that path, or the official checkpoint of that name, loaded into the cache when it is not there.

    Says the licence on stderr before a download. Raises ModelError for an unknown name with the nearest one, or when
    the file can't be had.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = find(str(name))
    if known is None:
        what = "no such weight file" if path.suffix else "neither a weight file nor the name of an official checkpoint"
        raise ModelError(f"{name}: {what}", hint=nearest(str(name), list(TABLE)))
    folder = cache_dir() / "weights" / str(name)
    addresses = [known.address]
    if known.source == "huggingface":  # older repositories there have torch's format alone
        addresses.append(known.address.replace("model.safetensors", "pytorch_model.bin"))
    targets = [folder / address.rsplit("/", 1)[-1] for address in addresses]
    for target in targets:
        if target.is_file():
            return target
    size = f", {known.megabytes:.0f} MB" if known.megabytes else ""
    print(f"loading {name}{size}, licence {known.licence}, from {known.address}", file=sys.stderr)
    digests = known.digests
    try:
        return fetch(known.address, targets[0], progress=progress, sha256=digests.get("sha256"), md5=digests.get("md5"))
    except ModelError as error:
        if len(addresses) == 1 or "answers 404" not in str(error):
            raise
    return fetch(addresses[1], targets[1], progress=progress)
