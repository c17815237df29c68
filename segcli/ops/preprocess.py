"""From a uint8 image to a model's input: resize, normalise, pad. One executor for training, evaluation and prediction.

Each family has its own rule, and parity needs it exactly: torchvision normalises and then interpolates floats;
DETR and MaskFormer resize 8-bit images as PIL does and then normalise; the lite models resize with OpenCV's area
filter. Where the size is one number, which no paper has, all families are alike in two things that make predictions
independent of an image's neighbours and labels lie exactly on what they label: see `with_size`.
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

from segcli.ops.resize_labels import Way, resize_label_map, resize_masks
from segcli.types import Instances, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How one model wants its images; a value object that travels with the model.

    shortest, longest: target sides in pixels; shortest None means that the longest side alone decides.
    method: torchvision (normalise, float bilinear, sides floored), pil (antialiased 8-bit bilinear, DETR's rounding),
    detectron2 (the same pixels, its rounding, see `_detectron2_size`) or opencv (area when shrinking, linear when
    growing, sides rounded).
    targets: how masks and label maps follow, see ops/resize_labels.py. The lite models read them exactly (area); each
    official one as its reference does, for its weights were learned so.
    stretch: the (height, width) that every image gets, whatever its shape; shortest and longest are these two. bicubic:
    the filter of the methods pil and detectron2.
    keep_size: images are not resized at all: augmentation has given them their size.
    divisor: the canvas is padded at right and bottom to a multiple of it. square: pad every image to longest × longest.
    mean, std: RGB in 0..1.
    """

    shortest: int | None = 800
    longest: int = 1333
    method: Literal["torchvision", "pil", "detectron2", "opencv"] = "opencv"
    targets: Way = "area"
    divisor: int = 32
    square: bool = False
    stretch: tuple[int, int] | None = None
    bicubic: bool = False
    keep_size: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def with_size(self, size: int | tuple[int, int] | None) -> "Preprocess":
        """The same rule at another size: N = longest side, (N, M) = shortest and longest side, None = unchanged.

        With N, and with (N, M) for models whose own rule is square (the lite ones), images lie on a square canvas of
        the longest side, whatever shape they and their neighbours have: group norms and convolutions see the padding,
        so a prediction would depend on who else is in the batch. A rule that stretches has both sides N, or height N
        and width M. Targets are then exact, but for
        torchvision's Mask R-CNN: that also crops masks half a pixel off, to the other side, and the two cancel.
        """
        if size is None:
            return self
        if self.stretch is not None:
            sides = (size, size) if isinstance(size, int) else size
            return dataclasses.replace(self, shortest=min(sides), longest=max(sides), stretch=sides)
        if isinstance(size, int):
            targets = self.targets if self.method == "torchvision" else "area"
            return dataclasses.replace(self, shortest=None, longest=size, square=True, targets=targets)
        return dataclasses.replace(self, shortest=size[0], longest=size[1])

    def fixed_canvas(self) -> tuple[int, int] | None:
        """The (H, W) that every image has to fit, where that is the same for all; None where a shortest side decides,
        too: augmented images then have no common size that they must not exceed."""
        return self.stretch or ((self.longest, self.longest) if self.shortest is None else None)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) after resizing, before padding."""
        if self.keep_size:
            return height, width
        if self.stretch is not None:
            return self.stretch
        short, long = min(height, width), max(height, width)
        if self.method == "pil" and self.shortest is not None:
            side = self.shortest
            if long / short * side > self.longest:
                side = round(self.longest * short / long)
            if height <= width:
                return side, max(1, int(side * width / height)) if height != side else width
            return max(1, int(side * height / width)) if width != side else height, side
        if self.method == "detectron2" and self.shortest is not None:
            return _detectron2_size(height, width, self.shortest, self.longest)
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
        if self.method in ("pil", "detectron2"):
            kernel = Image.Resampling.BICUBIC if self.bicubic else Image.Resampling.BILINEAR
            return np.array(Image.fromarray(image).resize((w, h), kernel))
        shrink = h * w < image.shape[0] * image.shape[1]
        return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)

    def target(self, target: Target) -> Target:
        """The target on the resized canvas: boxes and fields scaled, masks and semantic maps read as `targets` says."""
        (height, width), (h, w) = target.size, self.output_size(*target.size)
        if (h, w) == (height, width):
            return target
        old, sx, sy = target.instances, w / width, h / height
        masks = old.masks
        if isinstance(masks, Tensor):
            masks = resize_masks(masks, (h, w), self.targets)
        instances = Instances(
            old.boxes * torch.tensor([sx, sy, sx, sy]),
            old.labels,
            old.scores,
            old.crowd,
            masks,
            {name: field.scale(sx, sy) for name, field in old.fields.items()},
        )
        semantic = None if target.semantic is None else resize_label_map(target.semantic, (h, w), self.targets)
        return Target(target.image_id, (h, w), instances, semantic, None, target.ignore)

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


def _detectron2_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """detectron2's `ResizeShortestEdge.get_output_shape` (data/transforms/augmentation_impl.py): the short side becomes
    `shortest`, or less where the long side would exceed `longest`; both sides are rounded, half a pixel upwards."""
    scale = shortest / min(height, width)
    h, w = (float(shortest), scale * width) if height < width else (scale * height, float(shortest))
    if max(h, w) > longest:
        scale = longest / max(h, w)
        h, w = h * scale, w * scale
    return int(h + 0.5), int(w + 0.5)
