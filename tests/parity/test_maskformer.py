"""MaskFormer against transformers' MaskFormerForInstanceSegmentation: outputs, matching, losses, semantic maps."""

from types import SimpleNamespace

import pytest
import torch
from detectron2_names import to_detectron2
from transformers import MaskFormerConfig, MaskFormerForInstanceSegmentation, ResNetConfig, SwinConfig
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor

from segcli.models import build_model
from segcli.ops.mask_inference import Enlarge, semantic
from segcli.types import Batch, Instances, Target
from segcli.weights.detectron2_resnet import to_torchvision
from segcli.weights.huggingface_maskformer import to_official
from segcli.weights.maskformer_official import from_official

CLASSES, SIZE = 5, (203, 250)
STAGES = ["stage1", "stage2", "stage3", "stage4"]
BACKBONES = {
    "resnet": (ResNetConfig(out_features=STAGES), {"name": "resnet"}),
    "swin": (SwinConfig(out_features=STAGES, drop_path_rate=0.0), {"name": "swin", "drop_path": 0.0}),
}


@pytest.fixture(scope="module", params=BACKBONES)
def pair(request):
    """Ours and theirs with the same random weights; norms, statistics and biases are random too."""
    torch.manual_seed(0)
    config, backbone = BACKBONES[request.param]
    theirs = MaskFormerForInstanceSegmentation(MaskFormerConfig(backbone_config=config, num_labels=CLASSES)).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.8, 1.2)
            elif value.is_floating_point() and (value.ndim == 1 or "table" in name) and "empty" not in name:
                value.add_(0.1 * torch.randn(value.shape))
    settings = {"name": "maskformer", "backbone": backbone, "transformer": {"dropout": 0.0}}
    ours = build_model(settings, task="instance", num_classes=CLASSES, num_things=CLASSES).eval()
    ours.load_state_dict(to_official(theirs.state_dict()))
    return ours, theirs


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def labelled(images):
    """Three objects on the first image, two on the second, of which one is a rectangle that covers another."""
    masks = torch.zeros(2, 3, *SIZE, dtype=torch.bool)
    for i, (y, x, h, w) in enumerate([(10, 20, 90, 70), (100, 110, 60, 130), (5, 150, 40, 90)]):
        masks[0, i, y : y + h, x : x + w] = True
        masks[1, i, x // 2 : x // 2 + w, y : y + 2 * h] = True
    labels = [torch.tensor([0, 3, 1]), torch.tensor([4, 4])]
    targets = [
        Target(i, SIZE, Instances(torch.zeros(len(name), 4), name, masks=masks[i, : len(name)]))
        for i, name in enumerate(labels)
    ]
    return Batch(images, torch.zeros(2, *SIZE, dtype=torch.bool), [SIZE] * 2, [SIZE] * 2, [0, 1], targets)


def close(a, b, relative=1e-4):
    assert (a - b).abs().max() <= relative * b.abs().max()


@torch.no_grad()
def test_class_and_mask_logits(pair, images):
    ours, theirs = pair
    expected = theirs(images)
    classes, masks = ours.network(images)
    close(classes, expected.class_queries_logits)
    close(masks, expected.masks_queries_logits)


@torch.no_grad()
def test_matching_and_losses_on_every_decoder_layer(pair, labelled):
    ours, theirs = pair
    out = ours.run(labelled.images)
    layers = [
        {"class_queries_logits": c, "masks_queries_logits": torch.einsum("bqc,bchw->bqhw", m, out.pixels)}
        for c, m in zip(out.logits, out.embeddings, strict=True)
    ]
    masks = [t.instances.masks.float() for t in labelled.targets]
    labels = [t.instances.labels for t in labelled.targets]
    last = layers[-1]
    expected = theirs.get_loss_dict(
        last["masks_queries_logits"], last["class_queries_logits"], masks, labels, layers[:-1]
    )
    found = ours(labelled)
    for name, their_name in (("class", "loss_cross_entropy"), ("mask", "loss_mask"), ("dice", "loss_dice")):
        aux = sum(v for k, v in expected.items() if k.startswith(their_name + "_"))
        assert found[name].item() == pytest.approx(expected[their_name].item(), rel=1e-4)
        assert found[name + "_aux"].item() == pytest.approx(aux.item(), rel=1e-4)

    pairs = theirs.matcher(last["masks_queries_logits"], last["class_queries_logits"], masks, labels)
    start = 0
    for (queries, objects), (their_queries, their_objects) in zip(
        ours.inspect(labelled)["matching"], pairs, strict=True
    ):
        assert queries.tolist() == their_queries.tolist()
        assert (objects - start).tolist() == their_objects.tolist()
        start += len(objects)


def test_semantic_post_processing():
    generator = torch.Generator().manual_seed(2)
    outputs = SimpleNamespace(  # random weights decide on one class everywhere, so these are drawn
        class_queries_logits=3 * torch.randn(2, 20, CLASSES + 1, generator=generator),
        masks_queries_logits=5 * torch.randn(2, 20, 51, 63, generator=generator),
    )
    target_sizes = [(171, 233), (301, 299)]
    expected = MaskFormerImageProcessor().post_process_semantic_segmentation(outputs, target_sizes)
    for i, size in enumerate(target_sizes):
        enlarge = Enlarge(SIZE, SIZE, size, direct=True)
        found = semantic(outputs.class_queries_logits[i], outputs.masks_queries_logits[i], enlarge)
        assert len(expected[i].unique()) > 3
        assert torch.equal(torch.from_numpy(found).long(), expected[i].long())


def test_both_layouts_of_transformers_have_the_same_official_names(pair):
    ours, theirs = pair
    state = theirs.state_dict()
    older = {}
    for key, value in state.items():
        name = key.replace(".o_proj.", ".out_proj.") if "transformer_module" in key else key
        older[name.replace(".mlp.fc", ".fc") if "transformer_module" in key else name] = value
    assert older.keys() != state.keys()
    assert to_official(older).keys() == to_official(state).keys() == ours.state_dict().keys()


def test_released_files_have_a_place_for_every_tensor(pair):
    ours, _ = pair
    state = ours.state_dict()
    trunk = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    trunk = to_detectron2(trunk) if "conv1.weight" in trunk else trunk
    released = {f"backbone.{k}": v for k, v in trunk.items()}
    released |= {k: v for k, v in state.items() if not k.startswith("backbone.")}
    released["criterion.empty_weight"] = torch.ones(CLASSES + 1)
    back = from_official(released)
    assert back.keys() == state.keys()
    assert all(back[k] is state[k] for k in state if not k.startswith("backbone."))


@pytest.mark.parametrize("stem", [{}, {"stem": "3x3", "multi_grid": (1, 2, 4)}])
def test_detectron2_resnet_names_are_one_to_one(stem):
    settings = {"name": "maskformer", "backbone": {"name": "resnet", **stem}}
    with torch.device("meta"):
        model = build_model(settings, task="semantic", num_classes=3, num_things=0)
    ours = model.backbone.state_dict()
    theirs = to_detectron2(ours)
    assert len(theirs) == len(ours)
    norm = {"weight", "bias", "running_mean", "running_var"}
    expected = {"res2.0.shortcut.weight", "res5.2.conv3.weight", *(f"res4.5.conv2.norm.{n}" for n in norm)}
    for i in (1, 2, 3) if stem else (1,):
        expected |= {f"stem.conv{i}.weight", *(f"stem.conv{i}.norm.{n}" for n in norm)}
    assert expected <= theirs.keys()
    assert not any(k.startswith(("layer", "conv", "bn")) for k in theirs)
    back = to_torchvision(theirs)
    assert back.keys() == ours.keys()
    assert all(back[k] is ours[k] for k in ours)
