"""More steps for a finished run: a warm restart (SGDR, Loshchilov and Hutter, 2017)."""

import sys

from segcli.core.errors import UsageError
from segcli.engine.run_folder import RunFolder


def add_steps(run: RunFolder, steps: int, done: int) -> None:
    """Give a finished run of `done` steps `steps` in all: its schedule begins anew where the first one ended, at the
    full rate, with the weights, moments and average that it has.

    It is recorded in the run's recipe (`train.retimed`), which a training that repeats the recipe follows. Scores and
    costs are removed until the run is finished again. Nothing happens where the run has been given so many already.
    Raises UsageError for a run that is not finished, or that has as many steps. The run is claimed, its data checked.
    """
    recipe = run.recipe()
    if recipe.train.restarted and recipe.train.steps == steps:
        return
    if not run.finished():
        raise UsageError(
            f"{run.path} is not finished: more steps are for a finished run", hint=f"segcli train --resume {run.path}"
        )
    if steps <= done:
        raise UsageError(f"train.steps={steps}: {run.path} has done {done} already", hint="give the steps in all")
    retimed = [*(recipe.train.retimed or [(0, done)]), (done, steps)]
    lengths = {"epochs": None, "minutes": None, "steps": steps, "retimed": retimed}
    print(f"note: {run.path}: {steps - done} more steps, a warm restart at the full learning rate", file=sys.stderr)
    run.write_recipe(recipe.model_copy(update={"train": recipe.train.model_copy(update=lengths)}))
    for name in ("cost.json", "metrics.json"):
        (run.path / name).unlink(missing_ok=True)
