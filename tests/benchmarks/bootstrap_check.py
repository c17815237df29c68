"""Are the intervals honest? Run by hand: 1,000 simulated pairs of equal models, 1,000 of a known difference.

    python tests/benchmarks/bootstrap_check.py --trials 1000 --images 200

Goals: equal models are called different in 5 % ± 2; the interval covers the true difference in 95 % ± 2.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from scored_cases import trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=400)
    arguments = parser.parse_args()
    run = (arguments.trials, arguments.images, arguments.resamples)
    equal = trials(*run, (0.7, 0.7), seed=11)
    wrong = ((equal[:, 1] > 0) | (equal[:, 2] < 0)).mean()
    print(f"equal models called different: {wrong:.1%} of {run[0]}; goal 5 % ± 2")
    for skills in ((0.8, 0.6), (0.7, 0.65)):
        truth = trials(3, 20_000, 1, skills, seed=9)[:, 0].mean()
        found = trials(*run, skills, seed=12)
        covered = ((found[:, 1] < truth) & (truth < found[:, 2])).mean()
        power = (found[:, 1] > 0).mean()
        print(f"true difference {truth:.3f}: covered in {covered:.1%}, found significant in {power:.1%}")


if __name__ == "__main__":
    main()
