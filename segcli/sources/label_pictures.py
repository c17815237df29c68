"""Folders of label pictures (masks, maps): what lies in them is never taken for a photograph that is not there."""

import re
from pathlib import Path

KINDS = (
    "train(?:ing)?|val(?:id|idation)?|test(?:ing)?|instance|object|semantic|panoptic|binary|class|segm?(?:entation)?"
)
LABELS = re.compile(
    rf"(?:(?:{KINDS}|png|image)[_\- ]?)?(?:masks?|labels?|annotations?|maps)|(?:{KINDS})[_\- ](?:gt|map)"
    r"|gt|ground[_\- ]?truths?|semantic|pixelmaps|stuffthingmaps|gtfine|gtcoarse"
    r"|panoptic(?:[_\- ].*)?|segmentation(?:class|object)(?:aug|raw)?",
    re.IGNORECASE,
)
IMAGES = re.compile(r"(?:.*[_\- ])?(?:images?|imgs?|jpegimages|photos?|pictures?|frames?|leftimg8bit)", re.IGNORECASE)


def holds_labels(folder: Path, root: Path) -> bool:
    """Whether `folder`, at or below `root`, is by its name one of label pictures; the deepest name that speaks counts,
    so that labels/images is none."""
    for name in reversed(folder.relative_to(root).parts):
        if IMAGES.fullmatch(name):
            return False
        if LABELS.fullmatch(name):
            return True
    return False
