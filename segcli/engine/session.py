"""The state of a training: everything that a resumed run needs, saved whole and put back exactly."""

import dataclasses
import math
import os
import signal
import sys
import time
from collections.abc import Collection
from types import FrameType
from typing import Any

import torch

from segcli.core import distributed
from segcli.core.errors import ModelError, SegcliError
from segcli.core.recipe.recipe import Recipe
from segcli.engine import training_state
from segcli.engine.checkpoint import load_state, load_strict, save_state
from segcli.engine.optimizer import MovingAverage, build_optimizer
from segcli.engine.run_folder import RunFolder
from segcli.models.interface import Model
from segcli.types import Batch
from segcli.weights.plain_tensors import refuse_unusable

ECHO = 1.0  # seconds within which a second signal counts as a repetition of the first


@dataclasses.dataclass
class Progress:
    """Progress of a training (all but its tensors), and what it has cost so far, summed over processes.

    seconds, cpu_seconds: of training alone, without evaluations. pixels: of the batches' canvases. cpu_seconds and
    pixels are None in a training that was started by an earlier version.
    """

    step: int = 0
    best: float = -1.0
    seconds: float = 0.0
    images: int = 0
    pixels: int | None = 0
    cpu_seconds: float | None = 0.0

    def add(self, batch: Batch, cpu_seconds: float) -> None:
        """Count one step: batch and CPU time of this process and, by a collective operation, of all others."""
        own = {"pixels": batch.images[:, 0].numel(), "cpu_seconds": cpu_seconds}
        spent = {key: value * distributed.world() for key, value in distributed.average(own).items()}
        self.step += 1
        self.images += len(batch.images) * distributed.world()
        if self.pixels is not None:
            self.pixels += round(spent["pixels"])
        if self.cpu_seconds is not None:
            self.cpu_seconds += spent["cpu_seconds"]


class Session:
    """One training: recipe, model, optimiser, moving average, progress, and the run folder that holds them.

    new: names of the parameters that learn first (`optimizer.set_rates`)."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        model: Model,
        total: int,
        device: torch.device,
        new: Collection[str] = (),
    ):
        self.run, self.recipe, self.model, self.total, self.device = run, recipe, model, total, device
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(model, recipe.train.optimizer, frozenset(new))
        self.average = MovingAverage(model, recipe.train.ema) if recipe.train.ema else None
        self.progress = Progress()

    def save(self) -> None:
        """Write checkpoints/last.pt; the one before it becomes previous.pt."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.average.state if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "rng": torch.get_rng_state(),
        }
        save_state(self.run.last, state, self.run.previous)

    def restore(self, state: dict[str, Any] | None = None) -> None:
        """Load checkpoints/last.pt (`state`, if it is read already). Raises ModelError if it does not fit."""
        state = load_state(self.run.last) if state is None else state
        training_state.check(state, str(self.run.last), self.optimizer, self.progress, self.total)
        if (self.average is None) != (state["ema"] is None):
            has = "no average" if state["ema"] is None else "an average"
            raise ModelError(
                f"{self.run.last}: does not fit the run's recipe: it holds {has} of the weights (train.ema)"
            )
        try:
            load_strict(self.model, state["model"], f"{self.run.last}: model")
            by_recipe = [dict(group) for group in self.optimizer.param_groups]
            self.optimizer.load_state_dict(state["optimizer"])
            self._follow_recipe(by_recipe)
            if self.average is not None:
                refuse_unusable(state["ema"], self.average.state, f"{self.run.last}: ema")
                self.average.restore(state["ema"])
            self.progress = Progress(**{**dict.fromkeys(training_state.ADDED), **state["progress"]})
            torch.set_rng_state(state["rng"])
        except ModelError:
            raise
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{self.run.last}: does not fit the run's recipe: {reason}") from error

    def _follow_recipe(self, by_recipe: list[dict[str, Any]]) -> None:
        """If the recipe was edited since the checkpoint, use its rates and weight decays, and print the change.

        by_recipe: the optimiser's parameter groups as the recipe defines them.
        """
        changed: dict[str, None] = {}
        for group, own in zip(self.optimizer.param_groups, by_recipe, strict=True):
            for key, value in own.items():
                before = group[key]
                if key in ("params", "lr") or before == value or (key == "betas" and tuple(before) == tuple(value)):
                    continue  # the rate itself is set in each step, from its base
                changed[f"{'lr' if key == 'base' else key} {before} -> {value}"] = None
                group[key] = value
        if changed and not distributed.rank():
            print(
                f"note: {self.run.path / 'recipe.yaml'} has changed since its checkpoint was saved, and counts from "
                f"here on: {', '.join(changed)}",
                file=sys.stderr,
            )

    def refuse_not_finite(self, numbers: dict[str, float], batch: Batch) -> None:
        """If a number is not finite: save the state before this step, and raise with step, images and term."""
        bad = [name for name, value in numbers.items() if not math.isfinite(value)]
        if not bad:
            return
        self.save()
        ids = ", ".join(str(i) for i in batch.image_ids)
        raise SegcliError(
            f"step {self.progress.step + 1}: {', '.join(bad)} not finite on image ids {ids}; "
            f"the state before it is saved in {self.run.last}",
            hint="segcli prepare --check on these images, or a lower train.optimizer.lr, or train.clip",
        )


class Interrupt:
    """First SIGINT/SIGTERM: stop after this step. A second one more than ECHO s later: exit now (torchrun repeats the
    first)."""

    def __init__(self) -> None:
        self.asked, self._when = False, 0.0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread (a notebook server): the caller's own handling stays
                return self
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._when > ECHO:
            os._exit(130)
        if self.asked:
            return
        self.asked, self._when = True, time.monotonic()
        print("\nstopping after this step …", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
