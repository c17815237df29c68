"""info.json: written and read back equal; every fault names the file."""

import json

import pytest

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError

INFO = DatasetInfo(
    name="이름",
    categories=(
        Category("person", 1, keypoints=("nose", "left eye", "right eye"), skeleton=((0, 1),), flip_pairs=((1, 2),)),
        Category("cat", 17, colour=(1, 2, 3)),
        Category("sky", 200, thing=False),
    ),
    splits={"train": 3, "val": 1},
    licence="CC0",
)


def test_written_and_read_it_is_equal(tmp_path):
    (tmp_path / "info.json").write_text(json.dumps(INFO.to_json()), encoding="utf-8")
    assert DatasetInfo.load(tmp_path) == INFO


def test_labels_are_positions_and_things_come_first():
    assert (INFO.num_things, INFO.names, INFO.source_ids) == (2, ["person", "cat", "sky"], [1, 17, 200])
    with pytest.raises(DataError, match="things first, then stuff"):
        DatasetInfo("x", (Category("sky", 1, thing=False), Category("cat", 2)), {})


def test_colours_are_the_declared_one_or_distinct():
    colours = INFO.colours()
    assert colours[1] == (1, 2, 3)
    many = DatasetInfo("x", tuple(Category(str(i), i) for i in range(40)), {}).colours()
    assert len(set(many)) == 40
    assert all(0 <= v <= 255 for colour in many for v in colour)


@pytest.mark.parametrize(
    ("categories", "says"), [((), "declares no category"), ((Category("a", 1), Category("a", 2)), "'a' twice")]
)
def test_categories_that_are_refused(categories, says):
    with pytest.raises(DataError, match=says):
        DatasetInfo("x", categories, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("{}", "version None is not 1"),
        ('{"version": 1}', "'categories' is missing"),
        (
            '{"version": 1, "name": "x", "splits": {}, "categories": [{"name": "a", "source_id": 1, "keypoints": '
            '["nose", "ear"], "skeleton": [[0, 1, 0]]}]}',
            "categories: 0.skeleton.0: ",
        ),
        ('{"version": 1, "name": "x", "categories": [{"nam": "a"}], "splits": {}}', "0.name: field required"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, says):
    (tmp_path / "info.json").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        DatasetInfo.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match="not a prepared dataset") as caught:
        DatasetInfo.load(tmp_path)
    assert "segcli prepare" in str(caught.value.hint)
