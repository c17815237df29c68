"""What a run folder consists of. Nothing else in it is touched: the folder may be a project's, or somebody else's."""

import os
from pathlib import Path

from segcli.core import trust
from segcli.core.errors import ModelError, UsageError
from segcli.core.files import inside, read_json

FILES = ("recipe.yaml", "environment.json", "log.jsonl", "metrics.json", "cost.json")
FOLDERS = ("checkpoints", "predictions", "pictures")
CHECKPOINTS = ("checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.safetensors")
WRITTEN = (*FILES, "train.lock", *FOLDERS, *CHECKPOINTS)


def confine(run: Path) -> None:
    """Raise ModelError where a part of the run folder is a link that leads out of it: what is written there would be
    written elsewhere."""
    for part in () if trust.everything() else (*WRITTEN, *_links(run)):
        if os.path.lexists(run / part) and not inside(run / part, run):
            hint = f"if it is yours: {trust.VARIABLE}=1"
            raise ModelError(f"{run / part}: is a link that leads out of the run", hint=hint)


def _links(run: Path) -> list[str]:
    """The links in the folders of a run."""
    out = []
    for folder in FOLDERS:
        if os.path.isdir(run / folder):
            out += [f"{folder}/{entry.name}" for entry in os.scandir(run / folder) if entry.is_symlink()]
    return sorted(out)


def refuse_foreign(out: Path) -> None:
    """Raise UsageError where `out` has files called as those of a run, and is none that segcli made: --force replaces
    nothing but that."""
    foreign = [name for name in FILES if os.path.lexists(out / name)]
    foreign += [f"{name}/" for name in FOLDERS[:2] if (out / name).is_dir() and any((out / name).iterdir())]
    if foreign and not _is_run(out):
        raise UsageError(
            f"{out}: is no run of segcli, and has files called as those of one: {', '.join(foreign)}",
            hint="--force replaces what segcli wrote, and nothing else: choose another --out, or move them away",
        )


def _is_run(folder: Path) -> bool:
    """Whether a training of segcli made the folder: its environment.json says so."""
    try:
        environment = read_json(folder / "environment.json", error=ModelError, largest=2**26)
    except ModelError:
        return False
    return isinstance(environment, dict) and {"segcli", "dataset"} <= environment.keys()
