"""Boxes as corners or centres, x and y exchanged, parts of the image's sides: all load as COCO, and lie elsewhere.

prepare and the doctor refuse them, --fix gives them their place; the labels that come out are held against the truth.
"""

import json

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import diagnose, prepare
from segcli.core.errors import DataError
from segcli.data.annotations import load
from segcli.doctor.check import check

H, W = 40, 64
IMAGES = 8


def boxes(i):
    """x, y, width, height of the two objects of image i: one near the right end, one near the left."""
    return [[45 + i, 21 + i, 12, 9], [3 + i, 5, 14, 6 + i]]


def polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def source(root, change, splits=("all",), mask=True):
    for split in splits:
        data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "leaf"}]}
        for i in range(IMAGES):
            path = root / split / f"{split}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = i + 100 * splits.index(split)
            Image.fromarray(np.random.default_rng(seed).integers(0, 255, (H, W, 3)).astype(np.uint8)).save(path)
            data["images"].append({"id": seed, "file_name": path.name, "width": W, "height": H})
            for box in boxes(i):
                one = {"id": len(data["annotations"]) + 1 + 1000 * seed, "image_id": seed, "category_id": 1}
                one |= {"iscrowd": 0, "bbox": box, "area": box[2] * box[3]}
                one |= {"segmentation": [polygon(box)]} if mask else {}
                data["annotations"].append(change(one, split))
        (root / split / "labels.json").write_text(json.dumps(data), encoding="utf-8")
    return str(root / "all") if splits == ("all",) else str(root)


def corners(one, split):
    x, y, w, h = one["bbox"]
    return {**one, "bbox": [x, y, x + w, y + h]}


def centres(one, split):
    x, y, w, h = one["bbox"]
    return {**one, "bbox": [x + w / 2, y + h / 2, w, h]}


def exchanged(one, split):
    x, y, w, h = one["bbox"]
    parts = {"segmentation": [polygon([y, x, h, w])]} if "segmentation" in one else {}
    return {**one, "bbox": [y, x, h, w], **parts}


def mask_exchanged(one, split):
    return {**exchanged(one, split), "bbox": one["bbox"]}


def shares(one, split):
    x, y, w, h = one["bbox"]
    part = [v / (W, H)[i % 2] for i, v in enumerate(polygon(one["bbox"]))]
    parts = {"segmentation": [part]} if "segmentation" in one else {}
    return {**one, "bbox": [x / W, y / H, w / W, h / H], **parts}


def shares_of_masks(one, split):
    return {**shares(one, split), "bbox": one["bbox"]}


def assert_true(root):
    """The boxes of the prepared folder, of masks where there are some, are those that were meant."""
    for split in ("train", "val"):
        images, annotations = load(root / "annotations" / f"{split}.json")
        names = {image["id"]: image["file_name"] for image in images}
        for i, name in names.items():
            own = [a for a in annotations if a["image_id"] == i]
            found = []
            for one in own:
                found.append(one["bbox"])
                if one.get("segmentation"):
                    points = np.reshape(one["segmentation"][0], (-1, 2))
                    assert [*points.min(0), *np.ptp(points, axis=0)] == pytest.approx(one["bbox"], abs=1e-6)
            wanted = boxes(int(name[-5]))
            assert np.array(sorted(found)) == pytest.approx(np.array(sorted(wanted)), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "mask", "said"),
    [
        (corners, False, "corners"),
        (centres, False, "centre"),
        (exchanged, False, "change places"),
        (exchanged, True, "change places"),
        (mask_exchanged, True, "change places"),
        (shares, True, "from 0 to 1"),
        (shares_of_masks, True, "from 0 to 1"),
    ],
)
def test_other_coordinates_are_refused_found_and_mended(tmp_path, change, mask, said):
    path = source(tmp_path / "in", change, mask=mask)
    with pytest.raises(DataError, match=said) as error:
        prepare(path, tmp_path / "out")
    assert "--fix" in error.value.hint
    assert not (tmp_path / "out").exists()
    assert "coordinates" in {f.code for f in diagnose(path).findings if f.severity == "error"}
    fixed = prepare(path, tmp_path / "fixed", fix=True)
    assert_true(fixed)
    assert check(fixed).ok


def test_boxes_of_shares_could_mean_three_things_and_are_refused_even_by_fix(tmp_path):
    path = source(tmp_path / "in", shares, mask=False)
    for fix in (False, True):
        with pytest.raises(DataError, match="from 0 to 1"):
            prepare(path, tmp_path / "out", fix=fix)


def larger_polygons(one, split):
    return {**one, "segmentation": [[4 * v + 60 for v in polygon(one["bbox"])]]}


def larger(one, split):
    box = [4 * v for v in one["bbox"]]
    return {**one, "bbox": box} | ({"segmentation": [polygon(box)]} if "segmentation" in one else {})


@pytest.mark.parametrize(
    ("change", "mask", "said"),
    [
        (larger_polygons, True, "polygons lie outside of their boxes"),
        (larger, True, "have their middle outside of their images"),
        (larger, False, "have their middle outside of their images"),
    ],
)
def test_labels_of_another_size_of_the_images_are_refused_even_by_fix(tmp_path, change, mask, said):
    path = source(tmp_path / "in", change, mask=mask)
    for fix in (False, True):
        with pytest.raises(DataError, match=said):
            prepare(path, tmp_path / "out", fix=fix)
    assert "coordinates" in {f.code for f in diagnose(path).findings if f.severity == "error"}


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [0.1, 0.1, 0.2, 0.2], [60, 2, 0, 5]])
def test_boxes_that_say_nothing_beside_polygons_do_not_lie_apart(tmp_path, box):
    """Exports of masks alone leave them so; the masks say where objects are."""
    prepare(source(tmp_path / "in", lambda one, split: {**one, "bbox": box}), tmp_path / "out")


@pytest.mark.parametrize("change", [larger_polygons, larger])
def test_a_third_of_the_labels_elsewhere_is_no_other_size(tmp_path, change):
    some = lambda one, split: change(one, split) if one["id"] % 1000 % 3 == 1 else one
    prepare(source(tmp_path / "in", some), tmp_path / "out")


@pytest.mark.parametrize("mask", [True, False])
def test_one_split_of_two_in_another_way_is_found_and_it_alone_is_mended(tmp_path, mask):
    change = lambda one, split: exchanged(one, split) if split == "val" else one
    path = source(tmp_path / "in", change, ("train", "val"), mask)
    with pytest.raises(DataError, match="in, val"):
        prepare(path, tmp_path / "out")
    assert_true(prepare(path, tmp_path / "fixed", fix=True))


def test_a_split_too_small_to_tell_goes_with_the_other(tmp_path):
    path = source(tmp_path / "in", corners, ("train", "val"), False)
    file = tmp_path / "in" / "val" / "labels.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["annotations"] = data["annotations"][:2]
    data["images"] = data["images"][:1]
    file.write_text(json.dumps(data), encoding="utf-8")
    assert_true(prepare(path, tmp_path / "fixed", fix=True))


@pytest.mark.parametrize("mask", [True, False])
def test_coco_itself_and_a_few_boxes_over_the_border_are_no_other_way(tmp_path, mask):
    def over(one, split):
        x, y, w, h = one["bbox"]
        return {**one, "bbox": [x, y, w + 30, h]} if one["id"] % 1000 == 1 else one

    prepare(source(tmp_path / "in", over, mask=mask), tmp_path / "out")
