"""One set of labels, seen as semantic and as panoptic maps: derived from instances or read from PNG."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sources import H, W, photo, picture, text

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.data import views
from segcli.data.dataset import Dataset
from segcli.doctor.check import check
from segcli.types import IGNORE, Instances, Panoptic, Segment, encode_masks, mask_boxes

SIZE = (20, 30)


def block(y1, x1, y2, x2):
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def instances(*objects, encoded=False):
    """objects: (mask, label, crowd)."""
    masks = np.stack([m for m, _, _ in objects])
    return Instances(
        boxes=torch.from_numpy(mask_boxes(masks)),
        labels=torch.tensor([label for _, label, _ in objects]),
        crowd=torch.tensor([crowd for _, _, crowd in objects]),
        masks=encode_masks(masks) if encoded else torch.from_numpy(masks),
    )


@pytest.mark.parametrize("encoded", [False, True])
def test_later_objects_cover_earlier_ones_and_crowds_lie_below(encoded):
    scene = instances(
        (block(0, 0, 10, 10), 0, False),
        (block(5, 5, 15, 15), 1, False),
        (block(0, 0, 20, 30), 2, True),
        encoded=encoded,
    )
    semantic = views.semantic_from_instances(scene, SIZE)
    assert semantic[2, 2] == 0
    assert semantic[7, 7] == 1
    assert semantic[18, 28] == 2
    panoptic = views.panoptic_from_instances(scene, SIZE, num_things=3)
    assert panoptic.ids[7, 7] == 2
    assert panoptic.ids[2, 2] == 1
    assert panoptic.ids[18, 28] == 3
    assert [(s.id, s.label, s.crowd) for s in panoptic.segments] == [(1, 0, False), (2, 1, False), (3, 2, True)]


def test_unlabelled_pixels_are_ignored_not_background():
    scene = instances((block(0, 0, 10, 10), 0, False))
    semantic = views.semantic_from_instances(scene, SIZE)
    assert (semantic[~block(0, 0, 10, 10)] == IGNORE).all()
    assert (views.panoptic_from_instances(scene, SIZE, 1).ids[~block(0, 0, 10, 10)] == 0).all()
    assert (views.semantic_from_instances(Instances.empty(SIZE), SIZE) == IGNORE).all()
    assert views.panoptic_from_instances(Instances.empty(SIZE), SIZE, 1).segments == []


def test_an_object_that_is_wholly_covered_has_no_segment():
    scene = instances((block(2, 2, 8, 8), 0, False), (block(0, 0, 10, 10), 1, False))
    assert [s.id for s in views.panoptic_from_instances(scene, SIZE, 2).segments] == [2]


def test_stuff_comes_from_the_semantic_map_and_regions_of_one_class_are_one_segment():
    semantic = np.full(SIZE, 2, np.uint8)
    semantic[15:] = IGNORE
    semantic[0:5, 0:5] = 0  # a thing in the map that no instance has stays void
    scene = instances(
        (block(8, 8, 12, 12), 1, False), (block(8, 20, 12, 22), 3, False), (block(2, 20, 4, 22), 3, False)
    )
    panoptic = views.panoptic_from_instances(scene, SIZE, 2, semantic)
    assert sorted((s.label, s.crowd) for s in panoptic.segments) == [(1, False), (2, False), (3, False)]
    assert panoptic.ids[1, 1] == 0
    assert (panoptic.ids[15:] == 0).all()
    assert panoptic.ids[3, 20] == panoptic.ids[9, 20] != 0
    assert views.semantic_from_panoptic(panoptic)[14, 29] == 2


def test_semantic_from_panoptic_with_large_ids():
    ids = np.zeros(SIZE, np.int32)
    ids[:5], ids[5:10] = 16_000_000, 7
    out = views.semantic_from_panoptic(Panoptic(ids, [Segment(16_000_000, 3), Segment(7, 1, crowd=True)]))
    assert out[0, 0] == 3
    assert out[7, 0] == 1
    assert out[15, 0] == IGNORE


# --- PNG files


def write_panoptic(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.dstack([ids % 256, ids // 256 % 256, ids // 65536]).astype(np.uint8)).save(path)


def test_semantic_png_of_every_kind(tmp_path):
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    palette = Image.fromarray(labels, "L").convert("P")
    palette.putdata(labels.ravel().tolist())
    palette.putpalette([200, 10, 10, 3, 3, 3, 90, 0, 1] + [0] * 759)
    for name, image in [
        ("grey", Image.fromarray(labels)),
        ("palette", palette),
        ("deep", Image.fromarray(labels.astype(np.uint16))),
    ]:
        image.save(tmp_path / f"{name}.png")
        assert np.array_equal(views.read_semantic(tmp_path / f"{name}.png", (2, 2), 3), labels)


def test_semantic_png_is_checked(tmp_path):
    path = tmp_path / "map.png"
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(path)
    with pytest.raises(DataError, match=r"map\.png: value 7 is no label"):
        views.read_semantic(path, (2, 3), 7)
    with pytest.raises(DataError, match=r"map\.png: the map is \(2, 3\)"):
        views.read_semantic(path, (3, 2), 8)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match="one channel"):
        views.read_semantic(path, (2, 3), 8)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"map\.png"):
        views.read_semantic(path, (2, 3), 8)
    with pytest.raises(DataError, match=r"gone\.png"):
        views.read_semantic(tmp_path / "gone.png", (2, 3), 8)


def test_panoptic_png_against_its_json(tmp_path):
    ids = np.zeros(SIZE, int)
    ids[:5], ids[5:9] = 70_000, 300
    write_panoptic(tmp_path / "p.png", ids)
    path, labels = tmp_path / "p.png", {11: 0, 50: 1}
    good = [{"id": 70_000, "category_id": 50, "iscrowd": 0}, {"id": 300, "category_id": 11, "iscrowd": 1}]
    panoptic = views.read_panoptic(path, good, SIZE, labels)
    assert np.array_equal(panoptic.ids, ids)
    assert [(s.id, s.label, s.crowd) for s in panoptic.segments] == [(70_000, 1, False), (300, 0, True)]
    for wrong, message in [
        (good[:1], "segment 300 is in the PNG, but not in its json"),
        ([*good, {"id": 9, "category_id": 11}], "segment 9 is in its json entry, but not in the PNG"),
        ([*good, good[0]], "twice"),
        ([good[0], {"id": 300, "category_id": 12}], "segment 300: category id 12"),
        ([good[0], {"category_id": 11}], "no whole number"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            views.read_panoptic(path, wrong, SIZE, labels)
        assert "p.png" in str(caught.value)
    with pytest.raises(DataError, match="the map is"):
        views.read_panoptic(path, good, (30, 20), labels)


# --- through a dataset


def with_info(root, **changes):
    categories = (Category("cat", 3), Category("dog", 17), Category("grass", 40, thing=False))
    info = DatasetInfo("tiny", categories, {"train": 4, "val": 2}, **changes)
    (root / "info.json").write_text(json.dumps(info.to_json()), encoding="utf-8")


def test_dataset_derives_both_views_from_instances(tiny_dataset):
    target = Dataset(tiny_dataset, "train", task="panoptic").target(3)  # a crowd of cats and a cat
    assert target.semantic.dtype == torch.int64
    assert sorted(np.unique(target.semantic)) == [0, IGNORE]
    assert [(s.id, s.crowd) for s in target.panoptic.segments] == [(1, True), (2, False)]
    assert target.panoptic.ids[32, 25] == 2
    assert target.panoptic.ids[40, 25] == 1
    semantic = Dataset(tiny_dataset, "train", task="semantic").target(3)
    assert semantic.panoptic is None
    assert torch.equal(semantic.semantic, target.semantic)


def test_dataset_reads_semantic_maps(tiny_copy):
    with_info(tiny_copy, semantic=True)
    folder = tiny_copy / "semantic" / "val"
    folder.mkdir(parents=True)
    for name in ("five", "six"):
        labels = np.full((48, 64), 2, np.uint8)
        labels[:4] = IGNORE
        Image.fromarray(labels).save(folder / f"{name}.png")
    target = Dataset(tiny_copy, "val", task="panoptic").target(0)
    assert sorted(np.unique(target.semantic)) == [2, IGNORE]
    assert sorted(s.label for s in target.panoptic.segments) == [0, 1, 2]
    assert target.panoptic.ids[0, 40] == 0
    (folder / "six.png").unlink()
    with pytest.raises(DataError, match=r"six\.png"):
        Dataset(tiny_copy, "val", task="semantic").target(1)


def test_dataset_reads_panoptic_maps(tiny_copy):
    with_info(tiny_copy, panoptic=True)
    ids = np.full((48, 64), 900, int)
    ids[:10] = 5
    entries = []
    for key, name in ((5, "five"), (6, "six")):
        write_panoptic(tiny_copy / "panoptic" / "val" / f"{name}.png", ids)
        segments = [{"id": 900, "category_id": 40, "iscrowd": 0}, {"id": 5, "category_id": 17, "iscrowd": 0}]
        entries.append({"image_id": key, "file_name": f"{name}.png", "segments_info": segments})
    path = tiny_copy / "panoptic" / "val.json"
    path.write_text(json.dumps({"annotations": entries}), encoding="utf-8")
    target = Dataset(tiny_copy, "val", task="panoptic").target(1)
    assert [(s.id, s.label) for s in target.panoptic.segments] == [(900, 2), (5, 1)]
    assert target.semantic[0, 0] == 1
    assert target.semantic[40, 0] == 2
    assert torch.equal(Dataset(tiny_copy, "val", task="semantic").target(1).semantic, target.semantic)
    path.write_text(json.dumps({"annotations": entries[:1]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"val\.json: image 6 .*has no entry"):
        Dataset(tiny_copy, "val", task="panoptic")
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="not a COCO panoptic file"):
        Dataset(tiny_copy, "val", task="panoptic")


def test_cocos_own_panoptic_sample(shared_data):
    folder = shared_data / "coco_panoptic_sample"
    data = json.loads((folder / "panoptic_examples.json").read_text(encoding="utf-8"))
    sizes = {i["id"]: (i["height"], i["width"]) for i in data["images"]}
    labels = {c["id"]: i for i, c in enumerate(data["categories"])}
    total = 0
    for entry in data["annotations"]:
        panoptic = views.read_panoptic(
            folder / "panoptic_examples" / entry["file_name"], entry["segments_info"], sizes[entry["image_id"]], labels
        )
        for segment, given in zip(panoptic.segments, entry["segments_info"], strict=True):
            assert int((panoptic.ids == segment.id).sum()) == given["area"]
        total += len(panoptic.segments)
    assert total == 50


@pytest.mark.parametrize("name", ["semantic", "panoptic"])
def test_label_maps_of_images_with_one_name_in_two_folders(tmp_path, name):
    """Photographs 1.png in two folders of one split: each keeps its own map, also after --fix."""
    if name == "semantic":
        for folder, value in (("x", 4), ("y", 9)):
            photo(tmp_path / "s/images/train" / folder / "1.png")
            picture(tmp_path / "s/annotations/train" / folder / "1.png", np.full((H, W), value, np.uint8))
        text(tmp_path / "s/legend.csv", "value,name,kind\n4,cat,stuff\n9,dog,stuff\n")
    else:
        content = {"images": [], "annotations": [], "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}]}
        for key, folder in ((4, "x"), (9, "y")):
            photo(tmp_path / "s/train" / folder / "1.png")
            content["images"].append({"id": key, "file_name": f"{folder}/1.png", "width": W, "height": H})
            picture(tmp_path / "s/panoptic_train" / folder / "1.png", np.full((H, W, 3), (key, 0, 0), np.uint8))
            segments = [{"id": key, "category_id": key, "iscrowd": 0}]
            content["annotations"].append({"image_id": key, "file_name": f"{folder}/1.png", "segments_info": segments})
        text(tmp_path / "s/panoptic_train.json", content)
    root = prepare(str(tmp_path / "s"), tmp_path / "out", split="train=1")
    for place in (root, prepare(str(root), tmp_path / "fixed", fix=True)):
        data = Dataset(place, task="semantic")
        assert [set(data.target(i).semantic.unique().tolist()) for i in range(2)] == [{0}, {1}]
        assert check(place).ok
