"""What `--fix` would leave out is said in objects and images, each by its cause."""

from pathlib import Path

import pytest

from segcli.core.errors import DataError
from segcli.doctor.repair.removals import Removals, Repair


def repair(name, code, key=None):
    return Repair("train", name, key, code, f"{name} is left out")


def test_objects_are_counted_with_their_images_and_places_by_repairs():
    removals = Removals()
    for name, objects in (("a.jpg", 9), ("b.jpg", 6), ("c.jpg", 4), ("d.jpg", 0)):
        removals.image(repair(name, "image_missing"), objects, there=False)
    with pytest.raises(DataError) as caught:
        removals.judge(Path("src"), 100, 0, drop=False)
    said = str(caught.value)
    assert "19 of 100 objects (19 in 3 images: image missing): a.jpg" in said
    assert "more" not in said
    removals.object(repair("e.jpg", "malformed", 7))
    with pytest.raises(
        DataError, match=r"20 of 100 objects \(19 in 3 images: image missing, 1 × malformed\)"
    ) as caught:
        removals.judge(Path("src"), 100, 0, drop=False)
    assert str(caught.value).endswith("; and 1 more")
    removals.judge(Path("src"), 100, 0, drop=True)


@pytest.mark.parametrize("folder", ["/data", "/" + "deep/" * 80])
def test_long_paths_leave_the_reason_readable(folder):
    removals = Removals()
    action = f"left out: {folder}/masks.csv: line 2: the mask {'x' * 90!r} is nowhere below the folder"
    removals.image(Repair("train", f"{folder}/a.png", None, "unreadable", action), 0, there=True)
    with pytest.raises(DataError) as caught:
        removals.judge(Path("src"), 100, 0, drop=False)
    said = str(caught.value)
    assert "a.png: left out: /d" in said
    assert said.endswith("masks.csv: line 2: the mask " + repr("x" * 90) + " is nowhere below the folder")
    assert len(said) < 450
