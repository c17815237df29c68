"""Valid datasets of each format, damaged in one to three places: a clean load, or an error that names file and place;
what --fix makes of them passes the doctor, or is refused likewise; and where fewer objects come out than the files say,
a note says so.

SEGCLI_FUZZ=3000 runs that many mutations in all, as many of each format; without it a few, always the same ones. They
are numbered, and SEGCLI_FUZZ_FIRST=100 begins with number 100 of each format: other mutations than those before it.
"""

import math
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from counted import notes_of, objects_in, objects_out
from damage import damage, without_hanging
from public_sets import ade20k_2016, bdd100k, mapillary
from sources import FORMATS

from segcli.commands.prepare import describe, prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset
from segcli.doctor.check import check

SOURCES = {**FORMATS, "mapillary": mapillary, "bdd100k": bdd100k, "ade20k_2016": ade20k_2016}
RUNS = int(os.environ.get("SEGCLI_FUZZ", "0"))
FIRST = int(os.environ.get("SEGCLI_FUZZ_FIRST", "0"))
EACH = max(5, math.ceil(RUNS / len(SOURCES)))
LONGEST = 20  # seconds of computing that one dataset of three images may take, however busy the machine is
MOST_FAILURES = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    base = tmp_path_factory.mktemp("whole")
    for name, write in SOURCES.items():
        write(base / name)
    return base


def mutate(name: str, number: int, whole: Path, place: Path, before: set[str]) -> str | None:
    """Damage a copy of the dataset `whole` and prepare it below `place`, as it is and with --fix. before: the notes of
    the whole one. -> what was wrong, None where nothing was."""
    rng = random.Random(f"{name} {number}")
    source = Path(shutil.copytree(whole, place / "source"))
    done = [damage(source, rng) for _ in range(rng.randint(1, 3))]
    outs = {"out": False, "mended": True}
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        refused = [refusal(source, place / out, fix) for out, fix in outs.items()]
    except Exception as error:
        return f"{name} {number}: {done}: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    known = {str(place), *(p.name for p in place.rglob("*") if len(p.name) > 2)}
    unnamed = [said for said in refused if said and not any(one in said for one in known)]
    if unnamed:
        return f"{name} {number}: {done}: no file is named: {unnamed}"
    vanished = None if refused[0] else lost(source, place / "out", name, before)
    return vanished and f"{name} {number}: {done}: {vanished}"


def refusal(source: Path, out: Path, fix: bool) -> str | None:
    """Prepare and read everything, as training would. -> the error that a user sees, if any."""
    try:
        root = prepare(str(source), out, fix=fix)
        describe(root)
        if fix:
            report = check(root)
            assert report.ok, [(f.code, f.items) for f in report.findings if f.severity == "error"]
        load(root)
    except (DataError, UsageError) as error:
        return str(error)
    return None


def load(root: Path) -> None:
    for task in ("detection", "semantic", "panoptic"):
        data = Dataset(root, task=task)
        for i in range(len(data)):
            data.target(i)
            if task == "detection":
                data.image(i)


def lost(source: Path, out: Path, name: str, before: set[str]) -> str | None:
    """What vanished on the way without a word that was not said of the whole dataset, too."""
    there = objects_in(source, name)
    if there is None or not (out / "prepared.json").is_file() or notes_of(out) - before:
        return None
    found = objects_out(out)
    return f"{there} objects in, {found} out, and nothing is said" if found < there else None


@pytest.mark.parametrize("name", SOURCES)
def test_damaged_datasets(whole, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp(name)
    prepare(str(whole / name), folder / "whole")
    before = notes_of(folder / "whole")
    assert objects_in(whole / name, name) == objects_out(folder / "whole")
    problems = []
    with without_hanging():
        for number in range(FIRST, FIRST + EACH):
            place = folder / str(number)
            problems.append(mutate(name, number, whole / name, place, before))
            shutil.rmtree(place)
            if len(problems) - problems.count(None) >= MOST_FAILURES:
                break
    found = [p for p in problems if p]
    assert not found, f"{len(found)} of {len(problems)}:\n" + "\n\n".join(found)
