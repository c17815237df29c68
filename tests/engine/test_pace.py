"""A run of N minutes takes N minutes, whatever the machine does meanwhile, and its schedule follows."""

import itertools

import pytest

from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe, Schedule
from segcli.engine.optimizer import rate_factor
from segcli.engine.pace import Pace, note_warm_up

BUDGET = 240.0  # seconds


def train(pace, cost, step=0, elapsed=0.0, until=None):
    """Steps of cost(elapsed, step) seconds until the pace says that it is the end. -> (steps, seconds)."""
    while not pace.done(step) and (until is None or step < until):
        seconds = cost(elapsed, step)
        step, elapsed = step + 1, elapsed + seconds
        pace.took(step, seconds, elapsed)
    return step, elapsed


def changed(at, factor, one=0.3):
    """A machine that becomes `factor` times slower when the share `at` of the time is over."""
    return lambda elapsed, step: (5 if step == 0 else 1) * one * (factor if elapsed > at * BUDGET else 1)


@pytest.mark.parametrize("at", [0.0, 0.01, 0.1, 0.5, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("factor", [1, 3, 1 / 3, 10])
def test_a_machine_that_changes_midway(at, factor):
    pace = Pace(None, [], BUDGET)
    steps, seconds = train(pace, changed(at, factor))
    assert 0.97 * BUDGET <= seconds <= 1.03 * BUDGET
    assert steps == pace.total
    shares = [pace.progress(s) for s in range(steps + 1)]
    assert shares[0] == 0
    assert all(a <= b for a, b in itertools.pairwise(shares))
    assert shares[-1] > 0.95, "the schedule is (nearly) at its end"
    if factor == 1:
        assert shares[-1] == pytest.approx(1)


def test_a_machine_that_changes_all_the_time():
    rough = lambda elapsed, step: 0.2 * (3 if int(elapsed / 17) % 2 else 1) * (1 + 0.3 * ((step * 7919) % 11) / 11)
    pace = Pace(None, [], BUDGET)
    _, seconds = train(pace, rough)
    assert seconds == pytest.approx(BUDGET, rel=0.03)


@pytest.mark.parametrize("one", [0.01, 5.0, 40.0, 1000.0])
def test_steps_that_are_short_or_longer_than_the_budget(one):
    pace = Pace(None, [], BUDGET)
    steps, seconds = train(pace, lambda elapsed, step: one)
    assert abs(seconds - BUDGET) <= max(one, 0.1 * BUDGET)
    assert steps >= 1


def test_rates_are_continuous_where_the_total_changes():
    schedule = Schedule(name="cosine", warmup_steps=5)
    pace = Pace(None, [], BUDGET)
    steps, _ = train(pace, changed(0.5, 3))
    rates = [rate_factor(schedule, s, 0, pace.progress(s)) for s in range(5, steps)]
    # one step late in the slow half counts three of the early ones: the largest fall of a cosine is π/2 a share
    assert max(a - b for a, b in itertools.pairwise(rates)) < 6 / steps
    assert rates == sorted(rates, reverse=True)


def test_a_resumed_run_follows_what_was_decided_and_keeps_its_time():
    whole = Pace(None, [], BUDGET)
    steps, _ = train(whole, changed(0.5, 3))
    again = Pace(None, whole.decisions, None)
    assert [again.progress(s) for s in range(steps)] == [whole.progress(s) for s in range(steps)]
    assert [again.evaluates(s, 4) for s in range(steps)] == [whole.evaluates(s, 4) for s in range(steps)]

    before = Pace(None, [], BUDGET)
    _, elapsed = train(before, changed(0.5, 3), until=300)
    shares = [before.progress(s) for s in range(301)]
    resumed = Pace(None, before.decisions, BUDGET)  # killed at step 300, saved at 290
    _, seconds = train(resumed, changed(0.5, 3), 290, elapsed - 10 * 0.3)
    assert [resumed.progress(s) for s in range(301)] == shares
    assert seconds == pytest.approx(BUDGET, rel=0.03)


def test_every_evaluation_comes_once():
    pace = Pace(None, [], BUDGET)
    steps, _ = train(pace, changed(0.4, 3))
    scored = [s for s in range(steps) if pace.evaluates(s, 4)]
    assert len(scored) == 3, "the last one is at the end"


@pytest.mark.parametrize(("total", "evaluations"), [(6, 1), (857, 4), (100, 7), (3, 5)])
def test_a_training_in_steps_is_as_it_was(total, evaluations):
    pace = Pace(total, [], None)
    assert [pace.progress(s) for s in range(total)] == [s / total for s in range(total)]
    old = {round(total * (i + 1) / evaluations) for i in range(evaluations)}
    assert {s for s in range(1, total + 1) if pace.evaluates(s, evaluations)} == old - {0}
    assert not pace.took(1, 100.0, 100.0)
    assert (pace.done(total - 1), pace.done(total)) == (False, True)
    assert not any(pace.evaluates(s, 0) for s in range(total))


@pytest.mark.parametrize(
    ("retimed", "message"),
    [
        ([[8, 100], [20, 90]], "ends at 90 steps, and train.steps is 100"),
        ([[20, 90], [8, 100]], "in order"),
        ([[8, 5], [20, 100]], "in order"),
    ],
)
def test_a_timing_that_does_not_fit_is_refused(retimed, message):
    data = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "detr"}}
    with pytest.raises(UsageError, match=message):
        Recipe.parse({**data, "train": {"steps": 100, "retimed": retimed}}, "r.yaml")


@pytest.mark.parametrize(
    ("warm_up", "total", "said"), [(60, 100, True), (50, 101, False), (0, 4, False), (9, None, False)]
)
def test_a_training_that_is_all_warm_up_says_so(capsys, warm_up, total, said):
    data = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "detr_lite"}}
    schedule = {"warmup_steps": warm_up}
    note_warm_up(Recipe.parse({**data, "train": {"steps": 5, "schedule": schedule}}, "r.yaml"), total)
    assert ("--set train.schedule.warmup_steps=10 fits" in capsys.readouterr().err) is said
