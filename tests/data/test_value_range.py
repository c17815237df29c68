"""More than 8 bits: one range for a dataset, decided when it is prepared, the same wherever its images are read."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from tiffs import write_tiff

from segcli.commands.prepare import describe, diagnose, prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset
from segcli.data.image import read_image
from segcli.data.value_range import choose, scaled
from segcli.sources.mask_meaning import mask_files as files

RNG = np.random.default_rng(11)


def folder(root, pictures, suffix=".tif", **options):
    """images/ and masks/ of one object each; pictures: arrays of one size."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, picture in enumerate(pictures):
        if suffix == ".tif":
            write_tiff(root / "images" / f"{number}.tif", [picture], **options)
        else:
            cv2.imwrite(
                str(root / "images" / f"{number}{suffix}"), picture[..., ::-1] if picture.ndim == 3 else picture
            )
        mask = np.zeros((24, 32), np.uint8)
        mask[4:12, 4 + number : 12 + number] = 1
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


def noise(high, dtype="uint16", low=0, bands=()):
    return [(low + RNG.random((24, 32, *bands)) * (high - low)).astype(dtype) for _ in range(4)]


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("bands", [(), (3,)])
def test_bits_that_fill_a_part_of_16_are_read_as_such(tmp_path, bits, suffix, bands):
    pictures = noise(2**bits - 1, bands=bands)
    options = {"photometric": 2} if bands and suffix == ".tif" else {}
    out = prepare(str(folder(tmp_path / "in", pictures, suffix, **options)), tmp_path / "out")
    dataset = Dataset(out, None)
    assert dataset.info.value_range == (0, 2**bits)
    i = dataset.file_names.index(f"2{suffix}")
    shown = dataset.image(i) if bands else dataset.image(i)[:, :, 0]
    assert np.array_equal(shown, pictures[2] >> (bits - 8))
    assert any(f"{bits} bits" in note for note in describe(out)["notes"])


def test_the_whole_range_of_16_bits_keeps_its_high_byte(tmp_path):
    pictures = noise(65535)
    out = prepare(str(folder(tmp_path / "in", pictures)), tmp_path / "out")
    assert "value_range" not in json.loads((out / "info.json").read_text())
    dataset = Dataset(out, None)
    assert np.array_equal(dataset.image(dataset.file_names.index("1.tif"))[:, :, 0], pictures[1] >> 8)


def test_few_bright_cells_use_the_whole_range():
    dark = np.full((200, 200), 300, np.uint16)
    dark[:10, :10] = 60000
    assert choose([dark]).range is None


def test_reflectances_with_no_data_and_tomography_get_their_own_percentiles():
    satellite = RNG.gamma(3, 500, (100, 100)).clip(1, 12000).astype(np.uint16)
    satellite[:20] = 65535
    low, high = choose([satellite]).range
    assert 0 < low < 500 < 3000 < high < 8000
    assert 60 < scaled(satellite[20:], (low, high)).mean() < 110
    low, high = choose([RNG.normal(0, 300, (100, 100)).astype(np.int16)]).range
    assert low < -600 < 600 < high
    assert choose([(32000 + RNG.random((50, 50)) * 2000).astype(np.uint16)]).range[0] > 31000


def test_floats_from_0_to_1_give_back_the_bytes_that_they_were_made_of():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for dtype in (np.float32, np.float64):
        assert np.array_equal(scaled((values / 255).astype(dtype), (0.0, 1.0)), values)
    assert scaled(np.array([np.nan, -np.inf, np.inf, 2.0]), (0.0, 1.0)).tolist() == [0, 0, 255, 255]


def test_floats_are_read_alike_everywhere_or_refused_at_once(tmp_path):
    out = prepare(str(folder(tmp_path / "in", noise(1, "float32"))), tmp_path / "out")
    info = DatasetInfo.load(out)
    assert info.value_range == (0, 1)
    assert DatasetInfo.from_json(json.loads(json.dumps(info.to_json()))) == info  # as a run's environment.json has it
    assert diagnose(str(out)).ok
    bad = folder(tmp_path / "nan", [np.full((24, 32), np.nan, np.float32)] * 4)
    with pytest.raises(DataError, match=r"0\.tif: its values have no range"):
        prepare(str(bad), tmp_path / "out2")
    assert not diagnose(str(bad)).ok
    with pytest.raises(DataError, match="no fixed brightness range"):
        read_image(tmp_path / "in" / "images" / "0.tif")


def test_floats_beside_whole_numbers_are_refused(tmp_path):
    source = folder(tmp_path / "in", [*noise(1, "float32")[:2], *noise(60000)[:2]])
    with pytest.raises(DataError, match="no range in common"):
        prepare(str(source), tmp_path / "out")


def test_pictures_that_come_out_black_are_named(tmp_path):
    out = prepare(str(folder(tmp_path / "in", [*noise(65535)[:3], noise(2000)[0]])), tmp_path / "out")
    assert any("almost black" in note and "3.tif" in note for note in describe(out)["notes"])


def test_tiles_are_cut_by_the_same_range(tmp_path):
    pictures = noise(4095)
    out = prepare(str(folder(tmp_path / "in", pictures)), tmp_path / "out", tile=16)
    dataset = Dataset(out, None)
    tile = dataset.image(dataset.file_names.index("2_x0_y0.png"))
    assert np.array_equal(tile[:, :, 0], pictures[2][:16, :16] >> 4)


def test_four_bands_are_said_and_eight_refused_by_every_door(tmp_path):
    out = prepare(str(folder(tmp_path / "four", noise(200, bands=(4,)), extra=[0, 0, 0])), tmp_path / "out")
    assert any("4 bands without names" in note and "not used" in note for note in describe(out)["notes"])
    eight = folder(tmp_path / "eight", noise(200, bands=(8,)), extra=[0] * 7)
    with pytest.raises(DataError, match=r"8 bands.*3 more"):
        prepare(str(eight), tmp_path / "out8")
    assert not diagnose(str(eight)).ok


@pytest.mark.parametrize("wrong", [[1], "ab", [3, 1], [0, "x"], [True, 2]])
def test_a_range_that_is_none_is_refused(tmp_path, wrong):
    with pytest.raises(DataError, match="value_range"):
        DatasetInfo.from_json({"version": 1, "name": "a", "categories": [], "splits": {}, "value_range": wrong})


def test_masks_of_floats_and_of_pages_are_read(tmp_path):
    ids = np.zeros((24, 32), np.uint8)
    ids[2:8, 2:8], ids[10:20, 10:20] = 1, 2
    for dtype in ("float32", "float64", "int32"):
        assert np.array_equal(files.read_ids(write_tiff(tmp_path / "a.tif", [ids.astype(dtype)])), ids)
    pages = [(ids == n).astype(np.uint8) * 255 for n in (1, 2)]
    assert np.array_equal(files.read_ids(write_tiff(tmp_path / "a.tif", pages)), ids)
    for broken, what in (([pages[0], pages[0]], "overlaps"), ([ids, pages[0]], "several values")):
        with pytest.raises(DataError, match=what):
            files.read_ids(write_tiff(tmp_path / "a.tif", broken))
    with pytest.raises(DataError, match="fractions"):
        files.read_ids(write_tiff(tmp_path / "a.tif", [ids.astype(np.float32) + 0.5]))
