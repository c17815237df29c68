"""What each query says it has found."""

import torch

from segcli.explain.pictures import table
from segcli.explain.scene import Scene
from segcli.explain.view import Matrix, Picture, Shown, View
from segcli.ops.detr_inference import detections

ROWS, COLUMNS = 24, 9  # the best queries, and the classes that they name most


def build() -> View:
    return View(
        "Classes of the queries",
        "The probability that each query gives each class, best queries first. There are more queries than objects: "
        'in DETR and MaskFormer the rest say "no object", in models with a sigmoid a class they say nothing loudly.',
        ("DETR, section 3.1", "https://arxiv.org/abs/2005.12872"),
        detections,
        ("class_probabilities", "no_object"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    p_QC = scene.tensor("class_probabilities")[0]
    order, _, _ = scene.queries()
    classes = p_QC.shape[1] - bool(scene.inside["no_object"])
    strongest = p_QC[:, :classes].amax(0).argsort(descending=True, stable=True)[:COLUMNS].sort().values.tolist()
    columns = [*strongest, *([classes] if scene.inside["no_object"] else [])]
    names = [*(scene.info.names[k] for k in strongest), *(["no object"] if scene.inside["no_object"] else [])]
    queries = order[:ROWS]
    values = p_QC[queries][:, torch.tensor(columns)].numpy()
    rows = [f"query {q + 1}" for q in queries.tolist()]
    found = int((p_QC[:, :classes].amax(1) >= scene.score).sum())
    facts = [f"{found} of {len(p_QC)} queries have found something at a score of {scene.score:g} or more."]
    if len(strongest) < classes:
        facts.append(f"{len(strongest)} of {classes} classes are shown.")
    pictures = [Picture(table(values, rows, names), f"the best {len(rows)} of {len(p_QC)} queries")]
    return Shown(pictures, [Matrix(values, rows, names)], facts, columns=2)
