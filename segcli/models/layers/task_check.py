"""Refuse a task that a model does not do, or one without a class to learn."""

from segcli.core.errors import UsageError
from segcli.core.tasks import TASKS


def check_task(
    model: str,
    does: tuple[str, ...],
    task: str,
    *,
    num_classes: int = 0,
    num_things: int = 0,
    reason: str = "",
    with_masks: str | None = None,
) -> int:
    """The number of classes that a model learns in `task`: of things, or of all where the task has stuff.

    does: the tasks that the model does. reason: why not others. with_masks: the model to name to whom asks for a task
    with masks. Raises UsageError for another task, or where there is no such class.
    """
    if task not in does:
        instead = f", or model.name: {with_masks}" if with_masks and TASKS[task].masks else ""
        raise UsageError(
            f"model {model} does not do task {task!r}{reason and f': {reason}'}",
            hint="tasks: " + ", ".join(does) + instead,
        )
    classes = num_classes if TASKS[task].stuff else num_things
    if not classes:
        raise UsageError(f"model {model} needs thing classes for task {task}, and the dataset declares none")
    return classes
