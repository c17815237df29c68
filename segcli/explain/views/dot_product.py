"""The dot product that makes a mask: channels of the pixel embeddings, weighed by a query's embedding, and their
sum."""

import numpy as np
import torch

from segcli.explain.pictures import cells, heat_over
from segcli.explain.scene import FEW, Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.maskformer.maskformer import mask_logits

CHANNELS = 6  # shown of each query


def build() -> View:
    return View(
        "A mask is a dot product",
        "The query's embedding holds a weight for each channel of the pixel embeddings. Here are the channels that "
        "move its mask most (red: for the object, blue: against it), the sum of all, and the mask that it becomes.",
        ("MaskFormer, section 3.3, segmentation module", "https://arxiv.org/abs/2107.06278"),
        mask_logits,
        ("pixels", "mask_embeddings", "mask_logits"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    pixels, logits = scene.tensor("pixels")[0], scene.tensor("mask_logits")[0]
    embeddings = scene.tensor("mask_embeddings")[0]
    covered, inside = scene.covered(pixels), scene.content(pixels)
    spread = inside.flatten(1).std(1)  # of each channel, [C]
    shown = Shown(columns=4)
    sure = scene.sure(FEW)
    for query, group in zip(sure[0].tolist(), scene.query_names(*sure), strict=True):
        own = embeddings[query]
        best = (own.abs() * spread).argsort(descending=True)[:CHANNELS]
        terms = own[best, None, None] * inside[best]  # [CHANNELS,h,w]; those of all channels sum to the product
        top = float(terms.abs().quantile(0.995)) if terms.numel() < 2**24 else float(terms.abs().max())
        for c, term in zip(best.tolist(), terms, strict=True):
            shown.pictures.append(Picture(_signed(term, top), f"channel {c + 1} × {float(own[c]):+.2f}", group))
        total = torch.einsum("c,chw->hw", own, inside)
        shown.pictures.append(
            Picture(_signed(total, float(total.abs().quantile(0.995))), f"sum of all {len(own)}", group)
        )
        mask = scene.content(logits[query : query + 1])[0].sigmoid()
        shown.pictures.append(Picture(heat_over(scene.canvas, mask, covered), "the mask, as probabilities", group))
    if "boxes" in scene.inside:
        shown.facts = ["This model adds a small map of the query's own over its box, and cuts the mask there."]
    return shown


def _signed(values_hw: torch.Tensor, most: float) -> np.ndarray:
    """Red above 0, blue below, light at 0: uint8 RGB, enlarged."""
    share = np.clip(values_hw.numpy() / max(most, 1e-9), -1, 1)[..., None]
    ends = np.where(share > 0, np.array([178, 24, 43]), np.array([33, 102, 172]))
    colours = (247 + (ends - 247) * np.abs(share)).astype(np.uint8)
    return cells(colours)
