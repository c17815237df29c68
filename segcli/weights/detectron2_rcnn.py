"""detectron2's R-CNNs, DensePose and Mesh R-CNN among them: their parameter names and conventions -> ours.

Besides names, four conventions differ, and what can be put into the weights is: images there are BGR, 0 to 255, less
the mean (here RGB, divided by a standard deviation, too: into the first convolution); classes have background last
(here first: rows are moved) and the background no box (here it has one: zeros). What can't, a model must be built with:
`stride_in: 1x1` of the backbone for files that began from MSRA's ResNets, as those of DensePose and Mesh R-CNN did.
Not carried over: ROIAlignV2's half cell (the model zoo's; those two have ROIAlign, as the standard heads here), and a
`pixel_mean` other than ImageNet's.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from segcli.weights.detectron2_resnet import to_torchvision

STD = (0.229, 0.224, 0.225)  # of RGB, 0 to 1, by which our images are divided
TRUNK = "backbone.bottom_up."
DROPPED = re.compile(r"^(pixel_(mean|std)$|proposal_generator\.anchor_generator\.)")  # constants
Rename = str | Callable[[re.Match[str]], str]
LEVELS = "2345"
RENAMES: list[tuple[str, Rename]] = [
    (r"^backbone\.fpn_lateral(\d)\.", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 2}.0."),
    (r"^backbone\.fpn_output(\d)\.", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 2}.0."),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"^roi_heads\.box_head\.fc(\d)\.", lambda m: f"roi_heads.heads.box.head.fc{int(m[1]) + 5}."),
    (r"^roi_heads\.box_predictor\.", "roi_heads.heads.box.predictor."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda m: f"roi_heads.heads.mask.head.{int(m[1]) - 1}.0."),
    (r"^roi_heads\.mask_head\.deconv\.", "roi_heads.heads.mask.predictor.conv5_mask."),
    (r"^roi_heads\.mask_head\.predictor\.", "roi_heads.heads.mask.predictor.mask_fcn_logits."),
    (r"^roi_heads\.keypoint_head\.conv_fcn(\d)\.", lambda m: f"roi_heads.heads.keypoint.head.{2 * int(m[1]) - 2}."),
    (r"^roi_heads\.keypoint_head\.score_lowres\.", "roi_heads.heads.keypoint.predictor.kps_score_lowres."),
    # layers of a level here: convolution, ReLU and, but at the finest level, a resize; there the ReLU is no layer
    (r"^roi_heads\.decoder\.p2\.(\d)\.", r"roi_heads.heads.densepose.decoder.levels.0.\1."),
    (
        r"^roi_heads\.decoder\.p(\d)\.(\d)\.",
        lambda m: f"roi_heads.heads.densepose.decoder.levels.{LEVELS.index(m[1])}.{int(m[2]) // 2 * 3}.",
    ),
    (r"^roi_heads\.decoder\.predictor\.", "roi_heads.heads.densepose.decoder.predictor."),
    (
        r"^roi_heads\.densepose_head\.body_conv_fcn(\d)\.",
        lambda m: f"roi_heads.heads.densepose.head.{2 * int(m[1]) - 2}.",
    ),
    (r"^roi_heads\.densepose_predictor\.", "roi_heads.heads.densepose.predictor."),
    (r"^roi_heads\.(voxel|z|mesh)_head\.", r"roi_heads.heads.mesh.\1_head."),
]


def from_detectron2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An R-CNN's state dict of detectron2 under this project's names, and in its conventions. What no rule knows keeps
    its name. Raises ModelError for keys of the trunk that are not of a ResNet."""
    trunk = to_torchvision({k.removeprefix(TRUNK): v for k, v in state.items() if k.startswith(TRUNK)})
    out = {f"backbone.body.{key}": value for key, value in trunk.items()}
    for key, value in state.items():
        if key.startswith(TRUNK) or DROPPED.match(key):
            continue
        for pattern, new in RENAMES:
            key, changed = re.subn(pattern, new, key)
            if changed:
                break
        out[key] = value
    if (first := "backbone.body.conv1.weight") in out:
        rgb, theirs = out[first].flip(1), state.get("pixel_std", torch.ones(3)).flatten().flip(0)
        out[first] = rgb * (255 * torch.tensor(STD) / theirs).to(rgb)[:, None, None]
    for kind in ("weight", "bias"):
        if (scores := f"roi_heads.heads.box.predictor.cls_score.{kind}") in out:
            out[scores] = out[scores].roll(1, 0)
        if (boxes := f"roi_heads.heads.box.predictor.bbox_pred.{kind}") in out:
            out[boxes] = torch.cat([torch.zeros_like(out[boxes][:4]), out[boxes]])
        if (masks := f"roi_heads.heads.mask.predictor.mask_fcn_logits.{kind}") in out:
            out[masks] = torch.cat([torch.zeros_like(out[masks][:1]), out[masks]])
    return out
