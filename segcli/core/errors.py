"""Errors that a user can act on; `cli/errors.py` turns each into one line and the exit code it carries."""


class SegcliError(ValueError):
    """One actionable sentence for the user.

    `hint` says what to do next, where that is known; `exit_code` is what the command line returns (CONTRACT: 1 running,
    2 usage, 3 data, 4 model or weights).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class NotFiniteError(SegcliError):
    """NaN or infinity that a model met before it could give its losses. term: what was not finite."""

    def __init__(self, message: str, *, term: str, hint: str | None = None):
        super().__init__(message, hint=hint)
        self.term = term


class UsageError(SegcliError):
    """A bad flag, an unknown recipe or an unknown recipe key."""

    exit_code = 2


class DataError(SegcliError):
    """Data that is unknown, unreadable, inconsistent or empty."""

    exit_code = 3


class ModelError(SegcliError):
    """A run or weight file that is missing, mismatched or refused."""

    exit_code = 4
