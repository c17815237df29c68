"""Which rows may be compared, in which order, and which of them no other one beats."""

from collections import Counter
from collections.abc import Sequence

from segcli.compare.equal_work import mark_unequal, unequal, unrecorded
from segcli.compare.row import COSTS, Row
from segcli.core.errors import UsageError
from segcli.core.formatting import count
from segcli.core.plugins import nearest
from segcli.core.tasks import PRIMARY

TEXTS = ("name", "model", "backbone")
BUSY = 1.5  # times the speed at one matrix product that this machine may have had between two measurements
Place = tuple[str, str, str | None, str | None, int | None]  # data, split, its digest, fingerprint, images


def rank(rows: Sequence[Row], sort: str | None = None) -> list[list[Row]]:
    """Rows in groups that were scored on the same images and by one metric, each sorted, its Pareto-optimal rows
    marked.

    sort: a cost or text (ascending) or a metric (descending); None is the group's own metric (`accuracy`). Rows without
    the number come last. A recipe that was not trained stands with the runs on its dataset. Raises UsageError for an
    unknown key.
    """
    _check_key(sort, rows)
    groups: dict[Place, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.source != "run"):
        groups.setdefault(_place(row, list(groups)), []).append(row)
    out = [part for members in groups.values() for part in by_metric(members)]
    for members in out:
        metric = accuracy(members)
        mark_unequal(members)
        mark(members, metric)
        key = sort or metric or "gflops"
        members.sort(key=lambda r: _order(r, key))
    return out


def by_metric(rows: Sequence[Row]) -> list[list[Row]]:
    """`rows` in as few parts as have a metric in common, the largest first: boxes of DETR and Mask R-CNN, label maps of
    FCN. A row without scores stands with those whose task is nearest."""
    scored, rest = [r for r in rows if r.scores], [r for r in rows if not r.scores]
    if not scored or accuracy(rows) is not None:
        return [list(rows)]
    out: list[list[Row]] = []
    while scored:
        owners = {key: [r for r in scored if key in r.scores] for key in PRIMARY}
        best = max(owners.values(), key=lambda of: (len(of), sum(owners.get(r.primary) is of for r in of)))
        out.append(best or scored)
        scored = [r for r in scored if r not in best] if best else []
    for row in rest:
        same = (part for part in out if any(r.primary == row.primary for r in part))
        next(same, out[0]).append(row)
    return out


def accuracy(rows: Sequence[Row]) -> str | None:
    """The most common primary metric among those every scored row has."""
    scored = [r for r in rows if r.scores]
    votes = [key for key, _ in Counter(r.primary for r in scored).most_common()]
    shared = [key for key in [*votes, *PRIMARY] if all(key in r.scores for r in scored)]
    return shared[0] if scored and shared else None


def mark(rows: Sequence[Row], metric: str | None, cost: str = "gflops") -> None:
    """Set `pareto` where no other row is at least as good at no more cost, and better in one of the two.

    Rows that are not compared (see `unequal`) neither beat one another nor stand out against one another: one that has
    no other row to be held against is not marked.
    """
    points = [(r, r.cost(cost), r.scores.get(metric or "")) for r in rows]
    known = [(r, price, gain) for r, price, gain in points if price is not None and gain is not None]
    for row in rows:
        row.pareto = False
    for row, price, gain in known:
        against = [(p, g) for other, p, g in known if other is not row and not unequal(row, other)]
        beaten = any(p <= price and g >= gain and (p < price or g > gain) for p, g in against)
        row.pareto = bool(against) and not beaten


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """The metrics by which runs of a group are told apart: its own, then every primary one that two or more have."""
    own = accuracy(rows)
    runs = [r for r in rows if r.source == "run"]
    shared = [key for key in PRIMARY if sum(key in r.metrics for r in runs) > 1]
    return list(dict.fromkeys([*([own] if own else []), *shared]))


def group_title(rows: Sequence[Row]) -> str:
    """Data, split and number of images that the group's scores are of."""
    if rows[0].source == "published":
        return rows[0].data
    run = next((r for r in rows if r.source == "run"), rows[0])
    images = f", {count(run.images, 'image')}" if run.images else ""
    return f"{run.data} {run.split}{images}"


def notes(groups: Sequence[Sequence[Row]]) -> list[str]:
    """What a reader has to know beside the numbers."""
    rows = [r for group in groups for r in group]
    out = [note for r in rows for note in r.notes]
    parts = [[r for r in g if r.source == "run"] for g in groups]
    places: dict[Place, list[list[Row]]] = {}
    for part in filter(None, parts):
        places.setdefault(_place(part[0], ()), []).append(part)
    for apart in places.values():
        if len(apart) > 1:
            by = (f"{', '.join(r.name for r in part)} by {accuracy(part) or 'nothing'}" for part in apart)
            out.append(f"without a score in common, rows stand in tables of their own: {'; '.join(by)}")
    runs = [[r for part in apart for r in part] for apart in places.values()]
    if len(runs) > 1:
        titles = [f"{group_title(g)} ({', '.join(r.name for r in g)})" for g in runs]
        out.append(
            "scores on different data, splits or versions of a dataset are not ranked against each other: "
            + "; ".join(titles)
            + why_apart(runs)
        )
    out += dict.fromkeys(line for group in groups for line in unrecorded(group))
    machines = {str(sorted(r.measured_on.items())) for r in rows if r.measured_on}
    if len(machines) > 1:
        out.append("latencies were measured on different devices or numbers of threads (measured_on in --json)")
    speeds = [speed for r in rows if r.machine and (speed := r.machine.get("gflops_per_second"))]
    if len(machines) == 1 and speeds and max(speeds) > BUSY * min(speeds):
        out.append(
            "latencies can't be compared, as the machine was not equally free when they were measured: at one matrix "
            f"product it made {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s"
        )
    return out


def why_apart(groups: Sequence[Sequence[Row]]) -> str:
    """Where groups of one title stand apart: what differs. Empty where the titles say it."""
    out = []
    for number, group in enumerate(groups):
        for other in groups[:number]:
            one, two = (next(r for r in g if r.source == "run") for g in (other, group))
            if group_title(other) != group_title(group):
                continue
            what = "another version of its annotations" if one.fingerprint != two.fingerprint else "another division"
            out.append(f"{two.name} was scored on {what} than {one.name}")
    return "".join(f"; {line}" for line in out)


def _place(row: Row, taken: Sequence[Place]) -> Place:
    key = (row.data, row.split, row.split_names, row.fingerprint, row.images)
    if row.source == "run":
        return key
    near = [k for k in taken if k[:2] == key[:2] and row.fingerprint in (None, k[3])]
    return near[0] if near else key


def _order(row: Row, key: str) -> tuple[bool, float | str, tuple[bool, float, str]]:
    """By `key`, unknown last; among equals the cheapest first, then by name."""
    gflops = row.cost("gflops")
    rest = (gflops is None, gflops or 0.0, row.name)
    if key in TEXTS:
        text = getattr(row, key)
        return text is None, text or "", rest
    found = row.cost(key) if key in COSTS else row.scores.get(key)
    return found is None, 0.0 if found is None else found if key in COSTS else -found, rest


def _check_key(sort: str | None, rows: Sequence[Row]) -> None:
    known = sorted({*COSTS, *TEXTS, *(key for r in rows for key in r.scores)})
    if sort is not None and sort not in known:
        raise UsageError(f"--sort {sort}: no such column", hint=nearest(sort, known))
