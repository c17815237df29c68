"""MaskFormer's released files (detectron2's layout) -> this project's names, which are torchvision's in a ResNet."""

from torch import Tensor

from segcli.weights.detectron2_resnet import to_torchvision

HEAD = "sem_seg_head."
PARTS = (f"{HEAD}predictor.", f"{HEAD}pixel_decoder.")


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of MaskFormer and of the per-pixel baselines. Files of the first release lack `pixel_decoder.`.

    Raises ModelError where the backbone is neither detectron2's ResNet nor a Swin.
    """
    trunk = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    if any(key.startswith(("stem.", "res2.")) for key in trunk):
        trunk = to_torchvision(trunk)
    out = {f"backbone.{key}": value for key, value in trunk.items()}
    for key, value in state.items():
        if key.startswith("backbone.") or key == "criterion.empty_weight":  # the loss's class weights: a setting here
            continue
        if key.startswith(HEAD) and not key.startswith(PARTS):
            key = f"{HEAD}pixel_decoder.{key.removeprefix(HEAD)}"
        out[key] = value
    return out
