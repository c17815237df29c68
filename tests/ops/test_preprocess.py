"""What a model sees of an image is what its family's arithmetic gives, to the bit."""

import numpy as np
import pytest
import torch

from segcli.ops.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


@pytest.mark.parametrize("turn", [lambda x: x, lambda x: x[:, ::-1], lambda x: x.transpose(1, 0, 2), lambda x: x[:1]])
def test_normalised_images(turn):
    pixels = turn(np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8))
    found = Preprocess(keep_size=True).image(pixels)
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    wanted = (torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255 - mean) / std
    assert torch.equal(found, wanted)
    assert found.is_contiguous()
