"""The table of tasks: what a task means is here alone. A model lists the tasks that it does (see its `build`)."""

import dataclasses

from segcli.core.dataset_info import DatasetInfo


@dataclasses.dataclass(frozen=True)
class Task:
    """primary: the score that decides which checkpoint is best. things: every thing is detected on its own. stuff:
    every pixel gets a class, stuff too. masks: labels need masks. fields: of every object (types.Field), by name.
    metric: the plugin of metrics/ that scores it; kinds: what the instance metric matches by. A task with fields is
    also scored by the metrics of the heads that learn them. recipe: what one's own data with such fields is trained by.
    """

    primary: str
    things: bool = True
    stuff: bool = False
    masks: bool = False
    fields: tuple[str, ...] = ()
    metric: str = "instance"
    kinds: tuple[str, ...] = ()
    recipe: str | None = None

    @property
    def objects(self) -> bool:
        """Whether predictions are objects with boxes and scores, not maps."""
        return not self.stuff

    @property
    def panoptic(self) -> bool:
        return self.things and self.stuff


TASKS = {
    "detection": Task("bbox_AP", kinds=("bbox",)),
    "instance": Task("segm_AP", masks=True, kinds=("bbox", "segm")),
    "semantic": Task("mIoU", things=False, stuff=True, masks=True, metric="semantic"),
    "panoptic": Task("PQ", stuff=True, masks=True, metric="panoptic"),
    "keypoints": Task("keypoints_AP", fields=("keypoints",), kinds=("bbox",), recipe="custom/keypoint_rcnn"),
    "densepose": Task("densepose_part_accuracy", fields=("densepose",), kinds=("bbox",), recipe="puppets/densepose"),
    "mesh": Task("mesh_AP", fields=("mesh",), kinds=("bbox",), recipe="solids/mesh_rcnn"),
}

# what a metric's objects are matched by, as titles call it, in order of showing
MATCHED = {"segm": "mask", "bbox": "box", "boundary": "boundary", "keypoints": "keypoints"}
PRIMARY = tuple(task.primary for task in TASKS.values())


def labelled_tasks(info: DatasetInfo, *, masks: bool) -> list[str]:
    """Every task that a dataset has labels for. masks: its objects have masks."""
    has = {
        "instance" if masks else "detection": info.num_things,
        "semantic": info.semantic,
        "panoptic": info.panoptic,
    }
    of_fields = [name for name, task in TASKS.items() if task.fields and set(task.fields) <= set(info.fields)]
    return [*(task for task, labels in has.items() if labels), *of_fields]


def field_task(info: DatasetInfo) -> str | None:
    """The task of the fields that every thing class of a dataset is meant to have, the last in the table that has a
    recipe; None where there is none."""
    bare = any(c.thing and not c.keypoints for c in info.categories)
    known = [name for name in labelled_tasks(info, masks=False) if TASKS[name].recipe and not info.panoptic]
    known = [name for name in known if name != "keypoints" or not bare]
    return known[-1] if known else None


def richest_task(info: DatasetInfo) -> str:
    """The task whose targets show most of a dataset's labels."""
    return "panoptic" if info.panoptic else "detection" if info.num_things else "semantic"
