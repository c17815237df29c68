"""Tiles carry exactly what the whole image had there."""

import json

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS

from segcli.commands.prepare import prepare
from segcli.core.errors import UsageError
from segcli.data.annotations import crop_rle, encode
from segcli.data.dataset import Dataset
from segcli.sources.tile import Tiling

SIZE = (130, 170)


@pytest.fixture
def source(tmp_path):
    """Four images with three polygons, of which one leaves a speck on a second tile."""
    (tmp_path / "src").mkdir()
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for i in range(4):
        name = f"p{i}.png"
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(tmp_path / "src" / name)
        images.append({"id": i + 1, "file_name": name, "width": SIZE[1], "height": SIZE[0]})
        for polygon in (
            [5.5, 5.2, 160.1, 20.3, 80.7, 120.9],
            [20.0, 30.0, 55.0, 30.0, 55.0, 50.0, 20.0, 50.0],  # one column of it on the second tile
            [100.4, 90.2, 169.5, 100.1, 140.3, 129.0],
        ):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 7, "segmentation": [polygon]}
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "thing"}]}
    (tmp_path / "src/labels.json").write_text(json.dumps(content), "utf-8")
    return tmp_path / "src"


def test_tiles_hold_what_the_image_held(source, tmp_path):
    whole = Dataset(prepare(str(source), tmp_path / "whole"))
    root = prepare(str(source), tmp_path / "tiles", tile=64, overlap=10)
    tiles = Dataset(root)
    by_name = {name: i for i, name in enumerate(whole.file_names)}
    covered = {name: np.zeros(SIZE, bool) for name in by_name}
    for i in range(len(tiles)):
        sample = tiles.read(i)
        name, x, y = tiles.file_names[i].removesuffix(".png").replace("_x", " ").replace("_y", " ").split()
        x, y, full = int(x), int(y), whole.read(by_name[name + ".png"])
        part = np.s_[y : y + 64, x : x + 64]
        assert (sample.image == full.image[part]).all()
        covered[name + ".png"][part] = True
        expected = [m[part].numpy() for m in full.target.instances.masks]
        specks = [m for m in expected if 0 < m.sum() < 0.01 * 64 * 64]
        got = [m.numpy() for m in sample.target.instances.masks]
        for mask in got:
            assert any((mask == m).all() for m in expected)
        assert len(got) >= sum(m.any() for m in expected) - len(specks)
    assert all(c.all() for c in covered.values())
    said = " ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])
    assert "3 images cut into 27 tiles" in said
    assert "3 remains are dropped (under 10% of their object and 1% of the tile)" in said


def test_sibling_tiles_share_a_split(source, tmp_path):
    root = prepare(str(source), tmp_path / "tiles", tile=64, overlap=10, split="train=0.5,val=0.5")
    origins = [{name.split("_x")[0] for name in Dataset(root, split).file_names} for split in ("train", "val")]
    assert not origins[0] & origins[1]
    assert len(origins[0] | origins[1]) == 4


def test_what_no_tile_can_be():
    for size, overlap, said in ((8, 0, "--tile 8"), (64, 64, "--overlap 64"), (64, -1, "--overlap -1")):
        with pytest.raises(UsageError, match=said):
            Tiling(size, overlap)
    with pytest.raises(UsageError, match="goes with --tile"):
        prepare("shapes", overlap=3)
    with pytest.raises(UsageError, match="exclude each other"):
        prepare("shapes", tile=64, link=True)


def test_semantic_and_panoptic_maps_are_cut(tmp_path):
    small = {"train": 2, "val": 1, "size": 96}
    whole = Dataset(prepare("shapes", tmp_path / "whole", settings=small), "val", task="panoptic").read(0)
    tiles = Dataset(prepare("shapes", tmp_path / "t", settings=small, tile=64, overlap=32), "val", task="panoptic")
    assert len(tiles) == 4
    last = tiles.read(3)
    assert tiles.file_names[3].endswith("_x32_y32.png")
    assert (last.target.semantic == whole.target.semantic[32:, 32:]).all()


def test_a_mask_is_cut_without_unpacking_it():
    rng = np.random.default_rng(1)
    for _ in range(50):
        mask = rng.random((23, 31)) < rng.choice([0.0, 0.1, 0.5, 1.0])
        from pycocotools import mask as coco_mask

        rle = encode(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))), (23, 31))
        x1, y1 = rng.integers(0, 20), rng.integers(0, 15)
        x2, y2 = x1 + rng.integers(1, 11), y1 + rng.integers(1, 8)
        assert (crop_rle(rle, x1, y1, x2, y2) == mask[y1:y2, x1:x2]).all()


def test_panoptic_maps_with_an_alpha_channel(tmp_path):
    FORMATS["panoptic"](tmp_path / "p")
    for file in (tmp_path / "p/annotations").rglob("*.png"):
        Image.open(file).convert("RGBA").save(file)
    data = Dataset(prepare(str(tmp_path / "p"), tmp_path / "out", tile=16), "val", task="panoptic")
    assert len(data) == 4
    assert {s.id for i in range(4) for s in data.target(i).panoptic.segments} == {300, 2, 70000}
