"""A detector of torchvision's and ours with its weights, on the same resized images and in double precision.

In single precision the last digits of a convolution differ from one call to the next, and random weights enlarge that
to whatever bound is set; here nothing is left but what is computed otherwise.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from equal_steps import double_precision
from torchvision.models.detection.image_list import ImageList

from segcli.types import Batch


@contextlib.contextmanager
def in_double(models: Any, batch: Batch, images: list[torch.Tensor]) -> Iterator[tuple[Any, Any, Batch]]:
    """models: ours and torchvision's. batch: of ours, of the `images` [3,h,w] 0..1, which both must resize alike.

    Yields copies of both in double precision, of which torchvision's takes the images as it has resized them, and the
    batch of these.
    """
    resized, _ = models[1].transform(images)
    assert (batch.images - resized.tensors).abs().max() <= 1e-5
    resized = ImageList(resized.tensors.double(), resized.image_sizes)
    with double_precision():
        model, reference = (copy.deepcopy(one).double() for one in models)
        reference.transform.forward = lambda _, targets=None: (resized, targets)
        yield model, reference, dataclasses.replace(batch, images=resized.tensors)
