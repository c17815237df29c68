"""`segcli eval`: score a run folder, or a recipe with weights, on a split."""

import dataclasses
from pathlib import Path

from segcli.data.dataset import Dataset
from segcli.data.fingerprint import current
from segcli.engine.diagnosis import print_causes
from segcli.engine.evaluation import Scores, Suppression, score_model
from segcli.engine.exported import results_folder
from segcli.engine.findings import findings
from segcli.engine.opening import open_model, prepare_layout
from segcli.engine.run_folder import RunFolder
from segcli.engine.same_data import check_classes, say_changes
from segcli.models.interface import Model


def evaluate(
    run: str | Path,
    *,
    weights: str | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Score a run folder, a recipe with weights or an exported file. -> {"segm_AP": 0.43, ...}, as in metrics.json.
    A file's scores and predictions are kept in the run folder beside it, FILE.run.

    weights: `last` (default), `best` or a file. data: another dataset's folder, with the same classes. split: the
    recipe's by default. A run's own metrics.json and predictions/ are rewritten (see `score_run`).
    Raises ModelError where weights or classes don't fit, DataError where the dataset can't be read.
    """
    return score_run(run, weights=weights, data=data, split=split, progress=progress).metrics


def score_run(
    run: str | Path,
    *,
    weights: str | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    progress: bool = True,
    nms: Suppression | None = None,
    diagnose: bool = False,
) -> Scores:
    """`evaluate` with everything it measured.

    The run's files are updated only if its own last weights were scored on its own data: predictions/SPLIT.json, and
    metrics.json if the split is the recipe's. Other weights or other data write nothing. With `nms` (see
    `score_model`) a run's metrics.json alone is added to: its "nms" holds the scores with each setting. diagnose: also
    the findings that matter most.
    """
    opened = open_model(run, weights=weights)
    recipe = opened.recipe
    model: Model = prepare_layout(opened.model)
    if opened.exported is not None and data is None:
        opened.path = results_folder(opened.exported, opened.model, recipe)
    chosen = split or recipe.eval.split
    names = recipe.data.split_file if data is None else None
    dataset = Dataset(
        data or recipe.data.root,
        chosen,
        split_file=recipe.resolve(names) if names else None,
        task=recipe.task,
        fields=model.fields,
    )
    check_classes(opened.info, dataset.info, str(run), str(dataset.root))
    if opened.path or opened.exported:  # more than 8 bits are read as in training, whatever was decided for other data
        dataset.info = dataclasses.replace(dataset.info, value_range=opened.info.value_range)
    own = opened.path is not None and data is None
    changed = own and say_changes(opened.info, dataset.root, dataset.info, Path(run))
    folder = RunFolder(opened.path) if opened.path and data is None and weights in (None, "last") else None
    keep = folder.path / "predictions" / f"{chosen}.json" if folder and nms is None else None
    beside = folder if folder and chosen == recipe.eval.split and nms is not None else None
    if beside:
        beside.read_metrics()  # a run that is not finished has none: an error before any work
    if folder and keep:
        folder.read_log()  # that tells why it scores as it does, afterwards
    device = model.device
    scores = score_model(
        model, dataset, recipe, device=device, progress=progress, keep=keep, nms=nms, diagnose=diagnose
    )
    if diagnose:
        found = findings(recipe, model, scores.metrics, scores.per_class, scores.behind)
        scores.findings = [dataclasses.asdict(one) for one in found]
    if changed:
        scores.changed_data = current(dataset.root, dataset.info)
    if folder and keep:
        scores.diagnosis = print_causes(folder, recipe, model, dataset, scores.metrics, keep)
    if beside and nms is not None:
        stored = beside.read_metrics()
        setting = "off" if nms.overlap is None else f"{nms.overlap:g}"
        stored["nms"] = {**stored.get("nms", {}), setting: {**scores.metrics}}
        beside.write_metrics(stored)
    elif folder and chosen == recipe.eval.split:
        folder.write_metrics(scores.to_json(recipe, split=chosen, weights="last"))
    return scores
