"""Every kind of error carries the exit code that scripts see."""

from segcli.core.errors import DataError, ModelError, SegcliError, UsageError


def test_exit_codes_and_hints():
    assert [e("x").exit_code for e in (SegcliError, UsageError, DataError, ModelError)] == [1, 2, 3, 4]
    error = DataError("a.json: broken", hint="fix it")
    assert (str(error), error.hint) == ("a.json: broken", "fix it")
    assert isinstance(error, ValueError)
