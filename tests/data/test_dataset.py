"""Reading a canonical folder: what is in it arrives exactly; what is wrong in it is named."""

import json
import unicodedata
import warnings

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tiny import edit

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.trust import grant
from segcli.data.annotations import encode
from segcli.data.dataset import Dataset
from segcli.data.image import read_image


def square(x1, y1, x2, y2):
    out = np.zeros((48, 64), bool)
    out[y1:y2, x1:x2] = True
    return out


def test_sizes_names_and_ids(tiny_dataset):
    data = Dataset(tiny_dataset, "train")
    assert len(data) == 4
    assert data.image_ids == [1, 2, 3, 4]
    assert data.file_names[1] == "두 번째 🐈.jpg"
    assert data.sizes == [(48, 64)] * 4
    assert len(Dataset(tiny_dataset)) == 6


def test_polygons_with_parts_become_one_mask(tiny_dataset):
    target = Dataset(tiny_dataset, "train").target(0)
    assert target.image_id == 1
    assert target.size == (48, 64)
    instances = target.instances
    assert instances.labels.tolist() == [0, 1]  # source ids 3 and 17
    assert instances.masks.dtype == torch.bool
    assert np.array_equal(instances.mask(0), square(10, 8, 30, 28))
    assert np.array_equal(instances.mask(1), square(36, 4, 46, 20) | square(50, 4, 60, 20))
    assert instances.boxes.tolist() == [[10, 8, 30, 28], [36, 4, 60, 20]]
    assert target.semantic is None
    assert target.panoptic is None


def test_uncompressed_and_compressed_rle(tiny_dataset):
    masks = Dataset(tiny_dataset, "train").target(1).instances
    assert np.array_equal(masks.mask(0), square(30, 5, 54, 25))
    ring = Dataset(tiny_dataset, "val").target(0).instances
    assert np.array_equal(ring.mask(0), square(20, 10, 50, 40) & ~square(30, 20, 40, 30))
    assert ring.boxes[0].tolist() == [20, 10, 50, 40]


def test_image_without_annotations_is_kept(tiny_dataset):
    sample = Dataset(tiny_dataset, "train").read(2)
    assert sample.image.shape == (48, 64, 3)
    assert len(sample.target.instances) == 0
    assert sample.target.instances.masks.shape == (0, 48, 64)


def test_crowd_stays_among_the_instances(tiny_dataset):
    instances = Dataset(tiny_dataset, "train").target(3).instances
    assert instances.crowd.tolist() == [True, False]
    assert instances.boxes[0].tolist() == [0, 30, 64, 48]


def test_image_and_masks_lie_on_each_other(tiny_dataset):
    sample = Dataset(tiny_dataset, "val").read(0)
    assert sample.file_name == "five.png"
    assert (sample.image[sample.target.instances.mask(0)] == [40, 90, 230]).all()
    assert (sample.image[sample.target.instances.mask(1)] == [220, 60, 40]).all()
    assert np.array_equal(sample.image, read_image(tiny_dataset / "images" / "five.png"))


def test_coco_masks_equal_pycocotools(shared_data, tmp_path):
    """Polygons with parts, crowd RLE and images without annotations of COCO itself."""
    folder = shared_data / "coco128"
    reference = COCO(str(folder / "annotations" / "instances_train2017.json"))
    raw = reference.dataset
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(raw), encoding="utf-8")
    categories = tuple(Category(c["name"], c["id"]) for c in raw["categories"])
    info = DatasetInfo("coco128", categories, {"train": 128}, image_root=str(folder / "train2017"))
    (tmp_path / "info.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
    grant(tmp_path, info.image_root, folder, trusted=False)
    data = Dataset(tmp_path, "train")
    assert len(data) == 128
    seen = 0
    for i in range(0, 128, 3):
        sample = data.read(i)
        wanted = reference.imgToAnns[data.image_ids[i]]
        assert len(sample.target.instances) == len(wanted)
        for k, annotation in enumerate(wanted):
            assert np.array_equal(sample.target.instances.mask(k), reference.annToMask(annotation).astype(bool))
            seen += 1
    assert seen > 200
    assert data.dropped == []


def test_coco_gives_contiguous_ids_and_the_same_masks(tiny_dataset):
    data = Dataset(tiny_dataset, "train")
    truth = data.coco()
    assert [c["id"] for c in truth["categories"]] == [1, 2]
    assert [a["id"] for a in truth["annotations"]] == list(range(1, 7))
    assert [i["id"] for i in truth["images"]] == [1, 2, 3, 4]
    json.dumps(truth)
    first = truth["annotations"][0]
    assert first["category_id"] == 1
    assert first["bbox"] == [10, 8, 20, 20]
    assert first["area"] == 400
    assert np.array_equal(coco_mask.decode(first["segmentation"]).astype(bool), square(10, 8, 30, 28))
    assert [a["iscrowd"] for a in truth["annotations"]] == [0, 0, 0, 0, 1, 0]


def test_linked_images_are_read_from_their_root(tiny_copy):
    (tiny_copy / "images").rename(tiny_copy.parent / "elsewhere 사진")
    info = json.loads((tiny_copy / "info.json").read_text(encoding="utf-8"))
    for root in ("../elsewhere 사진", str(tiny_copy.parent / "elsewhere 사진")):
        (tiny_copy / "info.json").write_text(json.dumps({**info, "image_root": root}), encoding="utf-8")
        with pytest.raises(DataError, match=r"image_root .* lies outside") as caught:
            Dataset(tiny_copy, "val")
        assert "--trust-paths" in caught.value.hint
        grant(tiny_copy, root, tiny_copy.parent / "elsewhere 사진", trusted=False)
        assert Dataset(tiny_copy, "val").image(1).shape == (48, 64, 3)


# --- splits


def test_split_file_divides_all_images_of_every_split(tiny_dataset, tmp_path):
    names = tmp_path / "val names.txt"
    names.write_text("\ufeffone image.png\n\nimages/두 번째 🐈\n# a note\nsix\n", encoding="utf-8")
    assert Dataset(tiny_dataset, "val", split_file=names).image_ids == [1, 2, 6]
    assert Dataset(tiny_dataset, "train", split_file=names).image_ids == [3, 4, 5]


def test_split_file_finds_decomposed_names(tiny_dataset, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text(unicodedata.normalize("NFD", "두 번째 🐈.jpg"), encoding="utf-8")  # as macOS writes it
    assert Dataset(tiny_dataset, "val", split_file=names).image_ids == [2]


def test_split_file_that_names_no_image(tiny_dataset, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("three.png\nseven.png\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"names\.txt, line 2: 'seven.png'"):
        Dataset(tiny_dataset, "val", split_file=names)
    with pytest.raises(UsageError, match="'test'"):
        Dataset(tiny_dataset, "test", split_file=names)
    with pytest.raises(DataError, match=r"gone\.txt"):
        Dataset(tiny_dataset, "val", split_file=tmp_path / "gone.txt")


def test_unknown_split_names_the_nearest(tiny_dataset):
    with pytest.raises(DataError, match="'vall'") as caught:
        Dataset(tiny_dataset, "vall")
    assert "'val'" in caught.value.hint


def test_empty_split_is_an_error(tiny_copy):
    edit(tiny_copy, "val", lambda d: d.update(images=[], annotations=[]))
    with pytest.raises(DataError, match="no image"):
        Dataset(tiny_copy, "val")


def test_missing_folder_and_missing_annotation_file(tiny_copy, tmp_path):
    with pytest.raises(DataError, match="not a prepared dataset"):
        Dataset(tmp_path / "nothing")
    (tiny_copy / "annotations" / "val.json").unlink()
    with pytest.raises(DataError, match=r"val\.json"):
        Dataset(tiny_copy, "val")


# --- what is wrong in the files


def first(key, value):
    def change(data):
        data["annotations"][0][key] = value

    return change


NAN = float("nan")
WRONG = {
    "image": (first("image_id", 99), "annotation 101: image id 99"),
    "category": (first("category_id", 4), "annotation 101: category id 4"),
    "box of NaN": (first("bbox", [1, NAN, 3, 4]), "annotation 101: bbox .* not finite"),
    "negative box": (first("bbox", [1, 1, -3, 4]), "annotation 101: .*negative"),
    "short box": (first("bbox", [1, 1, 3]), "annotation 101: bbox"),
    "text box": (first("bbox", ["1", 1, 3, 4]), "annotation 101: bbox"),
    "polygon of NaN": (first("segmentation", [[1, 2, 3, NAN, 5, 6]]), "annotation 101: .*not finite"),
    "odd polygon": (first("segmentation", [[1, 2, 3, 4, 5, 6, 7]]), "annotation 101: .*7 numbers"),
    "flat polygon": (first("segmentation", [1, 2, 3, 4, 5, 6]), "annotation 101: .*not a list"),
    "polygon in other units": (first("segmentation", [[1, 2, 1e7, 4, 5, 6]]), "annotation 101: .*far outside"),
    "RLE size": (first("segmentation", {"size": [64, 48], "counts": [3072]}), r"annotation 101: .*\[64, 48\]"),
    "RLE sum": (first("segmentation", {"size": [48, 64], "counts": [10, 20]}), "annotation 101: .*30 pixels of 3072"),
    "RLE negative": (first("segmentation", {"size": [48, 64], "counts": [-8, 3080]}), "annotation 101: .*counts"),
    "RLE without counts": (first("segmentation", {"size": [48, 64]}), "annotation 101: .*no counts"),
    "crowd of text": (first("iscrowd", "no"), "annotation 101: iscrowd 'no'"),
    "area of NaN": (first("area", NAN), "annotation 101: area"),
    "image id of a list": (first("image_id", [1]), r"annotation 101: image id \[1\]"),
    "no place": (lambda d: [d["annotations"][0].pop(k) for k in ("bbox", "segmentation")], "annotation 101: neither"),
    "image twice": (lambda d: d["images"].append(d["images"][0]), "image id 1 stands twice"),
    "image id of text": (lambda d: d["images"][0].update(id="1"), "id '1' is not a whole number"),
    "image of no size": (lambda d: d["images"][0].update(width=0), "image 1 .*width 0"),
    "image of no name": (lambda d: d["images"][0].pop("file_name"), "file_name is missing"),
    "no list": (lambda d: d.pop("annotations"), "no list 'annotations'"),
    "list of numbers": (lambda d: d["annotations"].append(3), "annotations must hold objects, not 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_inconsistency_names_file_and_annotation(tiny_copy, case):
    change, message = WRONG[case]
    edit(tiny_copy, "train", change)
    with pytest.raises(DataError, match=message) as caught:
        Dataset(tiny_copy, "train")
    assert "train.json" in str(caught.value)


def test_further_problems_are_counted(tiny_copy):
    edit(tiny_copy, "train", lambda d: [a.update(category_id=5) for a in d["annotations"]])
    with pytest.raises(DataError, match=r"annotation 101: .* \(and 5 more"):
        Dataset(tiny_copy, "train")


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", "\xff\xfe"])
def test_broken_json(tiny_copy, text):
    (tiny_copy / "annotations" / "train.json").write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=r"train\.json"):
        Dataset(tiny_copy, "train")


@pytest.mark.parametrize("counts", ["PeQ3", "abc", "o0", "\x7f\x7f", "000000000000000000001"])
def test_a_compressed_rle_that_does_not_fill_its_image(tiny_copy, counts):
    """pycocotools would return uninitialised memory for some of these."""
    edit(tiny_copy, "train", first("segmentation", {"size": [48, 64], "counts": counts}))
    with pytest.raises(DataError, match=r"train\.json: annotation 101: its RLE (covers|can't be decoded)"):
        Dataset(tiny_copy, "train")


def test_one_image_id_in_two_splits(tiny_copy):
    def renumber(data):
        data["images"][0]["id"] = 1
        data["annotations"] = []

    edit(tiny_copy, "val", renumber)
    with pytest.raises(DataError, match=r"image id 1 is one image\.png .*five\.png"):
        Dataset(tiny_copy)
    assert len(Dataset(tiny_copy, "val")) == 2


def test_masks_without_a_pixel_are_left_out_counted_and_said_once(tiny_copy):
    def empty_two(data):
        data["annotations"][0]["segmentation"] = [[10, 10, 12, 12]]  # a line
        data["annotations"][5]["segmentation"] = [[70.0, 50, 90, 50, 90, 70]]  # outside

    edit(tiny_copy, "train", empty_two)
    data = Dataset(tiny_copy, "train")
    with pytest.warns(UserWarning, match="annotation 101 .*covers no pixel"):
        assert data.target(0).instances.labels.tolist() == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # said once
        assert data.target(3).instances.crowd.tolist() == [True]
        data.target(0)
    assert data.dropped == [101, 106]
    assert len(data.coco()["annotations"]) == 4


def test_polygons_and_boxes_are_cut_at_the_border(tiny_copy):
    edit(tiny_copy, "train", first("segmentation", [[-20, -20, 30, -20, 30, 30, -20, 30]]))
    box = Dataset(tiny_copy, "train").target(0).instances.boxes[0].tolist()
    assert box == [0, 0, 30, 30]


def test_boxes_alone_serve_detection_and_not_instances(tiny_copy):
    def boxes_only(data):
        for annotation in data["annotations"]:
            annotation.pop("segmentation")
        data["annotations"][0]["bbox"] = [-5, 4, 20, 100]
        data["annotations"][1]["bbox"] = [70, 4, 20, 10]  # outside

    edit(tiny_copy, "train", boxes_only)
    with pytest.raises(DataError, match=r"annotation 101 .*6 in all.*'instance' needs masks"):
        Dataset(tiny_copy, "train")
    data = Dataset(tiny_copy, "train", task="detection")
    with pytest.warns(UserWarning, match="102"):
        instances = data.target(0).instances
    assert instances.masks is None
    assert instances.boxes.tolist() == [[0, 4, 15, 48]]
    assert "segmentation" not in data.coco()["annotations"][0]


def test_an_image_of_another_size_than_annotated(tiny_copy):
    path = tiny_copy / "images" / "three.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((64, 48, 3), np.uint8))[1].tobytes())
    data = Dataset(tiny_copy, "train")
    with pytest.raises(DataError, match=r"three\.png: the image is 48 x 64, .*64 x 48") as caught:
        data.read(2)
    assert "EXIF" in caught.value.hint


def test_missing_image_is_an_error_when_it_is_needed(tiny_copy):
    (tiny_copy / "images" / "three.png").unlink()
    data = Dataset(tiny_copy, "train")
    assert len(data.target(2).instances) == 0
    with pytest.raises(DataError, match=r"three\.png"):
        data.read(2)


# --- fields


class Names:
    """A per-instance field that remembers annotation ids."""

    def __init__(self, ids):
        self.ids = np.asarray(ids)

    @classmethod
    def read(cls, annotations, origin):
        assert origin.info.names == ["cat", "dog"]
        return cls([a["id"] for a in annotations])

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return Names(self.ids[np.asarray(index)])


def test_fields_are_read_from_the_annotations_that_are_kept(tiny_copy):
    edit(tiny_copy, "train", first("segmentation", [[10, 10, 12, 12]]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = Dataset(tiny_copy, "train", fields={"names": Names}).target(0)
    assert target.instances.fields["names"].ids.tolist() == [102]


def test_stuff_regions_are_no_instances(tiny_copy):
    info = DatasetInfo("tiny", (Category("cat", 3), Category("grass", 17, thing=False)), {"train": 4, "val": 2})
    (tiny_copy / "info.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
    data = Dataset(tiny_copy, "train", task="semantic")
    assert data.target(0).instances.labels.tolist() == [0]
    assert {a["category_id"] for a in data.coco()["annotations"]} == {1}
    assert sorted(np.unique(data.target(0).semantic)) == [0, 1, 255]


def test_any_json_is_read_or_refused_never_a_crash(tiny_copy):
    """Random damage to a valid file: a target, or an error of ours."""
    path = tiny_copy / "annotations" / "train.json"
    original = path.read_text(encoding="utf-8")
    rng = np.random.default_rng(0)
    values = [None, -1, 1e300, "x", [], {}, True, [[]], [[1, 2, 3, 4, 5, 6]], {"size": [48, 64], "counts": "0"}]
    refused = 0
    for _ in range(150):
        data = json.loads(original)
        item = data[("images", "annotations")[rng.integers(2)]]
        item = item[rng.integers(len(item))]
        key = sorted(item)[rng.integers(len(item))]
        item[key] = values[rng.integers(len(values))]
        path.write_text(json.dumps(data), encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                loaded = Dataset(tiny_copy, "train")
                for i in range(len(loaded)):
                    loaded.target(i)
                loaded.coco()
            except SegcliError:
                refused += 1
    assert 50 < refused < 150


def test_encode_joins_parts_as_pycocotools_does():
    parts = [[5, 5, 30, 5, 30, 30, 5, 30], [20, 20, 40, 20, 40, 40, 20, 40]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, 48, 64)))
    assert np.array_equal(coco_mask.decode(encode(parts, (48, 64))), expected)
    assert coco_mask.area(encode([[3, 4, 10, 10]], (48, 64))) == 0  # four numbers are not a box here
