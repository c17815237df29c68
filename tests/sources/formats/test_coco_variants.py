"""LVIS, LIVECell, SA-1B and Roboflow's COCO: what differs from COCO's own files."""

import json

import numpy as np
import pytest
from public_sets import sa1b
from sources import SCENE, SPLIT, H, W, masks_of, photo, text

from segcli.commands.prepare import describe, prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data import index
from segcli.sources.detection import detect

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


def annotations(key, name):
    for category, (x1, y1, x2, y2) in zip((3, 7), SCENE[name].values(), strict=True):
        one = {"id": key * 10 + category, "image_id": key, "category_id": category, "area": (x2 - x1) * (y2 - y1)}
        yield one | {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}


def expect_scene(root, names=("cat", "dog")):
    found = masks_of(root)
    assert found.keys() == SCENE.keys()
    for image, objects in found.items():
        for (name, mask), wanted, (x1, y1, x2, y2) in zip(objects, names, SCENE[image].values(), strict=True):
            box = np.zeros((H, W), bool)
            box[y1:y2, x1:x2] = True
            assert name == wanted
            assert (mask == box).all()


def lvis(root):
    """LVIS v1: a name is in the address alone, of images of two of COCO's folders; no iscrowd."""
    content = {"images": [], "annotations": [], "categories": [{**c, "frequency": "r"} for c in CATEGORIES]}
    for key, name in enumerate(SCENE):
        folder = "val2017" if SPLIT[name] == "val" else "train2017"
        photo(root / folder / f"{name}.png")
        image = {"id": key, "coco_url": f"http://images.cocodataset.org/{folder}/{name}.png", "width": W, "height": H}
        content["images"].append({**image, "neg_category_ids": [3], "not_exhaustive_category_ids": [7]})
        content["annotations"] += annotations(key, name)
    return text(root / "lvis_v1_val.json", content).parent


def test_lvis_names_images_by_their_address(tmp_path):
    assert detect(lvis(tmp_path / "in")) == "coco"
    root = prepare(str(tmp_path / "in"), tmp_path / "out", split="train=0.5,val=0.5")
    expect_scene(root)
    extra = [
        image
        for split in DatasetInfo.load(root).splits
        for image, _ in index.walk(root / "annotations" / f"{split}.json")
    ]
    assert all(image["neg_category_ids"] == [3] for image in extra)


def test_an_address_alone_whose_image_is_not_there_is_refused(tmp_path):
    lvis(tmp_path / "in")
    for name in SCENE:
        for file in (tmp_path / "in").rglob(f"{name}.png"):
            file.unlink()
    with pytest.raises(DataError, match=r"lvis_v1_val\.json: its images"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def test_annotations_by_their_ids_are_read(tmp_path):
    """LIVECell's files of one cell type have an object in place of the list."""
    content = {"images": [], "annotations": {}, "categories": CATEGORIES}
    for key, name in enumerate(SCENE, 1):
        photo(tmp_path / "in" / "images" / f"{name}.png")
        content["images"].append({"id": key, "file_name": f"{name}.png", "width": W, "height": H})
        content["annotations"] |= {str(one["id"]): one for one in annotations(key, name)}
    text(tmp_path / "in" / "train.json", content)
    expect_scene(prepare(str(tmp_path / "in"), tmp_path / "out"))
    for broken in ({}, {"1": 2}):
        text(tmp_path / "in" / "train.json", {**content, "annotations": broken})
        with pytest.raises(DataError, match=r"train\.json"):
            prepare(str(tmp_path / "in"), tmp_path / f"out{len(broken)}")


def test_livecell_is_read_as_it_is_downloaded(tmp_path):
    root = tmp_path / "in"
    for cell in ("a172", "bv2"):
        content = {"images": [], "annotations": {}, "categories": CATEGORIES}
        for key, name in enumerate(SCENE):
            photo(root / "images/livecell_train_val_images" / cell.upper() / f"{cell}_{name}.png")
            content["images"].append({"id": key, "file_name": f"{cell}_{name}.png", "width": W, "height": H})
            content["annotations"] |= {str(one["id"]): one for one in annotations(key, name)}
        text(root / "annotations/LIVECell_single_cells" / cell / "train.json", content)
    with pytest.raises(DataError, match="holds several COCO datasets") as caught:
        prepare(str(root), tmp_path / "out")
    assert "--set labels=LIVECell_single_cells/a172" in caught.value.hint
    out = prepare(str(root), tmp_path / "out", settings={"labels": "LIVECell_single_cells/bv2"})
    assert masks_of(out).keys() == {f"bv2_{name}" for name in SCENE}


def test_a_root_called_as_its_only_class_is_left_aside(tmp_path):
    """Roboflow's root bears the project's name, which may be that of a class."""
    content = {"images": [], "annotations": []}
    content["categories"] = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 3, "name": "cat", "supercategory": "cat"},
        {"id": 7, "name": "dog", "supercategory": "cat"},
    ]
    for key, name in enumerate(SCENE):
        photo(tmp_path / "in/train" / f"{name}.png")
        content["images"].append({"id": key, "file_name": f"{name}.png", "width": W, "height": H})
        content["annotations"] += annotations(key, name)
    file = text(tmp_path / "in/train/_annotations.coco.json", content)
    text(tmp_path / "in/test/_annotations.coco.json", {**content, "images": [], "annotations": []})
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    expect_scene(root)
    notes = describe(root)["notes"]
    assert any("category 0 (cat) is left aside" in note for note in notes)
    assert any("the split test is empty" in note for note in notes)
    content["annotations"][0]["category_id"] = 0  # then it is a class, and which one is not to be known
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="categories 0 and 3 are both called 'cat'"):
        prepare(str(tmp_path / "in"), tmp_path / "out2")


def test_sa1b_is_a_json_an_image(tmp_path):
    sa1b(tmp_path / "in")
    assert detect(tmp_path / "in") == "sa1b"
    root = prepare(str(tmp_path / "in"), tmp_path / "out", settings={"category": "thing"})
    found = masks_of(root)
    assert {name: len(objects) for name, objects in found.items()} == dict.fromkeys(SCENE, 2)
    assert all(np.count_nonzero(mask) > 47 for objects in found.values() for _, mask in objects)
    assert DatasetInfo.load(root).names == ["thing"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["image"].pop("file_name"), r"train/a\.json: image\.file_name: field required"),
        (lambda d: d.update(annotations=[1]), r"train/a\.json: annotations\.0"),
        (lambda d: d["annotations"][0].update(category_id=4), r"train/a\.json: annotation 0 has a category"),
        (lambda d: d["image"].update(file_name="../../secret.png"), r"secret\.png"),
    ],
)
def test_a_broken_sa1b_file_is_refused_by_name(tmp_path, change, said):
    sa1b(tmp_path / "in")
    file = tmp_path / "in/train/a.json"
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        prepare(str(tmp_path / "in"), tmp_path / "out")
