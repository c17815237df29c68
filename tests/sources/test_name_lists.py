"""A list of names beside masks: whether it counts from value 0 or from 1 is seen, or asked, never guessed."""

import numpy as np
import pytest
from sources import photo, picture, text

from segcli.core.errors import DataError
from segcli.sources.formats import semantic

H, W = 24, 32


def build(root, names, values, *, rim=0, **settings):
    for number in range(5):
        photo(root / "images" / f"{number}.png")
        labels = np.full((H, W), rim, np.uint8)
        for place, value in enumerate(values):
            labels[4:20, 4 + 6 * place : 9 + 6 * place] = value
        picture(root / "masks" / f"{number}.png", labels)
    text(root / "classes.txt", "".join(f"{name}\n" for name in names))
    return [category.name for category in semantic.build(path=root, **settings).info.categories]


@pytest.mark.parametrize(
    ("values", "rim", "expected"),
    [
        ([1, 2], 0, ["cat", "dog", "cow"]),  # 0 to N - 1
        ([1, 2, 3], 0, ["background", "cat", "dog", "cow"]),  # 0 to N
        ([2, 3], 1, ["cat", "dog", "cow"]),  # 1 to N
        ([0], 1, ["cat", "dog", "cow"]),  # 0 lies inside: no background
    ],
)
def test_values_say_where_names_count_from(tmp_path, values, rim, expected):
    assert build(tmp_path, ["cat", "dog", "cow"], values, rim=rim) == expected


def test_values_that_fit_both_are_asked_about(tmp_path):
    with pytest.raises(DataError, match=r"is 0 cat and 1 dog, or 0 a background and 1 cat") as caught:
        build(tmp_path, ["cat", "dog", "cow"], [1])
    assert "--masks classes" in caught.value.hint
    assert build(tmp_path, ["cat", "dog", "cow"], [1], masks="classes") == ["cat", "dog", "cow"]
    assert build(tmp_path, ["background", "cat", "dog"], [1]) == ["background", "cat", "dog"]


def test_one_file_with_the_last_name_settles_it(tmp_path):
    with pytest.raises(DataError, match="or 0 a background"):
        build(tmp_path, ["cat", "dog", "cow"], [1])
    photo(tmp_path / "images" / "last.png")
    picture(tmp_path / "masks" / "last.png", np.full((H, W), 2, np.uint8))
    assert build(tmp_path, ["cat", "dog", "cow"], [1]) == ["cat", "dog", "cow"]
