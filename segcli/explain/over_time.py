"""The same views at several moments of a training: before its first step, at the checkpoint before the last, at the
last."""

from collections.abc import Iterator, Mapping

import torch

from segcli.core.errors import UsageError
from segcli.engine import input_rule
from segcli.engine.checkpoint import load_state, load_strict
from segcli.engine.opening import Opened, build, start
from segcli.engine.run_folder import RunFolder
from segcli.engine.training_state import steps_done, weights_of
from segcli.explain.view import Picture, Shown


def moments(opened: Opened) -> Iterator[tuple[str, Opened]]:
    """("step 0", the model as the training began it), then each checkpoint's, one after the other; the last is
    `opened`.

    Raises UsageError for what is no run, ModelError where a checkpoint or the weights that it began with can't be read.
    """
    if opened.path is None:
        raise UsageError("--over-time is for runs: a recipe with weights has no training to look back at")
    run, recipe, info = RunFolder(opened.path), opened.recipe, opened.info
    last = steps_done(load_state(run.last), str(run.last))
    begun, _ = start(recipe, info)
    input_rule.follow(begun, run.environment())
    yield "step 0", Opened(begun.eval(), recipe, info, opened.path)
    if run.previous.is_file():
        state = load_state(run.previous)
        if 0 < (step := steps_done(state, str(run.previous))) < last:
            with torch.random.fork_rng():
                model = build(recipe, info)
            input_rule.follow(model, run.environment())
            load_strict(model, weights_of(state, str(run.previous)), str(run.previous))
            yield f"step {step:,}", Opened(model.eval(), recipe, info, opened.path)
    yield f"step {last:,}", opened


def together(by_moment: Mapping[str, Shown]) -> Shown:
    """One view at all moments: the first group of each one's pictures, in groups of their own."""
    out = Shown(columns=next(iter(by_moment.values())).columns)
    for moment, shown in by_moment.items():
        first = shown.pictures[0].group if shown.pictures else ""
        own = [picture for picture in shown.pictures if picture.group == first]
        name = f"{moment}: {first}" if first else moment
        out.pictures += [Picture(picture.pixels, picture.caption, name) for picture in own]
        out.facts += [f"At {moment}: {fact}" for fact in shown.facts]
    return out
