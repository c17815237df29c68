"""A source in no format is answered with what it holds and what would make it readable."""

import numpy as np
import pytest
from sources import H, W, photo, picture, text

from segcli.core.errors import DataError
from segcli.sources.detection import detect


def refused(path) -> DataError:
    with pytest.raises(DataError) as caught:
        detect(path)
    return caught.value


def test_images_alone(tmp_path):
    for name in "abc":
        photo(tmp_path / f"{name}.png")
    error = refused(tmp_path)
    assert "it holds 3 png" in str(error)
    assert "NAME_mask.png" in error.hint
    assert "segcli predict" in error.hint


def test_masks_and_a_table_that_nobody_reads(tmp_path):
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.jpg")
        picture(tmp_path / "other" / f"x_{name}_truth.png", np.full((H, W), 255, np.uint8) * (np.arange(W) > 9))
    text(tmp_path / "notes.csv", "photo;who\n")
    text(tmp_path / "more.json", {"one": 1, "two": 2})
    said = str(refused(tmp_path))
    assert "3 jpg" in said
    assert "3 png, 3 of them called *_truth with the values 0, 255" in said
    assert "1 csv (notes.csv with the columns photo;who)" in said
    assert "1 json (more.json with the keys one, two)" in said


def test_labels_without_images_and_other_archives(tmp_path):
    text(tmp_path / "a/points.xml", "<a/>")
    assert "export them with their images" in refused(tmp_path / "a").hint
    (tmp_path / "b.7z").write_bytes(b"7z")
    assert "zip or tar" in refused(tmp_path / "b.7z").hint


def test_a_folder_of_sources_says_that_several_are_merged(tmp_path):
    for day in ("day 1", "day2"):
        photo(tmp_path / day / "slide" / "images" / "a.png")
        picture(tmp_path / day / "slide" / "masks" / "1.png", np.full((H, W), 255, np.uint8) * (np.arange(W) > 9))
    error = refused(tmp_path)
    assert "holds day 1 (masks), day2 (masks)" in str(error)
    assert error.hint.endswith(f"merged: '{tmp_path / 'day 1'}' {tmp_path / 'day2'}")
