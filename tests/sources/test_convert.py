"""Sources as people have them become the same canonical folder: nothing lost, nothing guessed."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset
from segcli.sources.formats import coco, masks
from segcli.sources.mask_meaning import mask_files as files


def picture(path: Path, size=(64, 48), mode="RGB") -> Path:
    """A random image file of (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8), mode=None).convert(mode).save(path)
    return path


def square(x, y, side=10):
    return [float(v) for v in (x, y, x + side, y, x + side, y + side, x, y + side)]


def annotation(key, image, category=7, segmentation=None, **more):
    return {
        "id": key,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation or [square(5, 5)],
        **more,
    }


def write_coco(path: Path, names, annotations=(), categories=((7, "cat"), (3, "dog")), **image) -> Path:
    """A COCO file whose image ids are 10, 20, …"""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 10 * (i + 1), "file_name": n, "width": 64, "height": 48, **image} for i, n in enumerate(names)]
    content = {
        "images": images,
        "annotations": list(annotations),
        "categories": [{"id": key, "name": name} for key, name in categories],
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def read(root, split=None):
    data = Dataset(root, split)
    return {Path(name).name: i for i, name in enumerate(data.file_names)}, data


# --- COCO ---------------------------------------------------------------------------------------------------------


def test_coco_forms_of_masks(tmp_path):
    """Parts, both RLEs, a crowd, id gaps and a bare image arrive pixel by pixel; source ids stay known."""
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[10:30, 20:50], mask[15:20, 30:40] = 1, 0  # a ring
    packed = coco_mask.encode(mask)
    counts = np.diff(np.flatnonzero(np.diff(np.r_[2, mask.ravel(order="F"), 2]))).tolist()
    annotations = [
        annotation(5, 10, segmentation=[square(2, 2), square(30, 30)]),
        annotation(900, 10, 3, {"size": [48, 64], "counts": packed["counts"].decode()}),
        annotation(901, 30, 3, {"size": [48, 64], "counts": counts}, iscrowd=1, keypoints=[1, 2, 2], num_keypoints=1),
    ]
    write_coco(tmp_path / "photos/labels.json", ["a.jpg", "b.jpg", "c.jpg"], annotations)
    for name in "abc":
        picture(tmp_path / "photos/images" / f"{name}.jpg")
    root = prepare(str(tmp_path / "photos"), tmp_path / "out", split="train=0.5,val=0.5")
    where, data = read(root)
    assert data.info.names == ["dog", "cat"]
    assert data.info.source_ids == [3, 7]
    assert sorted(data.image_ids) == [10, 20, 30]
    first = data.target(where["a.jpg"]).instances
    assert first.labels.tolist() == [1, 0]
    assert int(first.masks[0].sum()) == 200
    assert (first.masks[1].numpy() == mask.astype(bool)).all()
    third = data.target(where["c.jpg"]).instances
    assert third.crowd.tolist() == [True]
    assert (third.masks[0].numpy() == mask.astype(bool)).all()
    assert data.annotations(where["c.jpg"])[0]["keypoints"] == [1, 2, 2]
    assert len(data.target(where["b.jpg"]).instances) == 0


def test_coco_keeps_its_own_splits(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / f"annotations/instances_{split}2017.json", [f"{split}.jpg"], [annotation(1, 10)])
        picture(tmp_path / f"{split}2017" / f"{split}.jpg")
    write_coco(tmp_path / "annotations/person_keypoints_train2017.json", ["train.jpg"])
    root = prepare(str(tmp_path), tmp_path / "out")
    assert Dataset(root, "train").file_names == ["train2017/train.jpg"]
    assert Dataset(root, "val").file_names == ["val2017/val.jpg"]
    both = Dataset(root)  # ids that both files use are made unique
    assert len(set(both.image_ids)) == 2
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert any("person_keypoints_train2017.json" in note for note in notes)
    assert any("image ids were used twice" in note for note in notes)


def test_roboflow_layout(tmp_path):
    for split in ("train", "valid", "test"):
        write_coco(tmp_path / split / "_annotations.coco.json", [f"{split}.jpg"], [annotation(1, 10)])
        picture(tmp_path / split / f"{split}.jpg")
    root = prepare(str(tmp_path), tmp_path / "out")
    assert {s: Dataset(root, s).file_names for s in ("train", "val", "test")} == {
        "train": ["train/train.jpg"],
        "val": ["valid/valid.jpg"],
        "test": ["test/test.jpg"],
    }


@pytest.mark.parametrize("place", ["", "images", "../images", "../../elsewhere/deep"])
def test_images_are_found(tmp_path, place):
    source = tmp_path / "set"
    file = write_coco(source / "a/labels.json", ["one.jpg", "sub/두 개 🐈.jpg"], [annotation(1, 10)])
    folder = (file.parent / place) if "elsewhere" not in place else source / "elsewhere/deep"
    picture(folder / "one.jpg")
    picture(folder / "sub" / "두 개 🐈.jpg")
    draft = coco.build(
        path=file if "elsewhere" not in place else file.parent, images=str(folder) if "deep" in place else None
    )
    assert all(entry.path.is_file() for entry in draft.splits["all"])


def test_windows_paths_and_other_folders_in_names(tmp_path):
    write_coco(tmp_path / "labels.json", ["C:\\photos\\one.jpg", "C:\\photos\\two.jpg"])
    for name in ("one.jpg", "two.jpg"):
        picture(tmp_path / "img" / name)
    assert [e.file_name for e in coco.build(path=tmp_path).splits["all"]] == ["one.jpg", "two.jpg"]


def test_decomposed_names(tmp_path):
    """The json says 한 as one character, the disk (from a Mac) as three."""
    write_coco(tmp_path / "labels.json", [unicodedata.normalize("NFC", "한글.jpg")])
    picture(tmp_path / "images" / unicodedata.normalize("NFD", "한글.jpg"))
    assert coco.build(path=tmp_path).splits["all"][0].path.is_file()


def test_missing_images_are_named(tmp_path):
    write_coco(tmp_path / "labels.json", ["here.jpg", "gone.jpg"])
    with pytest.raises(DataError, match=r"here\.jpg") as caught:
        coco.build(path=tmp_path)
    assert "images" in caught.value.hint
    picture(tmp_path / "images/here.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg: the image file is missing$"):
        prepare(str(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_said(tmp_path):
    annotations = [annotation(1, 10), annotation(2, 555), annotation(1, 20)]
    file = write_coco(tmp_path / "labels.json", ["a.jpg", "b.jpg"], annotations)
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    root = prepare(str(file), tmp_path / "out")
    notes = " | ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])
    assert "1 annotations of images that are not listed are left out: 2" in notes
    assert "1 annotation ids were used twice" in notes


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (annotation(4, 10, 99), "category id 99"),
        (annotation(4, 10, segmentation=[[1.0, 2.0, 3.0]]), "not pairs"),
        (annotation(4, 10, segmentation={"size": [10, 10], "counts": [100]}), "RLE has the size"),
        (annotation(4, 10, bbox=[1, 2, -3, 4]), "negative size"),
    ],
)
def test_broken_annotations_are_refused_with_their_place(tmp_path, broken, said):
    write_coco(tmp_path / "labels.json", ["a.jpg", "b.jpg"], [broken])
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    with pytest.raises(DataError, match=said) as caught:
        prepare(str(tmp_path), tmp_path / "out")
    assert "a.jpg" in str(caught.value)
    assert "annotation 4" in str(caught.value)
    assert "--check" in caught.value.hint


def test_contradictory_categories(tmp_path):
    for split, name in (("train", "cat"), ("val", "dog")):
        write_coco(tmp_path / f"{split}.json", [f"{split}.jpg"], categories=((1, name),))
        picture(tmp_path / f"{split}.jpg")
    with pytest.raises(DataError, match="'dog' here and 'cat'"):
        prepare(str(tmp_path), tmp_path / "out")


def test_keypoints_and_stuff_are_declared(tmp_path):
    file = write_coco(tmp_path / "labels.json", ["a.jpg"])
    content = json.loads(file.read_text("utf-8"))
    content["categories"] = [
        {"id": 1, "name": "sky", "isthing": 0},
        {"id": 4, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]},
    ]
    file.write_text(json.dumps(content), encoding="utf-8")
    picture(tmp_path / "a.jpg")
    person, sky = coco.build(path=file).info.categories
    assert (person.name, person.skeleton, person.flip_pairs) == ("person", ((0, 1), (0, 2)), ((1, 2),))
    assert (sky.name, sky.thing) == ("sky", False)


def test_sizes_come_from_the_image_where_the_json_has_none(tmp_path):
    file = write_coco(tmp_path / "labels.json", ["a.jpg"], width=None, height=None)
    picture(tmp_path / "a.jpg", (30, 20))
    found = coco.build(path=file)
    assert next(found.records(found.splits["all"])).size == (20, 30)


@pytest.mark.parametrize(("image", "there"), [(10.0, True), ("10", True), ("ten", False)])
def test_image_ids_of_another_kind(tmp_path, image, there):
    """10.0, as pandas writes it, is 10, and so is "10" where no image is called so; else nothing would be left."""
    write_coco(tmp_path / "train.json", ["a.jpg"], [annotation(1, image), annotation(2, image)])
    picture(tmp_path / "a.jpg")
    if there:
        draft = coco.build(path=tmp_path)
        assert len(next(draft.records(draft.splits["train"])).annotations) == 2
        assert any("2 annotations name their image as text" in note for note in draft.notes) == (image == "10")
        return
    with pytest.raises(DataError, match=r"train\.json: none of its 2 annotations .*image_id 'ten'; .* 10\)"):
        coco.build(path=tmp_path)


def test_several_datasets_in_one_folder(tmp_path):
    write_coco(tmp_path / "cats.json", ["a.jpg"])
    write_coco(tmp_path / "dogs.json", ["a.jpg"])
    with pytest.raises(DataError, match=r"cats\.json, dogs\.json"):
        coco.build(path=tmp_path)


# --- folders of masks ---------------------------------------------------------------------------------------------


def write_ids(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def two_objects(dtype=np.uint8, first=1, second=2):
    ids = np.zeros((48, 64), dtype)
    ids[5:15, 5:20], ids[30:40, 40:60] = first, second
    return ids


@pytest.mark.parametrize("folders", [("PNGImages", "PedMasks", "_mask"), ("images", "masks", "")])
def test_id_files(tmp_path, folders):
    images, labels, suffix = folders
    for name in ("a", "b 빛"):
        picture(tmp_path / images / f"{name}.png")
        write_ids(tmp_path / labels / f"{name}{suffix}.png", two_objects())
    root = prepare(str(tmp_path), tmp_path / "out")
    _, data = read(root)
    assert data.info.names == ["pedestrian" if suffix else "object"]
    instances = data.target(0).instances
    assert instances.boxes.tolist() == [[5, 5, 20, 15], [40, 30, 60, 40]]
    assert (instances.masks.any(0).numpy() == (two_objects() > 0)).all()


def test_palette_and_16_bit_ids(tmp_path):
    palette = Image.fromarray(two_objects(first=3, second=200), mode=None).convert("P")
    palette.putdata(two_objects(first=3, second=200).ravel().tolist())
    palette.putpalette([(i * 7) % 256 for i in range(768)])
    palette.save(tmp_path / "palette.png")
    write_ids(tmp_path / "deep.png", two_objects(np.uint16, 300, 65535))
    write_ids(tmp_path / "grey as colour.png", np.repeat(two_objects()[:, :, None], 3, 2))
    Image.fromarray(two_objects() > 0).save(tmp_path / "one bit.png")
    ids = {p.stem: [value for value, _ in files.objects(files.read_ids(p))] for p in tmp_path.iterdir()}
    assert ids == {"palette": [3, 200], "deep": [300, 65535], "grey as colour": [1, 2], "one bit": [1]}
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[5:15, 5:20, 0] = 255
    write_ids(tmp_path / "colours.png", colours)
    with pytest.raises(DataError, match=r"colours\.png.*colour picture"):
        files.read_ids(tmp_path / "colours.png")


@pytest.mark.parametrize(("suffix", "settings"), [("jpg", {}), ("webp", {"quality": 80}), ("webp", {"lossless": True})])
def test_masks_with_loss_are_refused(tmp_path, suffix, settings):
    picture(tmp_path / "images/a.png")
    mask = tmp_path / f"masks/a.{suffix}"
    mask.parent.mkdir()
    Image.fromarray(np.where(two_objects() > 0, 255, 0).astype(np.uint8)).save(mask, **settings)
    if settings.get("lossless"):
        assert len(list((draft := masks.build(path=tmp_path, masks="instances")).records(draft.splits["all"]))) == 1
        return
    with pytest.raises(DataError, match=f"a.{suffix}: the mask is a .* with loss") as caught:
        prepare(str(tmp_path), tmp_path / "out", split="train=1")
    assert "PNG" in caught.value.hint


def test_huge_and_adjacent_ids():
    ids = np.zeros((4, 6), np.int32)
    ids[:, :3], ids[:, 3:] = 2**24 + 1, 5
    found = dict(files.objects(ids))
    assert {k: (v["bbox"], v["area"]) for k, v in found.items()} == {
        5: ([3, 0, 3, 4], 12),
        2**24 + 1: ([0, 0, 3, 4], 12),
    }


def test_one_file_an_object(tmp_path):
    """Nuclei's layout: RGBA images, objects that overlap, an empty mask that is dropped and named."""
    for key in ("n1", "n2"):
        folder = tmp_path / "stage1_train" / key
        picture(folder / "images" / f"{key}.png", mode="RGBA")
        write_ids(folder / "masks/first.png", np.where(two_objects() == 1, 255, 0).astype(np.uint8))
        overlapping = np.zeros((48, 64), np.uint8)
        overlapping[8:20, 8:30] = 255
        write_ids(folder / "masks/second.png", overlapping)
    write_ids(tmp_path / "stage1_train/n2/masks/third.png", np.zeros((48, 64), np.uint8))
    root = prepare(str(tmp_path), tmp_path / "out", split="train=0.5,val=0.5")
    _, data = read(root)
    assert data.info.names == ["nucleus"]
    for i in range(2):
        boxes = data.target(i).instances.boxes.tolist()
        assert boxes == [[5, 5, 20, 15], [8, 8, 30, 20]]
        assert data.read(i).image.shape == (48, 64, 3)
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert any("1 masks are empty and left out: n2/third.png" in note for note in notes)


def test_a_mask_of_another_size_names_both_files(tmp_path):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png", (64, 48))
        write_ids(tmp_path / "masks" / f"{name}.png", np.ones((64, 48), np.uint8))
    with pytest.raises(DataError, match=r"masks/a\.png: the mask is 48 x 64.*images/a\.png 64 x 48"):
        prepare(str(tmp_path), tmp_path / "out")


def test_masks_without_image_and_images_without_mask(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.jpg")
    write_ids(tmp_path / "masks/a.png", two_objects())
    draft = masks.build(path=tmp_path)
    assert [len(r.annotations) for r in draft.records(draft.splits["all"])] == [2, 0]
    assert draft.notes == ["1 images have no mask file and count as images without objects: b.jpg"]
    write_ids(tmp_path / "masks/other.png", two_objects())
    with pytest.raises(DataError, match=r"other\.png"):
        masks.build(path=tmp_path)
    for name in ("a", "other"):
        (tmp_path / f"masks/{name}.png").rename(tmp_path / f"masks/{name}.mat")
    with pytest.raises(DataError, match="no image has a mask file of a kind that is read"):
        masks.build(path=tmp_path)


def test_mask_folders_in_split_folders(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "images" / "same name.png", (64, 48))
        write_ids(tmp_path / split / "masks" / "same name.png", two_objects())
    root = prepare(str(tmp_path), tmp_path / "out", settings={"category": "leaf"})
    assert Dataset(root, "val").file_names == ["val/images/same name.png"]
    assert Dataset(root, "train").info.names == ["leaf"]


def test_formats_are_told_apart(tmp_path):
    picture(tmp_path / "images/a.png")
    with pytest.raises(DataError, match="in no format"):
        prepare(str(tmp_path), tmp_path / "out")
    write_ids(tmp_path / "masks/a.png", two_objects())
    write_coco(tmp_path / "labels.json", ["a.png"], [annotation(1, 10)])
    with pytest.raises(DataError, match="coco or masks") as caught:
        prepare(str(tmp_path), tmp_path / "out")
    assert "--format" in caught.value.hint
    with pytest.raises(UsageError, match="'coca'") as caught:
        prepare(str(tmp_path), tmp_path / "out", format="coca")
    assert "coco" in caught.value.hint


# --- real data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "images", "objects", "crowd"),
    [("PennFudanPed", 130, 311, 0), ("fruits_nuts", 18, 165, 0), ("coco128", 128, 939, 10), ("coco_mini", 80, 739, 8)],
)
def test_real_datasets_arrive_whole(shared_data, tmp_path, folder, images, objects, crowd):
    data = Dataset(prepare(str(shared_data / folder), tmp_path / "out", link=True))
    annotations = [a for i in range(len(data)) for a in data.annotations(i)]
    assert (len(data), len(annotations)) == (images, objects)
    assert sum(bool(a.get("iscrowd")) for a in annotations) == crowd
    assert data.image(0).ndim == 3
    assert not (tmp_path / "out/images").exists()


def test_nuclei_arrive_whole(shared_data):
    draft = masks.build(path=shared_data / "nuclei_dsb2018")
    (entries,) = draft.splits.values()
    assert (len(entries), sum(len(e.masks) for e in entries)) == (48, 1824)
    few = list(draft.records(entries[:3]))
    assert [len(r.annotations) for r in few] == [len(e.masks) for e in entries[:3]]
