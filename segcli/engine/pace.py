"""The length of a training: a number of steps, or minutes, which are converted to steps while training.

For minutes, nothing is timed beforehand. The time of the first steps tells how many fit, and the number is decided
again when the machine becomes slower or faster. Each decision (its step, the total number of steps) is written into the
run's recipe, so that a resumed run, or one that repeats the recipe, follows exactly the same schedule.

Learning rates follow the progress, from 0 to 1. After each decision it grows linearly from its present value to 1 at
the last step: it never jumps and never falls. s steps done, t steps in total, p progress.
"""

import sys
from collections import deque
from typing import Any

from tqdm import tqdm

from segcli.core import distributed
from segcli.core.recipe.recipe import Recipe
from segcli.engine.session import Session

WARM = 1  # first steps of a process, not timed: loaders start, memory is mapped
FIRST = 8  # steps after which the first decision is taken, or earlier, after CHECK of the time
CHECK = 0.02  # share of the time between two checks
WINDOW = 0.04  # share of the time over which a step's time is averaged, at least LEAST steps
LEAST = 4
TOLERANCE = 0.01  # the number of steps changes only if the end would be off by more than this share of the time


class Pace:
    """Length and progress of one training. `total`: number of steps; None until it is decided.

    Args:
        total: steps of a training given in steps or epochs; None for one in minutes.
        decisions: (step, total) of each earlier decision, in order, for a run that is resumed or repeated.
        seconds: the training time to fill; None if no further decision is made.
    """

    def __init__(self, total: int | None, decisions: list[tuple[int, int]], seconds: float | None):
        self.decisions = list(decisions) or ([] if total is None else [(0, total)])
        self.seconds = seconds
        self.recent: deque[float] = deque()
        self.step_seconds = 0.0  # that the last decision rests on
        self._skip, self._next = WARM, 0.0

    @property
    def total(self) -> int | None:
        return self.decisions[-1][1] if self.decisions else None

    def done(self, step: int) -> bool:
        return self.total is not None and step >= self.total

    def progress(self, step: int) -> float:
        """The share 0..1 of the training at `step`, by the decisions up to there; of the last schedule alone, where one
        begins as another ends (run_folder.py)."""
        reached, begun, total = 0.0, 0, 0
        for at, steps in self.decisions:
            if at > step:
                break
            if total and at == total:
                reached = 0.0
            elif total:
                reached += (1 - reached) * (at - begun) / max(total - begun, 1)
            begun, total = at, steps
        return reached + (1 - reached) * (step - begun) / max(total - begun, 1) if total else 0.0

    def evaluates(self, step: int, evaluations: int) -> bool:
        """Whether the val split is scored after `step` steps, with `evaluations` spread evenly over the training."""
        if len(self.decisions) == 1 and self.decisions[0][0] == 0:
            total = self.decisions[0][1]
            return any(step == round(total * (i + 1) / evaluations) for i in range(evaluations))
        part = lambda s: int(self.progress(s) * evaluations + 1e-9)
        return step > 0 and part(step) > part(step - 1)

    def took(self, step: int, seconds: float, elapsed: float) -> bool:
        """Call after each step. seconds: of this step; elapsed: of all steps so far. -> whether the total changed."""
        if self.seconds is None or self.done(step):
            return False
        if self._skip:
            self._skip -= 1
            spare = [seconds]
        else:
            self.recent.append(seconds)
            spare = []
        while len(self.recent) > LEAST and sum(self.recent) - self.recent[0] > WINDOW * self.seconds:
            self.recent.popleft()
        if any(at > step for at, _ in self.decisions):  # a resumed run that has not reached its last decision yet
            return False
        if elapsed >= self.seconds:
            return self._decide(step, step, elapsed / step)
        known = self.recent or spare
        enough = len(known) >= LEAST or sum(known) >= CHECK * self.seconds
        early = self.total is None and step < FIRST and elapsed < CHECK * self.seconds
        if not enough or early or (self.total is not None and elapsed < self._next):
            return False
        self._next = elapsed + CHECK * self.seconds
        each = sum(known) / len(known)
        left = round((self.seconds - elapsed) / each)
        if self.total is not None and abs(left - (self.total - step)) * each < TOLERANCE * self.seconds:
            return False
        return self._decide(step, step + left, each)

    def _decide(self, step: int, total: int, each: float) -> bool:
        if total == self.total:
            return False
        self.step_seconds = each
        self.decisions.append((step, total))
        return True


def recorded(recipe: Recipe, pace: Pace) -> Recipe:
    """The recipe with the decisions made so far."""
    settings = {"minutes": None, "steps": pace.total, "retimed": list(pace.decisions)}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})


def keep_pace(session: Session, pace: Pace, seconds: float, bar: Any, quiet: bool) -> None:
    """Count the seconds of a step; if that changes the total number of steps, record and print it."""
    session.progress.seconds += seconds
    if pace.seconds is None:
        return
    before, step = pace.total, session.progress.step
    # the main process's clock decides, on every rank alike
    if not pace.took(
        step, distributed.number_from_main(seconds), distributed.number_from_main(session.progress.seconds)
    ):
        return
    assert pace.total is not None
    session.total = bar.total = pace.total
    session.recipe = recorded(session.recipe, pace)
    if not distributed.rank():
        session.run.write_recipe(session.recipe)
    if quiet or (before is not None and abs(pace.total - before) <= max(0.2 * abs(before - step), 0.05 * before)):
        return
    told = f"{pace.total} steps" if before is None else f"now {pace.total} steps in all, not {before}"
    minutes = pace.seconds / 60
    length = "1 minute is" if minutes == 1 else f"{minutes:g} minutes are"
    tqdm.write(f"{length} {told}, of {pace.step_seconds:.2g} s here", file=sys.stderr)
    if before is None:
        note_warm_up(session.recipe, pace.total)


def note_warm_up(recipe: Recipe, total: int | None) -> None:
    """Say so where half of the steps or more would have a learning rate that only rises."""
    warm_up = recipe.train.schedule.warmup_steps
    if total is not None and 2 * warm_up >= total:
        tqdm.write(
            f"note: the learning rate rises for {warm_up} of {total} steps: "
            f"--set train.schedule.warmup_steps={total // 10} fits so short a training",
            file=sys.stderr,
        )
