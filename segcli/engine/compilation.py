"""`hardware.compile`: torch.compile of a model's backbone, for training steps.

The backbone alone has fixed shapes: later ones depend on the number of objects, and a whole step would be compiled
again and again. Scoring, costs and predictions run the same weights uncompiled: each would cost another compilation.
"""

import contextlib
import sys
from collections.abc import Iterator

import torch

from segcli.core.errors import SegcliError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.stages import chosen
from segcli.models.interface import Model

BACKEND = "inductor"


def compile_backbone(model: Model, recipe: Recipe) -> None:
    """Compile the model's backbone at its next training step, where the recipe's `hardware.compile` asks for it.

    Parameters keep their names, and outputs are equal but for rounding. Raises UsageError for inputs of several sizes,
    each of which would be compiled anew, and for a model without a backbone.
    """
    if not recipe.hardware.compile:
        return
    if not model.preprocess.square and "crop" not in chosen(recipe.data.augment):
        raise UsageError(
            "hardware.compile needs inputs of one size",
            hint="set data.size to a number or data.augment.crop, or hardware.compile to false",
        )
    trunk = model.trunk()
    if trunk is None:
        raise UsageError(f"hardware.compile: model {recipe.model['name']} has no backbone to compile")
    trunk.compile(dynamic=False, backend=BACKEND)


def uncompiled() -> contextlib.AbstractContextManager[None]:
    """Within the context, compiled modules run as they are written."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        return contextlib.nullcontext()
    eager: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return eager


@contextlib.contextmanager
def compiler_errors() -> Iterator[None]:
    """Within the context, a compiler's error is one SegcliError that names the setting."""
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise SegcliError(
            f"hardware.compile: this model's backbone can't be compiled here: {' '.join(lines[:2]):.300}",
            hint="hardware.compile: false trains without; a C++ compiler is needed on CPUs",
        ) from error
