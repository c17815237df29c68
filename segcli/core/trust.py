"""Which files outside its own folder a prepared dataset may read: those that this machine's user has let it.

A dataset that was prepared with --link names the folder of its images in info.json, which somebody else could have
written. So it counts only where `prepare` noted it for this user (see state.py), or with SEGCLI_TRUST_PATHS=1.
"""

import dataclasses
import os
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.files import digest, inside, resolve
from segcli.core.state import remember, remembered

VARIABLE = "SEGCLI_TRUST_PATHS"
KIND = "trusted"
_here: dict[str, dict[str, object]] = {}  # of this process alone: folders that vanish with it


def everything() -> bool:
    """Whether the user trusts every path, by the environment: for containers and clusters."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


@dataclasses.dataclass(frozen=True)
class Images:
    """Where a dataset's images lie. within: the folder that no link among them may lead out of."""

    folder: Path
    within: Path
    trusted: bool = False

    def path(self, name: object, where: str | Path) -> Path:
        """The file of that name; it need not exist. Raises DataError for one that lies elsewhere."""
        return resolve(self.folder, name, str(where), within=self.within, trusted=self.trusted)


def grant(root: Path, image_root: str | None, within: Path, *, trusted: bool, keep: bool = True) -> None:
    """Note that the dataset `root` may read its images from `image_root` (None: its own images/) with links that stay
    in `within`, or with `trusted` wherever links and names lead, as long as its info.json stays what it is.

    keep: for later commands, too. Raises SegcliError where that can't be written.
    """
    note: dict[str, object] = {"image_root": image_root, "within": os.path.realpath(within)}
    if trusted:
        note["info"] = digest(root / "info.json")
    if keep:
        remember(KIND, root, note)
    else:
        _here[os.path.realpath(root)] = note


def images_of(root: Path, image_root: str | None) -> Images:
    """The images of the prepared folder `root`, whose info.json says `image_root`.

    Raises DataError where that leads out of the folder and this user has not said that it may.
    """
    folder = root / (image_root or "images")
    if everything():
        return Images(folder, folder, trusted=True)
    note = _here.get(os.path.realpath(root)) or remembered(KIND, root)
    if note is not None and note.get("image_root") == image_root:
        within = Path(str(note.get("within")))
        if "info" not in note:
            return Images(folder, within)
        if note["info"] == digest(root / "info.json"):
            return Images(folder, within, trusted=True)
    if not inside(folder, root):
        what = f"image_root {image_root!r}" if image_root else f"{folder}"
        raise DataError(
            f"{root / 'info.json'}: {what} lies outside of the dataset, and was not prepared here",
            hint=f"if it is yours: segcli prepare {root} --trust-paths, or {VARIABLE}=1",
        )
    return Images(folder, root)
