"""Who is matched with whom: the Hungarian matching of queries with labelled objects, and the costs that decide it."""

import torch
from torch import Tensor

from segcli.drawing.colours import Rgb
from segcli.explain.pictures import boxes_over, hues, table
from segcli.explain.scene import Scene
from segcli.explain.view import Matrix, Picture, Shown, View
from segcli.ops.boxes import from_masks
from segcli.ops.matcher import match, total

COLUMNS = 12  # objects of the table
OTHERS = 6  # unmatched queries of the table: those that would have cost least
LABEL: Rgb = (255, 255, 255)


def build() -> View:
    return View(
        "Hungarian matching with the labels",
        "Each labelled object (white) gets one query (its number, in colour), so that the sum of all costs is least; "
        "the framed cells of the table are the pairs. All other queries learn to say that there is nothing.",
        ("DETR, section 3.1, equations 1 and 2", "https://arxiv.org/abs/2005.12872"),
        match,
        ("matching", "costs", "labels"),
        _draw,
        labels=True,
    )


def _draw(scene: Scene) -> Shown:
    pairs, costs = scene.inside["matching"], scene.inside["costs"]
    assert isinstance(pairs, list)
    assert isinstance(costs, list)
    (queries, objects), parts = (v.cpu() for v in pairs[0]), {k: v.cpu() for k, v in costs[0].items()}
    labels = scene.tensor("labels")
    if not len(labels):
        return Shown(facts=["The image has no labelled object: every query learns to say that there is nothing."])
    cost = total(parts)
    columns = objects.sort().values[:COLUMNS]
    own = {int(n): int(q) for q, n in zip(queries, objects, strict=True)}
    rows = [own[n] for n in columns.tolist()]
    rest = torch.tensor([q for q in cost[:, columns].amin(1).argsort().tolist() if q not in set(queries.tolist())])
    rows += rest[:OTHERS].int().tolist()
    marked = [(k, k) for k in range(len(columns))]
    names = [f"{n + 1} {scene.name(int(labels[n]))}" for n in columns.tolist()]
    matrix = Matrix(
        cost[rows][:, columns].numpy(),
        [f"query {q + 1}" for q in rows],
        names,
        marked,
        {name: part[rows][:, columns].numpy() for name, part in parts.items()},
    )
    facts = [f"{len(objects)} of {len(cost)} queries are matched with {len(labels)} labelled objects."]
    if len(labels) > len(cost):
        facts.append(f"There are more objects than queries: {len(labels) - len(cost)} teach nothing.")
    if len(columns) < len(objects):
        facts.append(f"The table shows {len(columns)} of them.")
    pictures = [Picture(table(matrix.values, matrix.rows, names, marked), "costs: " + " + ".join(parts))]
    target, predicted = _boxes(scene)
    if target is not None and predicted is not None:
        white: list[Rgb] = [LABEL] * len(columns)
        both = torch.cat([target[columns], predicted[rows[: len(columns)]]])
        texts = [*[""] * len(columns), *(f"{q + 1}" for q in rows[: len(columns)])]
        drawn = boxes_over(scene.canvas, both, [*white, *hues(len(columns))], texts)
        pictures.insert(0, Picture(drawn, "labels and their queries"))
    return Shown(pictures, [matrix], facts, columns=2)


def _boxes(scene: Scene) -> tuple[Tensor | None, Tensor | None]:
    """Boxes [N,4] of the labels and [Q,4] of the queries on the canvas; of masks where the model has no boxes."""
    if "target_boxes" in scene.inside:
        return scene.tensor("target_boxes"), scene.tensor("boxes")[0]
    masks, logits = scene.tensor("masks"), scene.tensor("mask_logits")[0]
    step = scene.batch.images.shape[3] / logits.shape[2]
    return from_masks(masks), from_masks(logits > 0) * step
