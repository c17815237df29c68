"""MaskFormer's pixel decoder: from the coarsest map to one embedding for every pixel of stride 4."""

from segcli.explain.pictures import cells, feature_colours
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.layers.pixel_decoder import FpnPixelDecoder


def build() -> View:
    return View(
        "Pixel embeddings",
        "The maps of the pixel decoder from coarse to fine and, last, the embeddings of pixels, their three main "
        "directions as colours: pixels of one colour will get into the same masks.",
        ("MaskFormer, section 3.3, pixel-level module", "https://arxiv.org/abs/2107.06278"),
        FpnPixelDecoder.pyramid,
        ("pixels",),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    maps = scene.tensors("pixel_decoder_maps" if "pixel_decoder_maps" in scene.inside else "maps")
    maps.sort(key=lambda one: one.shape[1])
    pictures = []
    for one in [*maps, scene.tensor("pixels")[0]]:
        inside = scene.content(one)
        stride = round(scene.step(one.shape[2], scene.batch.images.shape[3]))
        name = f"stride {stride}: {inside.shape[0]} × {inside.shape[1]} × {inside.shape[2]}"
        pictures.append(Picture(cells(feature_colours(inside)[0]), name))
    pictures[-1].caption = f"pixel embeddings, {pictures[-1].caption}"
    return Shown(pictures, columns=min(5, len(pictures)))
