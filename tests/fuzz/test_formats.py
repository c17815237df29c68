"""Valid datasets of each format, damaged in one to three places: a clean load, or an error that names file and place;
what --fix makes of them passes the doctor, or is refused likewise; and where fewer objects come out than the files say,
a note says so.

SEGCLI_FUZZ=2000 runs that many in all; without it a few, always the same ones.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from counted import notes_of, objects_in, objects_out
from damage import damage, without_hanging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import FORMATS

from segcli.commands.prepare import describe, prepare
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset
from segcli.doctor.check import check

RUNS = int(os.environ.get("SEGCLI_FUZZ", "0"))
EACH = max(5, RUNS // len(FORMATS))
LONGEST = 20  # seconds of computing that one dataset of three images may take, however busy the machine is


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    base = tmp_path_factory.mktemp("whole")
    for name, write in FORMATS.items():
        write(base / name)
    return base


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


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_datasets(whole, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp(name)
    prepare(str(whole / name), folder / "whole")
    before = notes_of(folder / "whole")
    assert objects_in(whole / name, name) == objects_out(folder / "whole")

    @settings(
        max_examples=EACH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32), st.integers(1, 3))
    def run(seed, times):
        rng = random.Random(seed)
        place = folder / str(time.monotonic_ns())
        source = Path(shutil.copytree(whole / name, place / "source"))
        done = [damage(source, rng) for _ in range(times)]
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            refused = [refusal(source, place / "out", False), refusal(source, place / "mended", True)]
        except Exception as error:
            raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        known = {str(place), *(p.name for p in place.rglob("*") if len(p.name) > 2)}
        for said in refused:
            assert said is None or any(name in said for name in known), (done, said)
        if refused[0] is None:
            assert (vanished := lost(source, place / "out", name, before)) is None, (done, vanished)
        shutil.rmtree(place)

    with without_hanging():
        run()
