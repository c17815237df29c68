"""What is said of a dataset is true of it, and the advice follows."""

import pytest

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.doctor.advice import advise, recipe_for
from segcli.doctor.statistics import measure

INFO = DatasetInfo("d", (Category("cat", 3), Category("dog", 17)), {"train": 2})


def coco(per_image=1, side=40.0, images=2, width=640, height=480):
    return {
        "images": [{"id": i, "width": width, "height": height} for i in range(images)],
        "annotations": [
            {
                **{"image_id": i, "category_id": 3, "bbox": [0, 0, side, side / 2], "area": side * side},
                "segmentation": [[0, 0, side, 0, side, side]],
            }
            for i in range(images)
            for _ in range(per_image)
        ],
    }


def measured(data, info=INFO):
    own = {image["id"]: [a for a in data["annotations"] if a["image_id"] == image["id"]] for image in data["images"]}
    return measure(((image, own[image["id"]]) for image in data["images"]), info)


def advice(**settings):
    found = advise({"train": measured(coco(**settings))}, INFO)
    return {a["topic"]: (a["advice"], a["why"]) for a in found}


def test_measure():
    data = coco()
    data["annotations"] += [
        {"image_id": 0, "category_id": 17, "bbox": [0, 0, 10, 20]},
        {"image_id": 0, "category_id": 17, "bbox": [0, 0, 100, 100], "area": 10000, "iscrowd": 1},
        {"image_id": 1, "category_id": 17, "bbox": [0, 0, 200, 200], "area": 40000},
    ]
    data["images"].append({"id": 7, "width": 100, "height": 900})
    facts = measured(data)
    assert (facts["images"], facts["objects"], facts["crowd"], facts["without_objects"]) == (3, 5, 1, 1)
    assert facts["per_class"] == {"cat": 2, "dog": 3}
    assert facts["objects_per_image"]["max"] == 2
    assert facts["objects_per_image"]["mean"] == 1.33
    assert facts["sizes"] == {"small": 1, "medium": 2, "large": 1}
    assert facts["extent"][2] == 40
    assert facts["share"][2] == 40 / 640
    assert facts["aspect"][2] == 1.5
    assert facts["without_mask"] == 2  # the crowd aside
    assert facts["image_width"][2] == 640


def test_an_empty_split():
    facts = measured({"images": [], "annotations": []})
    assert facts["objects"] == 0
    assert facts["extent"] == facts["image_width"] == []
    assert advise({"train": facts}, INFO) == []
    assert advise({}, INFO) == []


@pytest.mark.parametrize(
    ("side", "size", "word"),
    [(200, 320, "64"), (20, 512, "512"), (2, 1333, "tiles")],
)
def test_input_size(side, size, word):
    """Objects of 1/32 of an image need 512 pixels to be 16 long."""
    said, why = advice(side=side)["input size"]
    assert said == f"data.size: {size}"
    assert word in why or str(size) in why


def test_counts_and_family():
    few = advice(per_image=5)
    assert few["detections"][0] == "eval.max_detections: 100"
    assert few["queries"][0] == "model.queries: 20"
    assert few["detections"][1].endswith("and that is the default")
    assert "custom/mask_rcnn" in few["family"][0]
    assert "2 training images are few" in few["family"][1]
    many = advice(per_image=170)
    assert many["detections"][0] == "eval.max_detections: 250"
    assert many["queries"][0] == "model.queries: 260"
    assert "many_small" in many["family"][0]
    assert "detr" in advice(images=1200)["family"][0]


def test_anchors():
    assert "standard" in advice(side=100)["anchors"][0]
    assert "lite" in advice(side=3)["anchors"][0]


def test_label_maps_alone():
    info = DatasetInfo("d", (Category("road", 0, thing=False),), {"train": 1}, semantic=True)
    facts = measured({"images": [{"id": 0, "width": 9, "height": 9}], "annotations": []}, info)
    assert [a["topic"] for a in advise({"train": facts}, info)] == ["family"]
    assert recipe_for({"train": facts}, info) == "custom/fcn"


def test_without_area_and_box_the_mask_is_measured():
    data = coco(per_image=0)
    square = [[0, 0, 40, 0, 40, 40, 0, 40]]
    data["annotations"] = [{"image_id": 0, "category_id": 3, "segmentation": square}]
    facts = measured(data)
    assert facts["extent"][2] == 40
    assert facts["aspect"][2] == 1
    assert facts["sizes"] == {"small": 0, "medium": 1, "large": 0}


def test_the_recipe_fits_the_labels():
    assert recipe_for({"train": measured(coco())}, INFO) == "custom/mask_rcnn"
    assert recipe_for({"train": measured(coco(per_image=170))}, INFO) == "custom/mask_rcnn_many_small"
    boxes = coco()
    for annotation in boxes["annotations"]:
        del annotation["segmentation"]
    assert recipe_for({"train": measured(boxes)}, INFO) == "custom/faster_rcnn"
    said = {a["topic"]: a for a in advise({"train": measured(boxes)}, INFO)}["family"]
    assert "custom/faster_rcnn" in said["advice"]
    assert "2 objects have a box and no mask" in said["why"]
    cat, dog = Category("cat", 3, keypoints=("nose",)), Category("dog", 17)
    for categories, recipe in (((cat,), "custom/keypoint_rcnn"), ((cat, dog), "custom/mask_rcnn")):
        info = DatasetInfo("d", categories, {"train": 2})
        assert recipe_for({"train": measured(coco(), info)}, info) == recipe
