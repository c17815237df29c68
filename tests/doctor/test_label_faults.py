"""Whole datasets that are wrong in one way: the doctor says so, --fix takes it for what it is, and destroys nothing."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segcli.commands.prepare import diagnose, prepare
from segcli.core.errors import DataError
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset
from segcli.doctor.check import check

H, W = 40, 64


def disc(i, k):
    """One of two discs of image i, bool [H,W], left and right of the middle."""
    y, x = np.mgrid[:H, :W]
    return (y - 12 - 2 * i) ** 2 + (x - 14 - i - 30 * k) ** 2 <= (5 + i) ** 2


def outline(mask):
    ys, xs = np.nonzero(mask)
    t = np.arange(16) * np.pi / 8
    cx, cy, r = xs.mean() + 0.5, ys.mean() + 0.5, (np.ptp(xs) + 1) / 2
    return np.stack([cx + r * np.cos(t), cy + r * np.sin(t)], 1).round(2).ravel().tolist()


def box(mask):
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]


def runs(flat):
    ends = [0, *(np.flatnonzero(np.diff(flat.astype(int))) + 1).tolist(), flat.size]
    return [*([0] if flat[0] else []), *np.diff(ends).tolist()]


def rle(mask):
    return {"size": [H, W], "counts": coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()}


def source(root, segmentation=lambda mask: [outline(mask)], change=lambda data: None, name="{}.png"):
    """A COCO dataset of five images with two discs each, one a class, after `change`."""
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "fire"}, {"id": 2, "name": "smoke"}]}
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (H, W, 3)).astype(np.uint8)
        path = root / "images" / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        data["images"].append({"id": i, "file_name": name.format(i), "width": W, "height": H})
        for k in range(2):
            mask = disc(i, k)
            one = {"id": 2 * i + k + 1, "image_id": i, "category_id": k + 1, "iscrowd": 0, "bbox": box(mask)}
            data["annotations"].append({**one, "area": int(mask.sum()), "segmentation": segmentation(mask)})
    change(data)
    (root / "labels.json").write_text(json.dumps(data), encoding="utf-8")
    return str(root)


def each(**changes):
    """A change of every annotation; values may be functions of it."""
    return lambda data: [
        a.update({k: v(a) if callable(v) else v for k, v in changes.items()}) for a in data["annotations"]
    ]


def right(root):
    """How many objects lie on their discs, with IoU over 0.8, and are no crowds."""
    count = 0
    data = Dataset(root)
    for i, name in enumerate(data.file_names):
        found = data.target(i).instances
        for label, mask, crowd in zip(found.labels.tolist(), found.masks.numpy(), found.crowd.tolist(), strict=True):
            real = disc(int(name.split("/")[-1][0]), label)
            count += not crowd and bool((mask & real).sum() / (mask | real).sum() > 0.8)
    return count


def codes(report):
    return {f.code for f in report.findings if f.severity == "error"}


SPELLINGS = {
    "flat": (outline, None),
    "points": (lambda m: np.reshape(outline(m), (-1, 2)).tolist(), None),
    "points in a part": (lambda m: [np.reshape(outline(m), (-1, 2)).tolist()], None),
    "points by name": (lambda m: [{"x": x, "y": y} for x, y in np.reshape(outline(m), (-1, 2)).tolist()], None),
    "nested once more": (lambda m: [[outline(m)]], None),
    "text": (lambda m: json.dumps([outline(m)]), None),
    "numbers as text": (lambda m: [[str(v) for v in outline(m)]], None),
    "bytes": (lambda m: {"size": [H, W], "counts": repr(rle(m)["counts"].encode())}, None),
    "runs as text": (lambda m: {"size": [H, W], "counts": " ".join(map(str, runs(m.ravel("F"))))}, None),
    "runs with points": (lambda m: {"size": [H, W], "counts": [float(v) for v in runs(m.ravel("F"))]}, None),
    "a list around an RLE": (lambda m: [rle(m)], None),
    "rows": (lambda m: {"size": [H, W], "counts": runs(m.ravel())}, None),
    "rows of exchanged sides": (lambda m: {"size": [W, H], "counts": runs(m.ravel())}, None),
    # ids as text have one meaning: they are read so, with a note
    "text ids": (None, each(category_id=lambda a: str(a["category_id"]), id=lambda a: str(a["id"]))),
    "text box and area": (None, each(bbox=lambda a: [*map(str, a["bbox"])], area=lambda a: str(a["area"]))),
    "ids with points": (None, each(category_id=lambda a: float(a["category_id"]))),
    "names for ids": (None, each(category_id=lambda a: ["", "fire", "smoke"][a["category_id"]])),
    "sides": (None, lambda d: [i.update(width=H, height=W) for i in d["images"]]),
    "other sides": (None, lambda d: [i.update(width=30, height=20) for i in d["images"]]),
    "crowds": (rle, each(iscrowd=1)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_object_is_found_and_comes_out_right(tmp_path, name):
    segmentation, change = SPELLINGS[name]
    given = source(tmp_path / "s", segmentation or (lambda m: [outline(m)]), change or (lambda data: None))
    assert codes(diagnose(given)) or name == "text ids", "the doctor says that it is wrong"
    out = prepare(given, tmp_path / "out", fix=True)
    assert right(out) == 10
    assert codes(check(out)) == set()
    assert not {r["code"] for r in prepared(out)["repairs"]} & {"empty_mask", "dangling_category"}


def broken(count):
    """As many objects that nothing can be made of."""

    def change(data):
        for annotation in data["annotations"][:count]:
            annotation.update(segmentation=[[1.0, 2.0, 3.0]])

    return change


def sizes_of_nothing(data):
    data["images"][0].update(width=50, height=50)


def unreadable(root):
    (root / "images/0.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("change", "after", "said"),
    [
        (broken(1), None, r"1 of 10 objects \(1 × empty mask\): 0\.png annotation 1"),
        (broken(10), None, r"10 of 10 objects"),
        (
            sizes_of_nothing,
            None,
            r"1 images that are there: 0\.png: .* is 64 x 40, labelled as 50 x 50",
        ),
        (lambda d: None, unreadable, r"1 images that are there: 0\.png: left out, with 2 annotations"),
        (
            lambda d: d["images"][0].update(file_name="gone.png"),
            None,
            r"2 of 10 objects \(2 in 1 image: image missing\)",
        ),
        (lambda d: d["annotations"][0].update(image_id=77), None, r"1 of 10 objects \(1 × dangling image\)"),
    ],
)
def test_nothing_is_left_out_without_drop(tmp_path, change, after, said):
    given = source(tmp_path / "s", change=change)
    if after:
        after(tmp_path / "s")
    with pytest.raises(DataError, match=said) as caught:
        prepare(given, tmp_path / "out", fix=True)
    assert "--drop" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_drop_allows_it_but_never_nothing(tmp_path, segcli):
    given = source(tmp_path / "s", change=broken(3))
    assert right(prepare(given, tmp_path / "out", fix=True, drop=True)) == 7
    all_broken = source(tmp_path / "all", change=broken(10))
    with pytest.raises(DataError, match="no object is left of 10"):
        prepare(all_broken, tmp_path / "none", fix=True, drop=True)
    assert segcli("prepare", given, "--drop").code == 2
    assert segcli("prepare", given, "--fix", "--out", "kept").code == 3


def test_an_image_listed_once_for_each_object(tmp_path):
    def change(data):
        for n, annotation in enumerate(data["annotations"]):
            annotation["image_id"] = 100 + n
        data["images"] = [{**data["images"][n // 2], "id": 100 + n} for n in range(10)]

    out = prepare(source(tmp_path / "s", change=change), tmp_path / "out", fix=True, split="train=1")
    assert right(out) == 10
    assert len(Dataset(out)) == 5


def test_crowds(tmp_path, segcli):
    """All crowds, and one class of crowds alone, are errors; --crowd as-objects and --fix mend both, and count."""
    given = source(tmp_path / "s", rle, each(iscrowd=1))
    report = diagnose(given)
    details = [i.detail for f in report.findings for i in f.items if f.code == "crowds_alone"]
    assert details == ["fire: all of its 5 objects", "smoke: all of its 5 objects"]
    out = prepare(given, tmp_path / "out", crowd="as-objects")
    assert right(out) == 10
    assert "10 crowd regions are read as objects (--crowd as-objects)" in prepared(out)["notes"]
    one = source(tmp_path / "one", rle, each(iscrowd=lambda a: a["category_id"] - 1))
    assert [i.detail for f in diagnose(one).findings for i in f.items if f.code == "crowds_alone"] == details[1:]
    out = prepare(one, tmp_path / "fixed", fix=True)
    assert right(out) == 10
    assert "5 crowd regions of smoke are made objects" in prepared(out)["notes"]
    some = source(tmp_path / "some", rle, each(iscrowd=lambda a: int(a["id"] in (1, 3, 5))))
    found = {f.code: f.items[0].detail for f in diagnose(some).findings}
    assert found["many_crowds"] == "fire: 3 of 5 objects"
    assert "crowds_alone" not in found
    assert segcli("prepare", given, "--crowd", "no").code == 2


@pytest.mark.parametrize("name", ["mixed", "bare", "upper", "without suffix"])
def test_half_of_the_names_are_written_otherwise(tmp_path, name):
    rename = {
        "mixed": lambda n: n.split("/")[1],
        "bare": lambda n: f"images/{n}",
        "upper": str.upper,
        "without suffix": lambda n: n.removesuffix(".png"),
    }[name]
    change = lambda data: [i.update(file_name=rename(i["file_name"])) for i in data["images"][::2]]
    out = prepare(source(tmp_path / "s", change=change, name="in/{}.png"), tmp_path / "out")
    assert right(out) == 10


def test_roboflows_root_is_left_aside_where_it_is_unused(tmp_path):
    def declare(name):
        return lambda data: (
            data["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})
            or [c.update(supercategory=name) for c in data["categories"][1:]]
        )

    for name in ("fire", "site"):
        out = prepare(source(tmp_path / name, change=declare(name)), tmp_path / f"{name}-out")
        assert Dataset(out).info.names == ["fire", "smoke"]
        assert any("root of the others" in note for note in prepared(out)["notes"])

    def used(data):
        declare("site")(data)
        data["annotations"][0]["category_id"] = 0

    assert Dataset(prepare(source(tmp_path / "used", change=used), tmp_path / "o")).info.names[0] == "site"

    def twice(data):
        declare("fire")(data)
        data["annotations"][0]["category_id"] = 0

    with pytest.raises(DataError, match="0 and 1 are both called 'fire'") as caught:
        prepare(source(tmp_path / "twice", change=twice), tmp_path / "p")
    assert "rename" in caught.value.hint


HOSTILE = {
    "huge RLE": lambda a: a.update(segmentation={"size": [40 * 10**8, 64 * 10**8], "counts": [40 * 64 * 10**16]}),
    "endless size": lambda a: a.update(segmentation={"size": [40 * 10**400, 64 * 10**400], "counts": [1]}),
    "many parts": lambda a: a.update(segmentation=[[1, 1, 5, 1, 5, 5]] * 3000),
    "endless box": lambda a: a.update(bbox=[10**30, 1, 10**30, 5]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_numbers_are_findings(tmp_path, name):
    given = source(tmp_path / "s", change=lambda data: HOSTILE[name](data["annotations"][0]))
    assert diagnose(given).findings
    assert right(prepare(given, tmp_path / "out", fix=True, drop=True)) >= 9


def test_hostile_ids_and_licences(tmp_path):
    def change(data):
        data["images"][0].update(id=2**70, license=[1])
        data["licenses"] = [{"id": {"a": 1}, "name": ["x"]}]
        [a.update(image_id=2**70) for a in data["annotations"][:2]]

    given = source(tmp_path / "s", change=change)
    assert diagnose(given).self_test
    assert right(prepare(given, tmp_path / "out", fix=True)) == 10
