"""Random samplers whose draw depends on (seed, epoch, image) alone, so that ranks and resume change no number."""

import torch
from torch import Tensor


class BalancedSampler:
    """Draw up to `size` candidates an image, at most `positive` of them with label ≥ 1 (Ren et al., 2015, section 3.1).

    Set `seeds` (one an image) before each call; two samplers of one model differ by `salt`. `drawn`: how many the last
    call drew.
    """

    def __init__(self, size: int, positive: float, salt: int):
        self.size, self.positive, self.salt = size, positive, salt
        self.seeds: list[int] = []
        self.drawn = 0

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """labels [n] an image (≥ 1 positive, 0 negative, -1 left out) -> bool masks of drawn positives, negatives."""
        positives, negatives, self.drawn = [], [], 0
        for i, label in enumerate(labels):
            generator = keyed_generator(self.seeds[i] if self.seeds else i, self.salt)
            positive, negative = torch.where(label >= 1)[0], torch.where(label == 0)[0]
            count = min(len(positive), int(self.size * self.positive))
            positives.append(_draw(positive, count, label, generator))
            others = min(len(negative), self.size - count)
            negatives.append(_draw(negative, others, label, generator))
            self.drawn += count + others
        return positives, negatives


def keyed_generator(seed: int, salt: int) -> torch.Generator:
    """A generator for one image; samplers of one model use different salts."""
    return torch.Generator().manual_seed((seed * 7919 + salt) % 2**63)


def _draw(candidates: Tensor, count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.zeros_like(like, dtype=torch.bool)
    order = torch.randperm(len(candidates), generator=generator)[:count].to(candidates.device)
    chosen[candidates[order]] = True
    return chosen
