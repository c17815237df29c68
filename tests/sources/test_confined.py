"""Every path that an entry holds is looked at, in whatever field it stands."""

from pathlib import Path

import pytest

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.data.canonical import Draft
from segcli.sources.confined import confine
from segcli.sources.draft import Entry
from segcli.sources.mask_meaning.objects import Labelled


@pytest.mark.parametrize(
    "wrap", [lambda labelled, image: labelled, lambda labelled, image: Entry("a", image, labelled)]
)
def test_masks_outside_of_the_source(tmp_path, wrap):
    source = tmp_path / "deep/er/source"
    source.mkdir(parents=True)

    def check(mask: Path) -> None:
        entry = wrap(Labelled("a.png", source / "a.png", (source / "1.png", mask)), source / "a.png")
        confine(Draft(DatasetInfo("x", (Category("leaf", 1),), {}), {"train": [entry]}, iter), source)

    check(source / "2.png")
    with pytest.raises(DataError, match="lies outside of"):
        check(tmp_path / "2.png")
