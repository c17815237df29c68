"""What the library's models attend to: the same as the library says, and the model is left as it was."""

import pytest
import tiny_checkpoints
import torch
from batches import batch

from segcli.models import build_model
from segcli.models.transformers.architectures import KINDS, TASKS_OF

READ, OWN, POINTS = "query_attention", "encoder_attention", "decoder_points"
DETECTS, SEGMENTS, CLASSIFIES = "ForObjectDetection", "ForUniversalSegmentation", "ForSemanticSegmentation"
GROUPS = [  # what architectures have of these three
    ({READ, OWN}, [name + DETECTS for name in ("Detr", "ConditionalDetr", "DabDetr", "TableTransformer", "Yolos")]),
    ({READ, OWN}, ["Eomt" + SEGMENTS, "EomtDinov3" + SEGMENTS]),
    ({READ}, ["MaskFormerForInstanceSegmentation", "Mask2Former" + SEGMENTS]),
    ({OWN, POINTS}, [name + DETECTS for name in ("RTDetr", "RTDetrV2", "DFine", "Deimv2")]),
    ({POINTS}, [name + DETECTS for name in ("DeformableDetr", "LwDetr", "RfDetr")]),
    ({POINTS}, ["RfDetrForInstanceSegmentation"]),
    ({OWN}, [name + CLASSIFIES for name in ("Beit", "DPT", "Segformer")]),
    (set(), [name + CLASSIFIES for name in ("Data2VecVision", "MobileNetV2", "MobileViT", "MobileViTV2", "UperNet")]),
]
HAS = {name: has for has, names in GROUPS for name in names}
LEARNED = [  # queries
    name + DETECTS for name in ("Detr", "ConditionalDetr", "DabDetr", "DeformableDetr", "TableTransformer", "Yolos")
]


def model_of(name, folder):
    settings = {"name": "transformers", "checkpoint": str(tiny_checkpoints.save(name, folder))}
    return build_model(settings, task=TASKS_OF[KINDS[name]][-1], num_classes=3, num_things=2).eval()


@pytest.mark.parametrize("name", KINDS)
def test_what_it_attends_to(name, tmp_path):
    model, one = model_of(name, tmp_path), batch((1, 1))
    read = lambda: model.predict(one)[0].instances
    with torch.inference_mode():
        before, views, after = read(), model.inspect(one), read()
    assert {READ, OWN, POINTS} & views.keys() == HAS[name]
    if "boxes" in views:
        assert views["selected"] == (name not in LEARNED)
    if before is not None:
        assert torch.equal(before.scores, after.scores)
    for key in {READ, OWN} & views.keys():
        sums = views[key].flatten(-2).sum(-1)
        assert ((sums > 0.3) & (sums < 1.001)).all()  # the rest is other tokens'
    if POINTS in views:
        places = views[POINTS][-1]
        torch.testing.assert_close(places[..., 2].sum((3, 4)), torch.ones(places.shape[:3]))
        middle = views["boxes"][..., :2].add(views["boxes"][..., 2:]) / 2
        assert (places[..., :2].mean((2, 3, 4)) - middle).abs().mean() < 40  # of 96 pixels


@pytest.mark.parametrize(
    "name", ["DetrForObjectDetection", "ConditionalDetrForObjectDetection", "DabDetrForObjectDetection"]
)
def test_it_is_what_the_library_returns(name, tmp_path):
    model, one = model_of(name, tmp_path), batch((1, 1))
    with torch.inference_mode():
        views = model.inspect(one)
        model.net.set_attn_implementation("eager")
        out = model.run(one, output_attentions=True)
    torch.testing.assert_close(views[READ].flatten(2), out.cross_attentions[-1].mean(1))
    torch.testing.assert_close(views[OWN].flatten(3), out.encoder_attentions[-1])


@pytest.mark.parametrize("name", ["YolosForObjectDetection", "EomtForUniversalSegmentation"])
def test_queries_among_the_tokens_look_where_the_image_is_changed(name, tmp_path):
    """Of a token grid whose rows were exchanged with columns, or shifted by a query, another cell would change most."""
    model, one = model_of(name, tmp_path), batch((1, 1))
    with torch.inference_mode():
        plain = model.inspect(one)[OWN][0].mean(0)  # [36,6,6]
        one.images[0, :, 16:32, 64:80] += 4 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
        changed = model.inspect(one)[OWN][0].mean(0)
    row, column = divmod(int((changed - plain).abs().sum(0).argmax()), 6)
    assert (row, column) == (1, 4)
