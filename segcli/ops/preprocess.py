"""From a uint8 image to a model's input: resize, normalise, pad. One executor for training, evaluation and prediction.

Each family has its own rule, and parity needs it exactly: torchvision normalises and then interpolates floats;
DETR and MaskFormer resize 8-bit images as PIL does and then normalise; the lite models resize with OpenCV's area
filter.
"""

import dataclasses
import functools
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from segcli.types import Instances, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How one model wants its images; a value object that travels with the model.

    shortest, longest: target sides in pixels; shortest None means that the longest side alone decides.
    method: torchvision (normalise, float bilinear, sides floored), pil (antialiased 8-bit bilinear, DETR's rounding)
    or opencv (area when shrinking, linear when growing, sides rounded).
    keep_size: images are not resized at all: augmentation has given them their size.
    divisor: the canvas is padded at right and bottom to a multiple of it. square: pad every image to longest × longest.
    mean, std: RGB in 0..1.
    """

    shortest: int | None = 800
    longest: int = 1333
    method: Literal["torchvision", "pil", "opencv"] = "opencv"
    divisor: int = 32
    square: bool = False
    keep_size: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def with_size(self, size: int | tuple[int, int] | None) -> "Preprocess":
        """The same rule at another size: N = longest side, (N, M) = shortest and longest side, None = unchanged."""
        if size is None:
            return self
        if isinstance(size, int):
            return dataclasses.replace(self, shortest=None, longest=size)
        return dataclasses.replace(self, shortest=size[0], longest=size[1])

    def fixed_canvas(self) -> tuple[int, int] | None:
        """The (H, W) that every image has to fit, where that is the same for all; None where sizes vary."""
        if self.square:
            return self.canvas([])
        return (self.longest, self.longest) if self.shortest is None else None

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) after resizing, before padding."""
        if self.keep_size:
            return height, width
        short, long = min(height, width), max(height, width)
        if self.method == "pil" and self.shortest is not None:
            side = self.shortest
            if long / short * side > self.longest:
                side = round(self.longest * short / long)
            if height <= width:
                return side, max(1, int(side * width / height)) if height != side else width
            return max(1, int(side * height / width)) if width != side else height, side
        scale = self.longest / long
        if self.shortest is not None:
            scale = min(scale, self.shortest / short)
        to_int = int if self.method == "torchvision" else round
        return max(1, to_int(height * scale)), max(1, to_int(width * scale))

    def image(self, image: np.ndarray) -> Tensor:
        """uint8 RGB [H,W,3] -> normalised float32 [3,h,w]."""
        size = self.output_size(*image.shape[:2])
        if self.method == "torchvision":
            tensor = self._normalise(image)
            # torchvision passes the scale factor and recomputes it from the floored size; the sizes are equal
            return F.interpolate(tensor[None], size=size, mode="bilinear", align_corners=False)[0]
        return self._normalise(self.resize(image))

    def resize(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H,W,3] -> uint8 [h,w,3] by this rule (not for torchvision's, which resizes floats)."""
        h, w = self.output_size(*image.shape[:2])
        if (h, w) == image.shape[:2]:
            return image
        if self.method == "pil":
            return np.array(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
        shrink = h * w < image.shape[0] * image.shape[1]
        return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)

    def target(self, target: Target) -> Target:
        """The target on the resized canvas: boxes and fields scaled, masks and semantic maps by nearest neighbour."""
        (height, width), (h, w) = target.size, self.output_size(*target.size)
        if (h, w) == (height, width):
            return target
        old, sx, sy = target.instances, w / width, h / height
        masks = old.masks
        if isinstance(masks, Tensor):
            masks = resize_nearest(masks, (h, w))
        instances = Instances(
            old.boxes * torch.tensor([sx, sy, sx, sy]),
            old.labels,
            old.scores,
            old.crowd,
            masks,
            {name: field.scale(sx, sy) for name, field in old.fields.items()},
        )
        semantic = None if target.semantic is None else resize_nearest(target.semantic[None], (h, w))[0]
        return Target(target.image_id, (h, w), instances, semantic, None)

    def canvas(self, sizes: list[tuple[int, int]]) -> tuple[int, int]:
        """The (H, W) that images of these sizes are padded to."""
        if self.square:
            sizes = [*sizes, (self.longest, self.longest)]
        up = lambda v: -(-v // self.divisor) * self.divisor
        return up(max(h for h, _ in sizes)), up(max(w for _, w in sizes))

    def pad(self, images: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[3,h,w] each -> images [B,3,H,W], zero-padded, and padding [B,H,W] (True = padded)."""
        sizes = [(i.shape[1], i.shape[2]) for i in images]
        h, w = self.canvas(sizes)
        batch = torch.zeros(len(images), 3, h, w)
        padding = torch.ones(len(images), h, w, dtype=torch.bool)
        for i, (image, (ih, iw)) in enumerate(zip(images, sizes, strict=True)):
            batch[i, :, :ih, :iw] = image
            padding[i, :ih, :iw] = False
        return batch, padding

    def _normalise(self, image: np.ndarray) -> Tensor:
        out = np.empty((3, *image.shape[:2]), np.float32)
        for channel, pixels, values in zip(out, cv2.split(image), _normalised(self.mean, self.std), strict=True):
            cv2.LUT(pixels, values, dst=channel)
        return torch.from_numpy(out)


@functools.cache
def _normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """float32 [3,256]: what each 8-bit value becomes in each channel. Looking it up takes one pass over an image where
    arithmetic takes four, with the same numbers."""
    values = torch.arange(256).float().div_(255).expand(3, 256)
    return ((values - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]).numpy()


def resize_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[N,H,W] of any integer or bool type -> [N,h,w], nearest neighbour, type kept."""
    if not len(maps):
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[None].float(), size=size, mode="nearest")[0].to(maps.dtype)
