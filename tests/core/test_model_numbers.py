"""Numbers of a model section that no model can have are one sentence, however long they are."""

import pytest

from segcli.core.model_numbers import check


@pytest.mark.parametrize("digits", [4, 12, 400])
def test_numbers_beyond_bounds(digits):
    with pytest.raises(ValueError, match=r"^model\.decoder_layers can't be .*: 1,000 at most$"):
        check({"decoder_layers": 10**digits})
