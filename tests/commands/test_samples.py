"""The sheet of samples: always drawn, of no influence on anything else, and never in the way."""

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS

from segcli.commands import samples
from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    """As wide as users get it; all other tests have a narrow one."""
    monkeypatch.setattr(samples, "WIDTH", 1600)


def test_prepare_draws_them_and_stays_idempotent(segcli, tmp_path):
    FORMATS["coco"](tmp_path / "in")
    result = segcli("prepare", str(tmp_path / "in"), "--out", "s", "--json")
    assert result.json["samples"] == "s/samples.jpg"
    sheet = np.asarray(Image.open(tmp_path / "s/samples.jpg"))
    assert sheet.shape[1] == 1600
    assert sheet.std() > 20
    before = (tmp_path / "s/samples.jpg").stat().st_mtime_ns
    again = segcli("prepare", str(tmp_path / "in"), "--out", "s", "--json")
    assert again.json == result.json
    assert (tmp_path / "s/samples.jpg").stat().st_mtime_ns == before
    assert segcli("prepare", str(tmp_path / "in"), "--seed", "1", "--out", "s", "--force").code == 0, (
        "the sheet is ours to replace"
    )


def test_a_failure_to_draw_loses_nothing(monkeypatch, tmp_path, capsys):
    def fail(root):
        raise DataError("no ink")

    monkeypatch.setattr(samples, "sheet", fail)
    root = prepare("shapes", tmp_path / "s", settings={"train": 3, "val": 1, "size": 96})
    assert len(Dataset(root)) == 4
    assert "no samples are drawn: no ink" in capsys.readouterr().err


def test_every_class_is_shown_and_empty_images_are_few(tiny_dataset):
    data, info = Dataset(tiny_dataset), DatasetInfo.load(tiny_dataset)
    assert samples.choose(data, info) == [0, 1, 2, 3, 4, 5]
    assert samples.sheet(tiny_dataset).dtype == np.uint8
