"""Characters that a terminal obeys or a reader can't see, in names that come from elsewhere: shown, never sent."""

import re

# control characters but for tab and line end, marks that turn the direction of writing, and halves of a surrogate pair,
# which no UTF-8 stream takes
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def written_out(match: re.Match[str]) -> str:
    """One such character as text: \\x1b, \\u202e."""
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
