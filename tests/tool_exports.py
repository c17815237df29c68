"""The scene of tests/scene.py as annotation platforms and competitions export it; the writers of `sources.FORMATS`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scene import SCENE, ids, photo, text


def runs(mask: np.ndarray, order: str = "F") -> str:
    """A bool mask [H,W] as Kaggle's run lengths; order: F down the columns, C along the rows."""
    flat = mask.ravel(order).astype(np.int8)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    return " ".join(f"{a + 1} {b - a}" for a, b in zip(ends[::2], ends[1::2], strict=True))


def run_lengths(root: Path) -> None:
    lines = ["ImageId,ClassId,EncodedPixels"]
    for name in SCENE:
        photo(root / "train_images" / f"{name}.png")
        for number, label in enumerate(SCENE[name], 1):
            lines.append(f"{name}.png,{label},{runs(ids(name, 1, 2) == number)}")
    text(root / "train.csv", "\n".join(lines) + "\n")


EXPORTS: dict[str, Callable[[Path], None]] = {
    "run_lengths": run_lengths,
}
