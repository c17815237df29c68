"""A square of a fixed size is the input; `scale` is then relative to a short side of this length."""

from segcli.data.augment.stages import Canvas, Side


def build(*, crop: Side) -> Canvas:
    """crop: pixels each way."""
    return Canvas((crop, crop))
