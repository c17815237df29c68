"""The table of official checkpoints, and how a name becomes a file."""

import inspect
import re
from pathlib import Path

import pytest
import torch
import torchvision

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import ModelError
from segcli.core.recipe.recipe import SCENES, Recipe, shipped
from segcli.engine import checkpoint, opening
from segcli.weights import backbones, official
from segcli.weights.class_rows import layouts
from segcli.weights.official import TABLE, find, licence, resolve

NON_COMMERCIAL = "CC BY-NC 4.0 (not for commercial use)"


@pytest.fixture
def loaded(monkeypatch, tmp_path) -> list:
    """Downloads write a small file into a cache of the test's own; -> [(address, digests), …]."""
    calls = []

    def fake(address, target, *, progress=True, sha256=None, md5=None):
        calls.append((address, sha256, md5))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"weights")
        return target

    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(official, "fetch", fake)
    return calls


def test_addresses_are_those_that_torchvision_has_itself():
    from torchvision.models import detection, mobilenetv3, resnet, segmentation

    modules = (detection.faster_rcnn, detection.mask_rcnn, detection.keypoint_rcnn, resnet, mobilenetv3)
    modules += (segmentation.fcn, segmentation.deeplabv3, segmentation.lraspp)
    known = {a for m in modules for a in re.findall(r'url="([^"]+)"', inspect.getsource(m))}
    ours = {c.address for name, c in TABLE.items() if name.startswith("torchvision/")}
    assert len(ours) == 17
    assert ours <= known
    assert torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url in ours


def test_every_checkpoint_has_an_address_a_licence_and_where_known_a_digest():
    for name, known in TABLE.items():
        assert known.address.startswith("https://"), name
        assert known.licence in ("BSD-3-Clause", "Apache-2.0", "MIT", NON_COMMERCIAL), name
        kind = name.split("/")[0]
        digest = {"detr": "sha256", "torchvision": "sha256", "maskformer": "md5"}.get(kind)
        assert list(known.digests) == ([digest] if digest else []), name
    assert len({c.address for c in TABLE.values()}) == len(TABLE)
    assert TABLE["detr/r50"].digests == {"sha256": "e632da11"}
    assert TABLE["maskformer/ade20k_r50"].digests == {"md5": "d8dbeb"}


def test_the_licence_is_said_before_the_download_and_once(loaded, capsys):
    path = resolve("maskformer/ade20k_r50")
    assert path.read_bytes() == b"weights"
    said = capsys.readouterr()
    assert "CC BY-NC 4.0" in said.err
    assert said.out == ""
    assert loaded == [(TABLE["maskformer/ade20k_r50"].address, None, "d8dbeb")]
    assert resolve("maskformer/ade20k_r50") == path
    assert capsys.readouterr().err == ""
    assert len(loaded) == 1


def test_same_file_names_do_not_collide(loaded):
    first, second = resolve("facebook/detr-resnet-50"), resolve("facebook/detr-resnet-101")
    assert first.name == second.name == "model.safetensors"
    assert first != second


def test_an_older_hub_repository_has_torch_files_alone(loaded, monkeypatch):
    served = official.fetch

    def missing(address, target, **settings):
        if address.endswith("model.safetensors"):
            raise ModelError(f"{address} can't be downloaded: the server answers 404 Not Found")
        return served(address, target, **settings)

    monkeypatch.setattr(official, "fetch", missing)
    assert resolve("facebook/maskformer-swin-tiny-ade").name == "pytorch_model.bin"
    assert loaded[0][0].endswith("/facebook/maskformer-swin-tiny-ade/resolve/main/pytorch_model.bin")
    assert resolve("facebook/maskformer-swin-tiny-ade").name == "pytorch_model.bin"
    assert len(loaded) == 1


def test_other_failures_at_the_hub_are_not_hidden(loaded, monkeypatch):
    def broken(address, target, **settings):
        raise ModelError(f"{address} can't be downloaded: the connection broke")

    monkeypatch.setattr(official, "fetch", broken)
    with pytest.raises(ModelError, match=r"model\.safetensors can't be downloaded: the connection broke"):
        resolve("facebook/detr-resnet-50")


def test_a_file_is_itself(tmp_path, loaded):
    (tmp_path / "a.pth").write_bytes(b"")
    assert resolve(tmp_path / "a.pth") == tmp_path / "a.pth"
    assert not loaded


def test_a_file_downloaded_by_hand_is_recognised_by_its_name(tmp_path):
    file = tmp_path / "detr-r50-e632da11.pth"
    file.write_bytes(b"")
    assert find(file) is TABLE["detr/r50"]
    assert licence(file) == "Apache-2.0"
    (tmp_path / "mine.pth").write_bytes(b"")
    assert find(tmp_path / "mine.pth") is None
    assert licence(tmp_path / "mine.pth") == "unknown"


def test_a_folder_of_transformers_is_named_as_a_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="a folder of transformers, and no weight file") as caught:
        official.resolve(tmp_path)
    assert f"checkpoint: {tmp_path}" in caught.value.hint


def test_unknown_names(loaded):
    with pytest.raises(ModelError, match="neither a weight file nor the name") as caught:
        resolve("detr/r5O")
    assert "detr/r50" in caught.value.hint
    with pytest.raises(ModelError, match=r"missing\.pth: no such weight file"):
        resolve("missing.pth")


@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnet_takes_imagenet_weights_through_the_one_downloader(loaded, monkeypatch, tmp_path, depth):
    from segcli.models import build_backbone

    reference = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    monkeypatch.setattr(official, "fetch", lambda *_, **__: tmp_path / "weights.pth")
    settings = {"name": "resnet", "depth": depth}
    backbone = build_backbone(settings)
    used = backbones.load_backbone(backbone, "imagenet", settings)
    assert used == {"source": f"torchvision/resnet{depth}", "licence": "BSD-3-Clause"}
    assert torch.equal(backbone.layer4[0].conv1.weight, reference.layer4[0].conv1.weight)


def test_without_a_connection_the_hint_names_what_works_offline(monkeypatch, tmp_path):
    from segcli.models import build_backbone

    def offline(*_, **__):
        raise ModelError("x can't be downloaded: the server's name can't be resolved")

    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path))
    monkeypatch.setattr(official, "fetch", offline)
    for settings, name in (({"depth": 18}, "imagenet"), ({"name": "swin"}, "imagenet")):
        with pytest.raises(ModelError, match="can't be resolved") as caught:
            backbones.load_backbone(build_backbone({"name": "resnet", **settings}), name, settings)
        assert "efficientnet_lite0" in caught.value.hint


def test_swin_weights_by_variant(monkeypatch, loaded):
    for variant, name, file in (
        ("tiny", "imagenet", "swin_tiny_patch4_window7_224.pth"),
        ("base", "imagenet22k", "swin_base_patch4_window12_384_22k.pth"),
    ):
        with pytest.raises(ModelError, match="can't be read"):  # the fake download is no weight file
            backbones.load_backbone(None, name, {"name": "swin", "variant": variant})
        assert loaded[-1][0].endswith(f"/{file}")
    with pytest.raises(ModelError, match="no weights imagenet22k for Swin tiny"):
        backbones.load_backbone(None, "imagenet22k", {"name": "swin", "variant": "tiny"})


@pytest.mark.parametrize(
    ("recipe", "reference"),
    [
        ("mask_rcnn_r50_fpn", "maskrcnn_resnet50_fpn"),
        ("mask_rcnn_r50_fpn_v2", "maskrcnn_resnet50_fpn_v2"),
        ("faster_rcnn_r50_fpn", "fasterrcnn_resnet50_fpn"),
    ],
)
def test_the_coco_recipes_take_torchvisions_weights_whole(recipe, reference, monkeypatch, capsys):
    """Names and shapes, on the meta device; the 80 classes find their rows among torchvision's 91."""
    names = [name for name in layouts()[("torchvision", 91)] if name]
    info = DatasetInfo("coco2017", tuple(Category(name, i) for i, name in enumerate(names)), {"train": 1})
    loaded = Recipe.load(f"coco/{recipe}")
    assert loaded.init == f"torchvision/{reference}"
    with torch.device("meta"):
        state = getattr(torchvision.models.detection, reference)(weights=None, weights_backbone=None).state_dict()
        model = opening.build(loaded, info)
    monkeypatch.setattr(checkpoint, "resolve", lambda name: name)
    monkeypatch.setattr(checkpoint, "read_state", lambda _: state)
    report = checkpoint.load_weights(model, loaded.init, info=info, partial=False)
    assert set(report["loaded"]) == set(model.state_dict())
    assert report["selected"]
    assert all(key.endswith("num_batches_tracked") for key in report["ignored"])
    assert capsys.readouterr().err.count("note:") == 1  # of the class rows; none of the norms' eps


def test_the_weights_that_shipped_recipes_name_are_in_the_table():
    named = {name: Recipe.load(name).init for name in shipped()}
    own = lambda init: init == SCENES or init.startswith("runs/") or init.endswith((".safetensors", ".pt", ".pth"))
    official_names = {init for init in named.values() if init and not own(init)}
    assert official_names
    assert official_names <= set(TABLE)


def test_the_page_covers_every_family_of_names():
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    whole_models = [name for name, known in TABLE.items() if known.source != "backbone"]
    starts = [start.removesuffix("…") for start in re.findall(r"`([^`]+/[^`]+)`", page)]
    assert [name for name in whole_models if not name.startswith(tuple(starts))] == []
    assert all(known.licence.split(" (")[0] in page for known in TABLE.values() if known.source != "backbone")
