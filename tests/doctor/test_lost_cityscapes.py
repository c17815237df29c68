"""Masks of another dataset, 0 and 255, in Cityscapes' layout: the doctor says that nothing of them is left."""

import numpy as np
import pytest
from sources import H, W, photo, picture

from segcli.commands.prepare import diagnose, prepare


@pytest.mark.parametrize("values", [(0, 255), (7, 255)])
def test_classes_that_are_lost_behind_255_are_an_error(tmp_path, values):
    for number, split in enumerate(("train", "val")):
        stem = f"{split}/town/town_00000{number}_000019"
        photo(tmp_path / "s" / "leftImg8bit" / f"{stem}_leftImg8bit.png")
        mask = np.full((H, W), values[0], np.uint8)
        mask[4:20, 8:24] = values[1]
        picture(tmp_path / "s" / "gtFine" / f"{stem}_gtFine_labelIds.png", mask)
    found = diagnose(str(prepare(str(tmp_path / "s"), tmp_path / "out"))).findings
    assert "lost_class" in {f.code for f in found if f.severity == "error"}
