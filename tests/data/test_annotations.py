"""Compressed RLEs, read many at a time."""

import numpy as np
from pycocotools import mask as coco_mask

from segcli.data.annotations import run_lengths, run_totals


def test_run_totals_agree_with_every_rle_of_pycocotools_and_find_the_malformed_among_them():
    rng, rles, sizes = np.random.default_rng(0), [], []
    for _ in range(200):
        h, w = rng.integers(1, 60, 2)
        mask = np.kron(rng.random((h, w)) < rng.random() ** 2, np.ones((rng.integers(1, 9), 1)))
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        rles.append(rle["counts"])
        sizes.append(mask.size)
        flat, runs = mask.T.ravel().astype(bool), run_lengths(rle["counts"])
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), flat)
    assert run_totals(rles).tolist() == sizes
    for broken in (b"5P", b"\x10", b"P" * 9 + b"0", "é".encode(), b"O"):  # cut off, no digit, too long, below zero
        assert run_lengths(broken) is None
        rles[50] = broken
        assert run_totals(rles).tolist() == [*sizes[:50], -1, *sizes[51:]]
    rles[50] = b""
    assert run_totals(rles)[[50, 51]].tolist() == [0, sizes[51]]
    assert len(run_totals([])) == 0
