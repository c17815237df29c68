"""What a pretraining is worth so far: a short training of another recipe that begins with the run's present weights. It
runs in a process of its own, and so takes nothing from this one's random numbers."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from segcli.core.parent import begin_training, training_error
from segcli.core.recipe.recipe import Recipe
from segcli.core.run_files import read_metrics
from segcli.engine.checkpoint import save_weights
from segcli.engine.session import Session

POLL = 0.1  # seconds
SAME = ("device", "precision", "workers", "threads")  # of `hardware`: as in the run itself


def probe(session: Session, stopped: Callable[[], bool], quiet: bool) -> Mapping[str, float | None] | None:
    """Fine-tune `train.probe.recipe` from the weights that the model has now, and keep its val scores alone.

    -> the scores; None where `stopped` ended it. Raises SegcliError with the training's own message where it failed.
    """
    settings = session.recipe.train.probe
    assert settings is not None
    step = session.progress.step
    weights = session.run.best.with_name("probe.safetensors")  # as a checkpoint of the run, it has the run's classes
    try:
        save_weights(weights, session.model.state_dict(), {"step": str(step)})
        with tempfile.TemporaryDirectory(prefix="segcli-probe-") as place:
            if not _trained(_arguments(session.recipe, weights, place), Path(place), stopped):
                return None
            found = read_metrics(Path(place) / "run")
    finally:
        weights.unlink(missing_ok=True)
    if not quiet:
        primary, value = found["primary"], found["metrics"].get(found["primary"])
        score = "no score" if value is None else f"{primary} {100 * value:.1f}"
        print(f"step {step}: {settings.recipe} from here, {settings.steps} steps: {score}", file=sys.stderr)
    return found["metrics"]


def _arguments(recipe: Recipe, weights: Path, place: str) -> list[str]:
    settings = recipe.train.probe
    assert settings is not None
    length = {"minutes": None, "epochs": None, "steps": settings.steps, "evaluations": 1, "probe": None}
    changes: dict[str, object] = {"init": str(weights.absolute())}
    changes |= {f"train.{key}": value for key, value in length.items()}
    changes |= {f"hardware.{key}": getattr(recipe.hardware, key) for key in SAME}
    flags = [f"--set={key}={json.dumps(value)}" for key, value in changes.items()]
    return [settings.recipe, "--out", f"{place}/run", "--quiet", *flags]


def _trained(arguments: list[str], place: Path, stopped: Callable[[], bool]) -> bool:
    """False where it was stopped before it ended."""
    with (place / "printed.txt").open("w+", encoding="utf-8") as printed:
        process = begin_training(arguments, printed)
        try:
            while process.poll() is None and not stopped():
                time.sleep(POLL)
            ended = process.poll() is not None
        finally:
            process.terminate()  # nothing where it has ended
            process.wait()
        printed.seek(0)
        if ended and process.returncode:
            raise training_error(arguments, process.returncode, printed.read().splitlines())
    return ended
