"""From any source to a canonical dataset folder, divided into splits, and what is in it."""

import dataclasses
import hashlib
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from segcli.commands.merge import merge_sources
from segcli.commands.samples import write_samples
from segcli.core import plugins, trust
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.files import inside, is_plain, read_json
from segcli.core.folders import real
from segcli.core.progress import say
from segcli.core.recipe.recipe import SCENES, Recipe
from segcli.core.recipe.recipe_file import shipped
from segcli.data import canonical, index
from segcli.data.findings import KEPT, Finding, Report
from segcli.doctor.advice import Advice, advise, families, recipe_for
from segcli.doctor.check import check
from segcli.doctor.repair.repair import Repairs
from segcli.doctor.repair.write_draft import look_at_images, surveyed, write_draft
from segcli.doctor.report_cache import SAMPLES, checked, listing
from segcli.doctor.rules.crowds import AS_OBJECTS, Singled
from segcli.doctor.statistics import measure
from segcli.sources import export_files
from segcli.sources.plan import Packed, known, plan_for, reopen, takes
from segcli.sources.split import assign_splits, is_file
from segcli.sources.tile import Tiling

FOLDER = Path("data")  # where prepared datasets go by default


class Options(TypedDict, total=False):
    """How a source is read, divided and cut; see `prepare`."""

    format: str | None
    source_path: str | Path | None
    split: str | None
    split_by: str | Path | None
    seed: int
    tile: int | None
    overlap: int
    crowd: str | None
    trusted: bool
    settings: Mapping[str, object] | None


def prepare(
    source: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    format: str | None = None,
    source_path: str | Path | None = None,
    split: str | None = None,
    split_by: str | Path | None = None,
    seed: int = 0,
    link: bool | None = False,
    tile: int | None = None,
    overlap: int = 0,
    force: bool = False,
    fix: bool = False,
    drop: bool = False,
    crowd: str | None = None,
    samples: bool = True,
    trusted: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Write the canonical folder of `source` and return it; `describe` says what it holds.

    source: a known name, or a file or folder in a supported format (`format` names the converter, else it is detected);
    several, prepared folders among them, are merged (see merge.py).
    out: the folder, None = data/NAME; one that was made of the same with the same settings is left as it is.
    source_path: where a known dataset lies on disk; None: it is downloaded. split: shares such as "train=0.8,val=0.2",
    drawn with `seed`; split_by: a text file that names the val images, or a rule for the draw (see sources/split.py);
    with neither, a source's own splits are kept, or 20 % become val. link: images stay where they are (None: if all of
    them are files that stay as they are). tile, overlap:
    cut into tiles of so many pixels (see sources/tile.py), those of one image in one split. force: replace `out`.
    fix: mend what `check` finds, and list the repairs in prepared.json; source may then be a prepared folder too, which
    is left as it is (out: None = SOURCE-fixed beside it). trusted: names and links may lead out of `source`; source may
    then be a prepared folder too, which is noted as trusted and left as it is. drop: let repairs leave out what they
    can't mend, however much that is. crowd: "as-objects" makes crowd regions objects. samples: draw the sheet of them.
    settings: of the generator or converter, checked against its signature.
    Raises UsageError and DataError.
    """
    by_file = split_by is not None and is_file(split_by)
    if split is not None and by_file:
        raise UsageError("--split and --split-by FILE exclude each other")
    if drop and not fix:
        raise UsageError("--drop says what --fix may do: it goes with --fix alone")
    if isinstance(source, Sequence) and not isinstance(source, str):
        if len(source) != 1:
            for flag, value in (("--source", source_path), ("--link", link), ("--fix", fix), ("--crowd", crowd)):
                if value:
                    raise UsageError(f"{flag} goes with one source alone", hint="prepare each by itself, then merge")
            return merge_sources(
                source,
                None if out is None else Path(out),
                FOLDER,
                format=format,
                split=split,
                split_by=split_by,
                seed=seed,
                tiling=_tiling(tile, overlap),
                force=force,
                samples=samples,
                trusted=trusted,
                settings=settings,
            )
        source = source[0]
    again = fix and (Path(source) / "info.json").is_file()
    if again and settings:
        raise UsageError(f"{source} is prepared already: {', '.join(sorted(settings))} would change nothing")
    if trusted and (Path(source) / "info.json").is_file():
        trust_prepared(Path(source))
        if not fix and out is None:
            return Path(source)
    plan = reopen(Path(source)) if again else plan_for(str(source), format, source_path, seed, settings, trusted)
    beside = Path(source) if Path(source).name.strip(".") else real(Path(source))  # "." has a name, too
    fixed = beside.with_name(f"{beside.name}-fixed") if again else FOLDER / plan.name
    target = Path(out) if out is not None else fixed
    if crowd not in (None, AS_OBJECTS):
        raise UsageError(f"--crowd {crowd}: only {AS_OBJECTS} is known")
    tiling = _tiling(tile, overlap)
    if link and tiling:
        raise UsageError("--link and --tile exclude each other: tiles are new images")
    if link and isinstance(plan, Packed):
        raise UsageError(f"--link: {source} is an archive, whose images are nowhere else", hint="unpack it, or copy")
    generated = plan.path is None and plan.known is None
    read = Path(plan.settings["source"]) if generated and plan.settings.get("source") else plan.path
    if generated:
        if split and takes(plan.module, "split"):
            plan.settings["split"], split = split, None
        for flag, value in (("--split", split), ("--split-by", split_by), ("--link", link)):
            if value:
                raise UsageError(f"{flag}: {source} is made by segcli, with splits and images of its own")
    recorded = {
        **plan.recorded,
        "split": plan.settings.get("split") if generated else split,
        "split_by": _digest(Path(split_by)) if split_by is not None and by_file else split_by,
        "seed": seed,
        "link": link,
        **({"tile": tile, "overlap": overlap} if tiling else {}),
        "source files": listing([read], target) if read is not None else None,
        **({"fix": True} if fix else {}),
        **({"drop": True} if drop else {}),
        **({"crowd": crowd} if crowd else {}),
    }
    if plan.path is not None and plan.path.resolve().is_relative_to(real(target)):
        raise UsageError(f"--out {target}: holds the source {plan.path}", hint="choose another --out")
    if (found := canonical.existing(target, recorded, force)) is not None:
        _note_images(target, found, plan.path, trusted, keep=link is not None)
        return target
    draft = plan.build()
    look_at_images(draft, refuse=not fix)
    as_it_was = (again or generated) and split is None and split_by is None
    divided = draft.splits if as_it_was else assign_splits(draft, split, split_by, seed)
    repairs = Repairs(draft.info, surveyed(draft, divided)) if fix else None
    if (meaning := draft.masks.get("said")) and meaning not in draft.notes:
        draft.notes.insert(0, meaning)
    singled = Singled() if crowd else None
    write_draft(
        target,
        draft,
        divided,
        recorded,
        link=link,
        force=force,
        repairs=repairs,
        tiling=tiling,
        singled=singled,
        drop=drop,
    )
    draft.close()
    _note_images(target, DatasetInfo.load(target), plan.path, trusted, keep=link is not None)
    if samples:
        write_samples(target)
    return target


def _tiling(tile: int | None, overlap: int) -> Tiling | None:
    if overlap and tile is None:
        raise UsageError("--overlap goes with --tile")
    return Tiling(tile, overlap) if tile is not None else None


def trust_prepared(root: Path) -> None:
    """Let this user's commands read the images of a prepared folder wherever they lie. Raises SegcliError where that
    can't be noted."""
    trust.grant(root, DatasetInfo.load(root).image_root, root, trusted=True)


def _note_images(root: Path, info: DatasetInfo, source: Path | None, trusted: bool, *, keep: bool) -> None:
    """What --link has put into info.json was this user's wish: note it, so that it counts later (`keep`) or now."""
    if info.image_root is None or source is None:
        return
    folder = Path(info.image_root)
    within = source if source.is_dir() and inside(folder, source) else folder
    if not trusted and not inside(folder, source.parent if source.is_dir() else source.parent.parent):
        return  # another's info.json with the same settings
    try:
        trust.grant(root, info.image_root, within, trusted=trusted, keep=keep)
    except SegcliError as error:
        print(f"note: {error}: reading {root} needs {trust.VARIABLE}=1", file=sys.stderr)


def diagnose(
    source: str,
    *,
    format: str | None = None,
    source_path: str | Path | None = None,
    seed: int = 0,
    trusted: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Report:
    """The doctor's report on a prepared folder, or on any source that `prepare` takes; nothing is kept.

    Raises UsageError and DataError where the source can't be read as a whole.
    """
    if (Path(source) / "info.json").is_file():
        if settings:
            raise UsageError(f"{source} is prepared already: {', '.join(sorted(settings))} would change nothing")
        if trusted:
            trust_prepared(Path(source))
        return _tested(checked(Path(source), fresh=True), Path(source))
    plan = plan_for(source, format, source_path, seed, settings, trusted)
    draft = plan.build()
    look_at_images(draft, refuse=False)
    with tempfile.TemporaryDirectory(prefix="segcli-check-") as folder:
        target = Path(folder) / plan.name
        write_draft(target, draft, draft.splits, {}, link=None, strict=False)
        draft.close()
        _grant_here(target, plan.path, trusted)
        return dataclasses.replace(
            _tested(check(target, notes=draft.notes, refused=draft.refused), target), root=source
        )


def _grant_here(root: Path, source: Path | None, trusted: bool) -> None:
    """Let this process read the images that a folder made for it alone is linked to."""
    image_root = DatasetInfo.load(root).image_root
    if image_root is not None and source is not None:
        within = source if source.is_dir() else Path(image_root)
        trust.grant(root, image_root, within, trusted=trusted, keep=False)


def _tested(report: Report, root: Path) -> Report:
    """The report with the self-test's result; labels with errors can't be read, so there is none."""
    if report.ok:
        from segcli.doctor.self_test import self_test  # brings models along, which preparing does without

        report.self_test, failed = self_test(root)
        if failed:
            report.put(Finding("self_test", len(failed), failed[:KEPT]))
    return report


def export(
    source: str, to: str, out: Path | None = None, *, force: bool = False, options: Options | None = None
) -> dict[str, object]:
    """Write a prepared folder, or any source that `prepare` takes with `options`, in another format: coco, yolo,
    labelme or cvat. -> {"name", "root", "format", "splits", "notes"}. out: the folder, None = data/NAME-FORMAT.

    Raises UsageError and DataError.
    """
    module = plugins.find("format", to, "--to")
    if not hasattr(module, "export"):
        writable = [name for name, one in plugins.every("format").items() if hasattr(one, "export")]
        raise UsageError(f"--to {to}: that format is read, but not written", hint=plugins.nearest(to, writable))
    with tempfile.TemporaryDirectory(prefix="segcli-export-") as folder:
        root = Path(source)
        chosen = Options(**(options or {}))
        settings = chosen.get("settings") or {}
        if chosen.get("trusted") and (root / "info.json").is_file():
            trust_prepared(root)
            chosen["trusted"] = False
        if not (root / "info.json").is_file():
            root = prepare(source, Path(folder) / "prepared", link=None, samples=False, **chosen)
        elif given := sorted(key for key, value in {**chosen, "settings": None, **settings}.items() if value):
            raise UsageError(f"--to {to}: {source} is prepared already; {', '.join(given)} would change nothing")
        info = DatasetInfo.load(root)
        if out is None and not is_plain(info.name):
            raise DataError(f"{root}/info.json: the name {info.name!r:.80} is that of no folder", hint="give --out DIR")
        target = out if out is not None else FOLDER / f"{info.name}-{to}"
        notes = [] if root == Path(source) else canonical.prepared(root).get("notes", [])
        notes += export_files.export(root, target, module, force=force)
    return {"name": info.name, "root": str(target), "format": to, "splits": info.splits, "notes": notes}


def prepare_for(recipe: Recipe) -> Path:
    """The dataset folder of a recipe, prepared now where it is absent and the recipe names a known dataset.

    Raises DataError where it is absent and nothing says what to prepare, or where an embedded dataset's folder holds
    something made with other settings than the recipe's.
    """
    data, root = recipe.data, Path(recipe.data.root)
    there = (root / "info.json").is_file()
    if there and data.name in plugins.names("synthetic"):
        before = canonical.prepared(root).get("settings", {})
        plan = plan_for(data.name, None, None, 0, data.prepare)
        if before and any(before.get(key) != value for key, value in plan.recorded.items()):
            raise DataError(
                f"{root}: was not made with this recipe's data.prepare ({before.get('settings')}, not "
                f"{plan.recorded['settings']})",
                hint="--set data.root=FOLDER, or remove that folder",
            )
    if there:
        return root
    if data.name not in known() and data.source is None:
        raise DataError(f"{root}: not a prepared dataset", hint=f"segcli prepare SOURCE --out {shlex.quote(str(root))}")
    say(f"preparing {data.name or data.source} in {root}")
    return prepare(data.name or str(data.source), root, source_path=data.source, settings=data.prepare)


def describe(root: str | Path) -> dict[str, Any]:
    """What a prepared folder holds, as JSON values.

    {"name", "root", "categories", "licence", "fingerprint", "splits": {split: what `statistics.measure` says},
    "advice": what `doctor.advice.advise` says, "statistics" (embedded data: by split), "notes", "repairs" (of --fix),
    "samples" (the sheet of samples, None where there is none), "families": the recipes for one's own data that suit
    the labels, one a family, "next": the command to go on with, to train if anything is labelled}. Raises DataError.
    """
    root = Path(root)
    info = DatasetInfo.load(root)
    before = canonical.prepared(root)
    splits, made = {}, {}
    maker = before.get("settings", {}).get("source")
    module = plugins.find("synthetic", maker) if maker in plugins.names("synthetic") else None
    of_generator = getattr(module, "statistics", None)  # a generator may offer it
    for split in info.splits:
        file = root / "annotations" / f"{split}.json"
        splits[split] = measure(index.walk(file), info)
        if of_generator is not None:
            made[split] = of_generator(_read_json(file), _read_json(root / "panoptic" / f"{split}.json"))
    advice = advise(splits, info)
    labelled = info.semantic or info.panoptic or any(facts["objects"] for facts in splits.values())
    itself = module is not None or bool(info.source)  # and no folder of the same name
    train = next_command(info.name, root, recipe_for(splits, info), advice, itself=itself)
    return {
        "name": info.name,
        "root": str(root),
        "categories": info.names,
        "licence": info.licence,
        "fingerprint": info.fingerprint,
        "splits": splits,
        "advice": advice,
        "statistics": made,
        "notes": before.get("notes", []),
        "repairs": before.get("repairs", []),
        "samples": str(root / SAMPLES) if (root / SAMPLES).is_file() else None,
        "families": families(splits, info),
        "next": train if labelled else f"segcli prepare {shlex.quote(str(root))} --check",
    }


def next_command(name: str, root: Path, recipe: str, advice: Sequence[Advice] = (), *, itself: bool = True) -> str:
    """The command that trains on a prepared folder: with this dataset's own recipe of that kind where one is shipped,
    else with `recipe` (custom/KIND) and those settings of `advice` that it has otherwise. itself: `root` holds the
    dataset that the recipe's expected scores are of, and not another one of its name."""
    folder = "quickstart" if name in plugins.names("synthetic") else name  # recipes lie in folders called as their data
    kind = recipe.removeprefix("custom/").removesuffix("_many_small")
    own = [shown for shown in shipped() if shown.startswith(f"{folder}/{kind}")]
    if not own and folder != name:
        own = [shown for shown in shipped() if shown.startswith(f"{name}/") and _of_task(shown, recipe)]
    own = [shown for shown in own if Recipe.load(shown).init in (None, SCENES)]  # trains without a download
    if own and itself and Path(Recipe.load(own[0]).data.root) == root:
        return f"segcli train {own[0]}"
    command = f"segcli train {own[0] if own else recipe} --data {shlex.quote(str(root))}"
    usual = Recipe.load(recipe)
    has = {"data.size": usual.data.size, "eval.max_detections": usual.eval.max_detections}
    given = {one["key"]: one["value"] for one in advice if "key" in one and not own}
    return " ".join([command, *(f"--set {key}={given[key]}" for key in has if given.get(key, has[key]) != has[key])])


def _of_task(one: str, other: str) -> bool:
    return Recipe.load(one).task == Recipe.load(other).task


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"--split-by {path}: can't be read: {error.strerror}", hint="a text file, one val image a line"
        ) from error


def _read_json(path: Path) -> dict[str, object]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: holds no JSON object", hint="run `segcli prepare` again")
    return data
