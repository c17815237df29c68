"""The tables of each command, as `output.show` takes them. Fractions are shown × 100 with one decimal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segcli.cli.output import Column, Grid
from segcli.core.formatting import MISSING, count, heading, number, percent, score
from segcli.core.tasks import MATCHED

if TYPE_CHECKING:
    from segcli.commands.models import Known
    from segcli.commands.recipes import Shipped
    from segcli.compare.row import Row
    from segcli.core.run_files import Cost
    from segcli.data.findings import ReportJson

SHARED = ("mIoU", "PQ", "PQ_things", "PQ_stuff", "mIoU_things")  # where families meet, after the primary metric


def scores(document: Mapping[str, Any], title: str) -> list[Grid]:
    """metrics.json as one table for the whole split and one for the classes, best class first."""
    metrics, primary = document["metrics"], document["primary"]
    families = [k for k in MATCHED if any(key.startswith(f"{k}_AP") for key in metrics)]
    out = []
    if families:
        families.sort(key=lambda k: not primary.startswith(k))
        parts = list(dict.fromkeys(key.split("_", 1)[1] for key in metrics if key.split("_")[0] in families))
        rows = [[MATCHED[k], *(percent(metrics.get(f"{k}_{part}")) for part in parts)] for k in families]
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


def comparison(rows: Sequence["Row"], metric: str | None, title: str) -> Grid:
    """Cost against score, one group of rows; the columns that matter least give way to a narrow terminal."""
    from segcli.compare import tables as cells

    papers = [(column, drop) for column, drop in zip(cells.PAPER, (9, 4), strict=True) if rows[0].source == "published"]
    work = [(cells.COST["train_gflops"], 5)] if any(row.train_gflops for row in rows) else []
    shown = [
        *((cells.NAME, 0), (cells.MODEL, 5), (cells.BACKBONE, 6), (cells.COST["params"], 0), (cells.COST["gflops"], 0)),
        *papers,
        *((cells.COST["latency_ms"], 1), (cells.COST["peak_memory_mb"], 4), (cells.COST["train_seconds"], 3)),
        *work,
    ]
    columns = [Column("", left=True), *(Column(c.title, drop=drop, left=c.left) for c, drop in shown)]
    lines = [["★" if row.pareto else "", *(c.text(row) for c, _ in shown)] for row in rows]
    for key in shown_metrics(rows, metric):
        drop = {"AP": 2, "AP50": 7}.get(key.split("_")[-1], 8)
        columns.append(Column(heading(key), drop=0 if key == metric else drop, best=key == metric))
        bounds = key == metric and any(key in row.ci95 for row in rows)
        columns += [Column("95 %", drop=7)] if bounds else []
        for row, line in zip(rows, lines, strict=True):
            line += [score(key, row.scores.get(key)), *([cells.interval(row, key) or MISSING] if bounds else [])]
    return Grid(
        columns, lines, title, cells.star_caption(rows, metric), [i for i, row in enumerate(rows) if row.pareto]
    )


def shown_metrics(rows: Sequence["Row"], metric: str | None) -> list[str]:
    """The scores that a group's table has: AP by what is matched, the kind of `metric` first; then what tasks and
    families share; then those that a head beside segcli's own begins with its name."""
    kinds = sorted(MATCHED, key=lambda kind: not (metric or "").startswith(kind))
    keys = [f"{kind}_{part}" for kind in kinds for part in ("AP", "AP50", "APs", "APm", "APl")]
    keys += [*(row.primary for row in rows), *SHARED]
    of_heads = [key for r in rows for key in r.metrics if key.startswith(tuple(f"{h}_" for h in r.heads or ()))]
    known = {key for row in rows for key in row.scores}
    return [key for key in dict.fromkeys([*keys, *of_heads]) if key in known]


def forecast(document: dict[str, Any]) -> list[Grid | str]:
    """What `train --dry-run` found out."""
    from segcli.compare.tables import can

    cost, needs = document["cost"], document["forecast"]
    height, width = cost["gflops_input"]
    times, machine, over = cost["latency_ms"], cost["machine"], cost["gflops_dataset"]
    facts = [
        ["train images", str(document["train_images"])],
        ["steps", f"{needs['steps']:,} of {needs['step_seconds']:.2f} s"],
        ["time", f"{needs['train_minutes']:.1f} minutes of training + {needs['evaluation_minutes']:.1f} of evaluation"],
        ["peak memory", f"{needs['peak_memory_mb']:,} MB of {number(needs['free_memory_mb'])} MB free"],
        [
            "disk",
            f"{needs['disk_mb']:,} MB, {needs['disk_peak_mb']:,} MB while saving, of {needs['free_disk_mb']:,} MB free",
        ],
        ["this machine", can(needs)],
        ["first losses", ", ".join(f"{key} {value:.2f}" for key, value in document["losses"].items()) or MISSING],
        ["weights", ", ".join(w["source"] for w in document["weights"]) or "random"],
        ["trainable", f"{cost['params_trainable'] / 1e6:.2f} M of {cost['params'] / 1e6:.2f} M parameters"],
        [
            "inference",
            f"{number(times['median'])} ms an image of {height} × {width} (95th percentile {number(times['p95'])}, "
            f"{cost['measured_on']['threads']} threads), {number(cost['peak_memory_mb'])} MB, {machine['share']:.0%} "
            f"of this machine's {machine['gflops_per_second']:.0f} GFLOP/s",
        ],
        ["GFLOPs", f"{over['mean']:.2f} ± {over['sd']:.2f} over the dataset's sizes"],
    ]
    return [
        Grid([Column("", left=True), Column("", left=True)], facts, document["recipe"]["name"]),
        parts(cost),
    ]


def parts(cost: "Cost") -> Grid:
    """cost.json by part, with what is not counted."""
    from segcli.compare.tables import not_counted, part_cells

    rows = part_cells(cost)
    total = ["total", number(cost["params"], 1e6, 2), number(cost["gflops"], 1, 2), ""]
    return Grid(
        [Column("part", left=True), Column("params M"), Column("GFLOPs"), Column("regions × each", drop=1)],
        [*rows, total],
        caption=f"1 multiply-add = 1 FLOP; not counted, with the share of all calls that compute: {not_counted(cost)}",
        bold=[len(rows)],
    )


def forecasts(rows: Sequence["Row"]) -> Grid | None:
    """What training the recipes among the rows would take; None where there are none."""
    from segcli.compare.tables import FORECAST, forecast_cells

    columns = [Column("name", left=True), *map(Column, FORECAST), Column("this machine", left=True)]
    cells = forecast_cells(rows)
    return Grid([*columns, Column("", drop=1, left=True)], cells, "To train these here") if cells else None


def dataset(facts: dict[str, Any]) -> list[Grid | str]:
    """What `prepare` made."""
    splits = facts["splits"]
    counted = {"images": "images", "objects": "objects", "crowd": "crowd\nregions"}
    counted["without_objects"] = "images without\nobjects"
    if not any(split["objects"] for split in splits.values()):
        counted = {"images": "images"}  # label maps
    totals = [[name, *(f"{split[key]:,}" for key in counted)] for name, split in splits.items()]
    columns = [Column("split", left=True), *map(Column, counted.values())]
    out: list[Grid | str] = [Grid(columns, totals, f"{facts['name']}: {facts['root']}")]
    out += [*class_counts(facts), *statistics(facts)]
    out += [f"{split}: {made(measured)}" for split, measured in facts["statistics"].items()]
    return [*out, *(f"note: {note}" for note in facts["notes"]), f"licence: {facts['licence']}"]


SHOWN = 25  # classes in the table of `prepare`, where there are more than five more


def class_counts(facts: dict[str, Any]) -> list[Grid | str]:
    """Objects of each class in each split, where there are several classes; of very many the most frequent ones. Label
    maps alone have names."""
    splits, names = facts["splits"], facts["categories"]
    if len(names) < 2:
        return []
    totals = {name: sum(split["per_class"].get(name, 0) for split in splits.values()) for name in names}
    used = [name for name in names if totals[name]]
    if not used:
        return [f"{len(names)} classes: {', '.join(names[:SHOWN])}" + (", …" if len(names) > SHOWN else "")]
    shown, rest = used, []
    if len(used) > SHOWN + 5:
        shown = sorted(used, key=lambda name: -totals[name])[:SHOWN]
        rarest = min(used, key=lambda name: totals[name])
        more = f"{len(used) - SHOWN} rarer classes, down to {rarest} with {totals[rarest]:,}"
        rest = [f"and {more} (--json lists all)", ""]
    rows = [[name, *(f"{split['per_class'].get(name, 0):,}" for split in splits.values())] for name in shown]
    return [Grid([Column("class", left=True), *map(Column, splits)], rows), *rest]


def statistics(facts: dict[str, Any]) -> list[Grid | str]:
    """Objects, shapes and images of each split, and the advice that follows."""
    splits = facts["splits"]
    out: list[Grid | str] = []
    if any(split["extent"] for split in splits.values()):
        rows = [[name, *(row[name] for row in map(measured, splits.values()))] for name in MEASURED]
        caption = "ranges are the middle 90 %; crowd regions aside"
        out.append(Grid([Column("", left=True), *map(Column, splits)], rows, "Objects", caption))
    advice = [[a["topic"], a["advice"], a["why"]] for a in facts["advice"]]
    columns = [Column("", left=True), Column("advice", left=True), Column("because", left=True)]
    return [*out, Grid(columns, advice, "Advice")] if advice else out


MEASURED = (
    "an image has",
    "small, medium, large",
    "length in pixels",
    "share of the image",
    "width : height",
    "images",
)


def measured(split: dict[str, Any]) -> dict[str, str]:
    """The rows of one split; what has no objects has no shapes."""
    spread = lambda values, unit=1: (
        f"{values[0] * unit:.3g} – {values[4] * unit:.3g}, median {values[2] * unit:.3g}" if values else MISSING
    )
    held = split["objects_per_image"]
    values = [
        f"{held['min']} to {held['max']}, mean {held['mean']:g} objects" if split["images"] else MISSING,
        ", ".join(f"{n:,}" for n in split["sizes"].values()),
        spread(split["extent"]),
        spread(split["share"], 100) + " %" if split["share"] else MISSING,
        spread(split["aspect"]),
        f"{split['image_width'][2]:g} × {split['image_height'][2]:g} (median)" if split["images"] else MISSING,
    ]
    return dict(zip(MEASURED, values, strict=True))


def made(measured: dict[str, Any]) -> str:
    """What a generated split is like, in a sentence; classes are counted in the table."""
    fewest, mean, most = measured["objects_per_image"]
    extents, stuff = measured["extents"], measured["stuff"].items()
    return (
        f"{fewest} to {most} objects an image, {mean:.1f} on average; {extents[0]:g} to {extents[-1]:g} pixels long, "
        f"half of them under {extents[len(extents) // 2]:g}; {measured['occluded']:.0%} have a fifth or more hidden; "
        f"ground: {', '.join(f'{name} {share:.0%}' for name, share in stuff)}"
    )


def repairs(done: list[dict[str, Any]], places: int = 5) -> list[Grid | str]:
    """What `--fix` did, by kind, each with its first places."""
    kinds = dict.fromkeys(repair["code"] for repair in done)
    out: list[Grid | str] = []
    for code in kinds:
        own = [repair for repair in done if repair["code"] == code]
        out.append(f"fixed: {len(own):,} × {code.replace('_', ' ')}")
        for repair in own[:places]:
            annotation = "" if repair["annotation_id"] is None else f"annotation {repair['annotation_id']}"
            out.append(
                f"  {' '.join(filter(None, (repair['split'], repair['file_name'], annotation)))}: {repair['action']}"
            )
        if len(own) > places:
            out.append(f"  … and {len(own) - places:,} more (prepared.json lists all)")
    return out or ["nothing to fix"]


def findings(report: "ReportJson", places: int = 5) -> list[Grid | str]:
    """The doctor's report: each kind of finding with its first places."""
    out: list[Grid | str] = [
        f"{report['root']}: {count(report['images'], 'image')}, {count(report['annotations'], 'annotation')}"
    ]
    for finding in report["findings"]:
        out.append(f"{finding['severity']}: {finding['count']:,} × {finding['message']}")
        for item in finding["items"][:places]:
            annotation = "" if item["annotation_id"] is None else f"annotation {item['annotation_id']}"
            where = " ".join(filter(None, (item["split"], item["file_name"], annotation)))
            out.append("  " + ": ".join(filter(None, (where, item["detail"]))))
        if finding["count"] > places:
            out.append(f"  … and {finding['count'] - places:,} more (--json lists up to 100)")
    if not report["findings"]:
        out.append("nothing found")
    if report["self_test"]:
        scores = ", ".join(f"{key} {percent(value)}" for key, value in report["self_test"].items())
        out.append(f"self-test (labels as predictions): {scores}")
    return out


def exported(facts: dict[str, Any]) -> list[Grid]:
    """What `prepare --to` wrote: images by split, and what the format has no place for."""
    rows = [[split, str(images)] for split, images in facts["splits"].items()]
    title = f"{facts['name']}: {facts['root']} ({facts['format']})"
    return [Grid([Column("split", left=True), Column("images")], rows, title, "\n".join(facts["notes"]))]


def recipes(rows: "Sequence[Shipped]") -> Grid:
    """The shipped recipes; a dash where a recipe expects no score."""
    columns = [
        Column("recipe", left=True),
        Column("task", left=True),
        Column("model", left=True, drop=3),
        Column("data", left=True, drop=2),
        Column("begins with", left=True, drop=4),
        Column("training", drop=1),
        Column("expected score", left=True),
    ]
    body = [
        [
            row.name,
            row.task,
            row.model,
            row.data or "your own",
            row.start or MISSING,
            row.length,
            ", ".join(
                f"{heading(key, ' ')} {score(key, one['value'])} ± {score(key, one['tolerance'])}"
                for key, one in row.expected.items()
            )
            or MISSING,
        ]
        for row in rows
    ]
    return Grid(columns, body)


def models(rows: "Sequence[Known]") -> Grid:
    """Models with published weights."""
    columns = [
        Column("model", left=True),
        Column("task", left=True, drop=4),
        Column("params M"),
        Column("GFLOPs", drop=2),
        Column("published", left=True),
        Column("licence", left=True, drop=1),
        Column("MB", drop=3),
        Column("here", left=True),
    ]
    body = [
        [
            row.name,
            row.task,
            f"{row.params / 1e6:.1f}",
            number(row.gflops),
            ", ".join(f"{heading(key, ' ')} {score(key, value)}" for key, value in row.score.items()),
            row.licence,
            MISSING if row.megabytes is None else f"{row.megabytes:.0f}",
            "yes" if row.on_disk else MISSING,
        ]
        for row in rows
    ]
    return Grid(columns, body)


def behind(found: Sequence[Mapping[str, object]]) -> list[str]:
    """What costs most of a score, the costliest first."""
    lines = [f"{number}. {one['what']}. {one['advice']}." for number, one in enumerate(found, start=1)]
    return lines or ["Nothing stands out: no kind of error, class or size costs a hundredth of the score."]
