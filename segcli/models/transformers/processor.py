"""A checkpoint's image processor as this project's preprocessing rule."""

from typing import Any

from segcli.core.errors import ModelError
from segcli.ops.preprocess import Preprocess

BILINEAR, BICUBIC = 2, 3  # PIL's numbers
PADDED = ("EomtImageProcessor",)  # to a square of the longest edge


def preprocess_of(processor: Any, checkpoint: str, fixed: int | None) -> Preprocess:
    """The same size, filter and normalisation. Masks follow by area. fixed: the side of the model's only input size.

    Images are never cropped, and never cut into tiles: of processors that do, the rest of the rule holds.
    Raises ModelError for a rule that is not understood.
    """
    if not processor.do_rescale or abs(processor.rescale_factor * 255 - 1) > 1e-6 or not processor.do_resize:
        raise ModelError(f"{checkpoint}: its processor does not resize, or does not divide pixels by 255")
    if int(processor.resample) not in (BILINEAR, BICUBIC):
        raise ModelError(f"{checkpoint}: its processor resamples by PIL's filter {processor.resample}")
    size = {key: value for key, value in dict(processor.size).items() if value}
    mean, std = ((0.0,) * 3, (1.0,) * 3)
    if processor.do_normalize:
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    given: dict[str, Any] = {"method": "pil", "bicubic": int(processor.resample) == BICUBIC, "mean": mean, "std": std}
    if "height" in size:
        height, width = int(size["height"]), int(size["width"])
        return Preprocess(min(height, width), max(height, width), divisor=1, stretch=(height, width), **given)
    shortest = size.get("shortest_edge")
    if shortest is None:
        raise ModelError(f"{checkpoint}: its processor's size {size} is not understood")
    if fixed is not None and type(processor).__name__ in PADDED:
        return Preprocess(None, fixed, divisor=1, square=True, **given)
    divisor = int(getattr(processor, "size_divisor", None) or 1)
    return Preprocess(int(shortest), int(size.get("longest_edge") or 4 * shortest), divisor=divisor, **given)
