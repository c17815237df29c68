"""What a model of the library attends to, read on its way through the network: where queries look, where tokens look.

Recorded from the library's own attention modules, which give their weights when they compute them in the open (its
`eager` way) rather than in a fused kernel; the result is the same up to rounding.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

STRIDES = (4, 7, 8, 14, 16, 32, 64)  # of token grids
CROSS = ("encoder_attn", "cross_attn")  # a decoder layer's reading of the image, as the library names it
OWN = ("self_attn", "attention")  # of tokens among each other
OTHERS = ("decoder", "backbone", "pixel_level_module")  # where these are queries' own, or tokens stand in windows
ASKED = "output_attentions"  # an argument of older modules
V2 = "multi_scale_deformable_attention_v2"


class Recorded:
    """The last of each kind. read: [B,heads,Q,K] or, mean over heads, [B,Q,K], of queries to the image; own:
    [B,heads,T,T] of tokens to tokens; points [B,Q,heads,S,P,3]: x and y, 0 to 1 over the canvas, and weight."""

    def __init__(self) -> None:
        self.read: Tensor | None = None
        self.own: Tensor | None = None
        self.points: Tensor | None = None

    def views(self, canvas: tuple[int, int], queries: int | None, *, queries_first: bool) -> dict[str, object]:
        """What explain views draw of it, where it is on a grid over the canvas (H, W): query_attention [B,Q,h,w] of the
        last decoder layer, mean over heads; encoder_attention [B,heads,T,h,w] of the last encoder layer;
        decoder_points, a list of the last layer's [B,Q,heads,S,P,3] with x, y in pixels of the canvas.

        queries_first: of models whose queries are tokens among those of the image, whether they stand before them.
        """
        views: dict[str, object] = {}
        if self.points is not None:
            views["decoder_points"] = [self.points * self.points.new_tensor([canvas[1], canvas[0], 1])]
        read, own = self.read, self.own
        if own is not None and read is None and queries and own.shape[-1] > queries and not views:
            at = slice(None, queries) if queries_first else slice(-queries, None)
            rest = slice(queries, None) if queries_first else slice(None, -queries)
            read, own = own[:, :, at, rest], own[:, :, rest, rest]
        if read is not None and (shown := _on_grid(read if read.ndim == 3 else read.mean(1), canvas)) is not None:
            views["query_attention"] = shown
        if own is not None and (shown := _on_grid(own, canvas)) is not None:
            views["encoder_attention"] = shown[:, :, own.shape[-1] - shown.shape[-2:].numel() :]
        return views


@contextlib.contextmanager
def recorded(net: nn.Module) -> Iterator[Recorded]:
    """Record what `net` attends to when it is called inside."""
    seen, hooks = Recorded(), []
    replaced: list[tuple[Any, str, object]] = []  # (owner, attribute, what it was)

    def replace(owner: Any, attribute: str, value: object) -> None:
        replaced.append((owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, value)

    try:
        for config in {id(one.config): one.config for one in net.modules() if hasattr(one, "config")}.values():
            replace(config, "_attn_implementation_internal", "eager")
        for name, module in net.named_modules():
            home = sys.modules[type(module).__module__]
            if type(module).__name__ == "MultiScaleDeformableAttention" and "decoder.layers" in name:
                hooks.append(module.register_forward_pre_hook(lambda _, given: _note_points(seen, given[4], given[5])))
            elif hasattr(module, "ms_deformable_attn_core"):
                replace(module, "ms_deformable_attn_core", _noting(seen, module.ms_deformable_attn_core))
            elif type(module).__name__ == "RTDetrV2MultiscaleDeformableAttention":
                replace(home, V2, _noting(seen, getattr(home, V2)))
            elif name.endswith(CROSS) or (name.endswith(OWN) and not any(part in name for part in OTHERS)):
                hooks.append(module.register_forward_hook(_note(seen, "read" if name.endswith(CROSS) else "own")))
                if _can_be_asked(module):
                    hooks.append(module.register_forward_pre_hook(_ask, with_kwargs=True))
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
        for owner, attribute, value in reversed(replaced):
            setattr(owner, attribute, value)


def _can_be_asked(module: nn.Module) -> bool:
    """Whether it gives its weights when asked: DAB-DETR's; Data2Vec's fused ones can't."""
    fused = any("Sdpa" in type(part).__name__ for part in module.modules())
    return ASKED in inspect.signature(module.forward).parameters and not fused


def _ask(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return given, {**named, ASKED: True}


def _note(seen: Recorded, kind: str) -> Callable[[nn.Module, object, object], None]:
    def note(_: nn.Module, given: object, out: object) -> None:
        weights = out[1] if isinstance(out, tuple) and len(out) > 1 else None
        if isinstance(weights, Tensor) and weights.is_floating_point():
            square = weights.ndim == 4 and weights.shape[-1] == weights.shape[-2]
            if square if kind == "own" else weights.ndim in (3, 4):
                setattr(seen, kind, weights.detach())

    return note


def _note_points(seen: Recorded, places: Tensor, weights: Tensor) -> None:
    seen.points = torch.cat([places, weights[..., None]], -1).detach()


def _noting(seen: Recorded, core: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The library's second way of deformable attention: one function, its points of all maps in one row."""

    def run(value: Tensor, shapes: Any, places: Tensor, weights: Tensor, *rest: Any, **named: Any) -> Tensor:
        _note_points(seen, places[:, :, :, None], weights[:, :, :, None])
        return core(value, shapes, places, weights, *rest, **named)

    return run


def _on_grid(maps: Tensor, canvas: tuple[int, int]) -> Tensor | None:
    """[...,K] -> [...,h,w] of the grid over the canvas whose cells are the last of the K; tokens before them stand for
    no place. None where there is no such grid."""
    for before in range(6):  # a class token, and up to four registers
        for stride in STRIDES:
            h, w = (-(-side // stride) for side in canvas)
            if h * w + before == maps.shape[-1]:
                return maps[..., before:].unflatten(-1, (h, w))
    return None
