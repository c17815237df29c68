"""TIFFs of instruments: pages, bands and numbers are read as the file says, or refused with what it holds."""

import numpy as np
import pytest
from tiffs import write_tiff

from segcli.core.errors import DataError
from segcli.data.image import image_size, read_image, read_values, upright

RNG = np.random.default_rng(7)
CHANNELS = '{"shape": [3, 20, 30]}'  # as tifffile describes an array of that shape


def values(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return (RNG.random(shape) * (1 if dtype.startswith("f") else 200)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_bands_of_every_number_are_read_as_stored(tmp_path, dtype, bands, apart, orientation):
    page = values(20, 30, bands, dtype=dtype)
    stored = page[:, :, 0] if bands == 1 else page.transpose(2, 0, 1) if apart else page
    more = {"extra": [0, 0, 0][: bands - 1]} if bands > 1 else {}
    path = write_tiff(tmp_path / "a.tif", [stored], apart=apart and bands > 1, orientation=orientation, **more)
    expected = upright(page, orientation)
    found = read_values(path)
    assert image_size(path) == found.shape[:2] == expected.shape[:2]
    found = found[:, :, None] if found.ndim == 2 else found
    assert np.array_equal(found[:, :, : min(bands, 3)], expected[:, :, :3])


@pytest.mark.parametrize(
    "description", [CHANNELS, "ImageJ=1.54\nimages=3\nchannels=3\n", '<OME><Pixels SizeC="3" SizeZ="1"/></OME>']
)
def test_channels_first_is_one_picture(tmp_path, description):
    page = values(3, 20, 30, dtype="uint8")
    path = write_tiff(tmp_path / "a.tif", [*page], description=description)
    assert np.array_equal(read_image(path), page.transpose(1, 2, 0))


@pytest.mark.parametrize("description", ["", "ImageJ=1.54\nimages=3\nslices=3\n", '{"shape": [4, 20, 30]}'])
def test_pages_that_nothing_calls_channels_are_not_guessed(tmp_path, description):
    path = write_tiff(tmp_path / "a.tif", [*values(3, 20, 30, dtype="uint8")], description=description)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.tif: .*3 pages") as caught:
            read(path)
        assert "each page" in caught.value.hint


def test_previews_and_masks_of_transparency_are_no_pages(tmp_path):
    full, half = values(20, 30, 3, dtype="uint8"), values(10, 15, 3, dtype="uint8")
    for kinds in ([0, 1], [0, 0], [0, 4]):
        path = write_tiff(tmp_path / "a.tif", [full, half], photometric=2, kinds=kinds)
        assert np.array_equal(read_image(path), full)


@pytest.mark.parametrize("bands", [2, 5, 8])
def test_bands_without_a_meaning_are_counted_and_refused(tmp_path, bands):
    path = write_tiff(tmp_path / "a.tif", [values(20, 30, bands)], extra=[0] * (bands - 1))
    with pytest.raises(DataError, match=f"{bands} bands") as caught:
        read_image(path)
    assert "save" in caught.value.hint


def test_a_directory_that_never_ends_is_an_error(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [values(20, 30, 3)], photometric=2)
    content = path.read_bytes()
    for cut in (9, len(content) - 100, len(content) - 4):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"a\.tif"):
            read_image(path)
    loop = bytearray(content)
    loop[-4:] = content[4:8]  # the next directory is the first one
    path.write_bytes(bytes(loop))
    assert read_values(path).shape == (20, 30, 3)
