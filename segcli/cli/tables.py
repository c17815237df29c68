"""The tables of each command, as `output.show` takes them. Fractions are shown × 100 with one decimal."""

from collections.abc import Sequence
from typing import Any

from segcli.cli.output import MISSING, Column, Grid, number, percent

KINDS = {"segm": "mask", "bbox": "box", "boundary": "boundary", "keypoints": "keypoints"}  # in order of showing
SHARED = ("mIoU", "PQ", "PQ_things", "PQ_stuff", "mIoU_things")  # where families meet, after the primary metric
NOT_FRACTIONS = ("error", "chamfer")  # parts of the names of metrics that are no shares


def scores(document: dict[str, Any], title: str) -> list[Grid]:
    """metrics.json as one table for the whole split and one for the classes, best class first."""
    metrics, primary = document["metrics"], document["primary"]
    families = [k for k in KINDS if any(key.startswith(f"{k}_AP") for key in metrics)]
    out = []
    if families:
        families.sort(key=lambda k: not primary.startswith(k))
        parts = list(dict.fromkeys(key.split("_", 1)[1] for key in metrics if key.split("_")[0] in families))
        rows = [[KINDS[k], *(percent(metrics.get(f"{k}_{part}")) for part in parts)] for k in families]
        columns = [Column("", left=True), *(Column(p, best=primary.endswith(f"_{p}")) for p in parts)]
        out.append(Grid(columns, rows, title, bold=[0] if primary.startswith(families[0]) else []))
    others = [key for key in metrics if key.split("_")[0] not in families]
    if others:
        others.sort(key=lambda key: key != primary)
        columns = [Column("", left=True), Column("")]
        rows = [[key, score(key, metrics[key])] for key in others]
        out.append(Grid(columns, rows, "" if out else title, bold=[0] if others[0] == primary else []))
    classes = per_class(document["per_class"], primary)
    return [*out, classes] if classes else out


def per_class(classes: dict[str, dict[str, float]], primary: str) -> Grid | None:
    """One row a class, sorted by the primary metric; None without classes."""
    keys = list(dict.fromkeys(key for values in classes.values() for key in values))
    if not keys:
        return None
    keys.sort(key=lambda key: (not key.startswith(primary), not key.startswith(primary.split("_")[0])))
    order = sorted(classes, key=lambda name: (-classes[name].get(keys[0], -1), name))
    rows = [[name, *(score(key, classes[name].get(key)) for key in keys)] for name in order]
    columns = [Column(heading(key), drop=i, best=i == 0) for i, key in enumerate(keys)]
    return Grid([Column("class", left=True), *columns], rows)


def comparison(rows: Sequence[dict[str, Any]], metric: str | None, title: str) -> Grid:
    """Cost against score, one group of rows; the columns that matter least give way to a narrow terminal."""
    keys = [
        f"{kind}_{part}"
        for kind in sorted(KINDS, key=lambda k: not (metric or "").startswith(k))
        for part in ("AP", "AP50", "APs", "APm", "APl")
    ]
    scores = [row["metrics_published"] if row["source"] == "published" else row["metrics"] for row in rows]
    keys = [key for key in keys if any(key in one for one in scores)]
    rest = dict.fromkeys([*(r["primary"] for r in rows), *SHARED])
    keys += [key for key in rest if key not in keys and any(key in one for one in scores)]
    papers = rows[0]["source"] == "published"
    columns = [
        Column("", left=True),
        Column("name", left=True),
        Column("model", drop=5, left=True),
        Column("backbone", drop=6, left=True),
        Column("params\nM"),
        Column("GFLOPs"),
        *([Column("paper's\nparams M", drop=9), Column("paper's\nGFLOPs", drop=4)] if papers else []),
        Column("latency\nms", drop=1),
        Column("memory\nMB", drop=4),
        Column("training\nmin", drop=3),
    ]
    for key in keys:
        drop = {"AP": 2, "AP50": 7}.get(key.split("_")[-1], 8)
        columns.append(Column(heading(key), drop=0 if key == metric else drop, best=key == metric))
        if key == metric and any(key in row["ci95"] for row in rows):
            columns.append(Column("95 %", drop=7))
    cells = [
        [
            "★" if row["pareto"] else "",
            row["name"],
            " ".join(filter(None, (row["model"], row["variant"]))),
            row["backbone"] or MISSING,
            number(row["params"], 1e6, 1),
            number(row["gflops"], 1, 1),
            *([number(row["params_published"], 1e6), number(row["gflops_published"])] if papers else []),
            number((row["latency_ms"] or {}).get("median")),
            number(row["peak_memory_mb"]),
            number(row["train_seconds"], 60, 1),
            *(cell for key in keys for cell in _scored(row, one, key, metric, rows)),
        ]
        for row, one in zip(rows, scores, strict=True)
    ]
    caption = f"★ no other row has a higher {heading(metric, ' ')} for fewer GFLOPs" if metric else ""
    return Grid(columns, cells, title, caption, bold=[i for i, row in enumerate(rows) if row["pareto"]])


def _scored(
    row: dict[str, Any], scores: dict[str, float], key: str, metric: str | None, rows: Sequence[dict[str, Any]]
) -> list[str]:
    """A score's cell, with the interval of the group's metric after it where any row has one."""
    cells = [percent(scores.get(key))]
    if key == metric and any(key in other["ci95"] for other in rows):
        low_high = row["ci95"].get(key)
        cells.append(f"{100 * low_high[0]:.1f}–{100 * low_high[1]:.1f}" if low_high else MISSING)
    return cells


def forecast(document: dict[str, Any]) -> list[Grid | str]:
    """What `train --dry-run` found out."""
    cost, minutes = document["cost"], document["minutes"]
    height, width = cost["gflops_input"]
    facts = [
        ["train images", str(document["train_images"])],
        ["steps", f"{document['steps']:,} of {document['step_seconds']:.2f} s"],
        ["training time", f"{minutes:.1f} minutes (evaluation comes on top)"],
        ["first losses", ", ".join(f"{key} {value:.2f}" for key, value in document["losses"].items())],
        ["weights", ", ".join(w["source"] for w in document["weights"]) or "random"],
        ["trainable", f"{cost['params_trainable'] / 1e6:.2f} M of {cost['params'] / 1e6:.2f} M parameters"],
        ["inference", f"{number(cost['latency_ms']['median'])} ms an image of {height} × {width}"],
        ["peak memory", f"{number(cost['peak_memory_mb'])} MB at inference"],
    ]
    parts = [
        [name, number(part["params"], 1e6, 2), number(part["gflops"], 1, 2)] for name, part in cost["parts"].items()
    ]
    total = ["total", number(cost["params"], 1e6, 2), number(cost["gflops"], 1, 2)]
    uncounted = ", ".join(f"{u['op']} ×{u['calls']}" for u in cost["flops_uncounted"])
    return [
        Grid([Column("", left=True), Column("", left=True)], facts, document["recipe"]["name"]),
        Grid(
            [Column("part", left=True), Column("params M"), Column("GFLOPs")],
            [*parts, total],
            caption=f"1 multiply-add = 1 FLOP; not counted: {uncounted or 'nothing'}",
            bold=[len(parts)],
        ),
    ]


def dataset(facts: dict[str, Any]) -> list[Grid | str]:
    """What `prepare` made."""
    splits = facts["splits"]
    totals = [
        [name, *(f"{split[key]:,}" for key in ("images", "objects", "crowd", "without_objects"))]
        for name, split in splits.items()
    ]
    titles = ("images", "objects", "crowd\nregions", "images without\nobjects")
    out: list[Grid | str] = [
        Grid([Column("split", left=True), *map(Column, titles)], totals, f"{facts['name']}: {facts['root']}")
    ]
    if len(facts["categories"]) > 1:
        counts = [
            [name, *(f"{split['per_class'].get(name, 0):,}" for split in splits.values())]
            for name in facts["categories"]
            if any(name in split["per_class"] for split in splits.values())
        ]
        out.append(Grid([Column("class", left=True), *map(Column, splits)], counts))
    out += [f"{split}: {made(measured)}" for split, measured in facts["statistics"].items()]
    return [*out, *(f"note: {note}" for note in facts["notes"]), f"licence: {facts['licence']}"]


def made(measured: dict[str, Any]) -> str:
    """What a generated split is like, in a sentence; classes are counted in the table."""
    fewest, mean, most = measured["objects_per_image"]
    extents, stuff = measured["extents"], measured["stuff"].items()
    return (
        f"{fewest} to {most} objects an image, {mean:.1f} on average; {extents[0]:g} to {extents[-1]:g} pixels long, "
        f"half of them under {extents[len(extents) // 2]:g}; {measured['occluded']:.0%} have a fifth or more hidden; "
        f"ground: {', '.join(f'{name} {share:.0%}' for name, share in stuff)}"
    )


def findings(report: dict[str, Any], places: int = 5) -> list[Grid | str]:
    """The doctor's report: each kind of finding with its first places."""
    out: list[Grid | str] = [f"{report['root']}: {report['images']:,} images, {report['annotations']:,} annotations"]
    for finding in report["findings"]:
        out.append(f"{finding['severity']}: {finding['count']:,} × {finding['message']}")
        for item in finding["items"][:places]:
            annotation = "" if item["annotation_id"] is None else f"annotation {item['annotation_id']}"
            where = " ".join(filter(None, (item["split"], item["file_name"], annotation)))
            out.append("  " + ": ".join(filter(None, (where, item["detail"]))))
        if finding["count"] > places:
            out.append(f"  … and {finding['count'] - places:,} more (--json lists up to 100)")
    return out if report["findings"] else [*out, "nothing found"]


def score(key: str, value: Any) -> str:
    """A metric's value: × 100 where it is a share."""
    if value is not None and any(part in key for part in NOT_FRACTIONS):
        return f"{value:.3f}"
    return percent(value)


def heading(key: str, join: str = "\n") -> str:
    """segm_AP50 -> mask AP50, in two lines for a column; other metrics are called as they are."""
    kind, _, part = key.partition("_")
    return f"{KINDS[kind]}{join}{part}" if kind in KINDS and part else key
