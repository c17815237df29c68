"""Masks that are one a class, learned as a pixel's class, too: the cross-entropy that K-Net (Zhang et al., 2021) trains
semantic kernels with.

L decoder layers, B images, Q queries = classes; h w size of the mask logits, H W of the canvas.
"""

import torch
from torch import Tensor

from segcli.models.layers.mask_set_loss import Outputs
from segcli.ops.mask_losses import pixel_cross_entropy
from segcli.ops.segments import label_maps
from segcli.types import IGNORE, Batch


def pixel_losses(out: Outputs, batch: Batch, divisors: dict[str, float] | None) -> Tensor:
    """Cross-entropy of every layer's mask logits over the queries, mean over labelled pixels, [L].

    divisors: counts averaged over ranks and accumulation steps; None: this batch's own.
    """
    labels_BHW = pixel_labels(batch)
    pixels = max((divisors or labelled_pixels(batch))["pixels"], 1)
    sums = []
    for embeddings_BQE in out.embeddings:
        logits_BQhw = torch.einsum("bqe,behw->bqhw", embeddings_BQE, out.pixels)
        sums.append(pixel_cross_entropy(logits_BQhw, labels_BHW, IGNORE).sum())
    return torch.stack(sums) / pixels


def labelled_pixels(batch: Batch) -> dict[str, float]:
    """{"pixels": how many have a label}."""
    return {"pixels": float((pixel_labels(batch) != IGNORE).sum())}


def pixel_labels(batch: Batch) -> Tensor:
    """int64 [B,H,W] on the canvas, IGNORE in the padding."""
    assert batch.targets is not None
    return label_maps(batch.targets, (batch.images.shape[2], batch.images.shape[3]))
