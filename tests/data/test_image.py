"""Whatever a camera, a scanner or a microscope writes becomes the same uint8 RGB, or one clear error."""

import contextlib
import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from segcli.core.errors import DataError
from segcli.data.image import image_size, read_image

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """uint8 [30,50,3], smooth, with a different colour in each corner."""
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [200, 200, 30]]], np.uint8)
    return cv2.resize(corners, (50, 30), interpolation=cv2.INTER_LINEAR)


def save(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["plain.png", "사진 📷 one.png", "plain.bmp", "plain.tif", "plain.webp", "plain.ppm"])
def test_lossless_formats_give_the_stored_colours(tmp_path, scene, name):
    path = save(tmp_path / name, Image.fromarray(scene), **({"lossless": True} if name.endswith("webp") else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.array_equal(image, scene)
    assert image_size(str(path)) == (30, 50)


def test_jpeg_is_close_to_the_original(tmp_path, scene):
    image = read_image(save(tmp_path / "a.jpg", Image.fromarray(scene), quality=95))
    assert np.abs(image.astype(int) - scene).mean() < 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_in_every_format(tmp_path, scene, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"jpg": {"quality": 98}, "webp": {"lossless": True}}.get(suffix, {})
    path = save(tmp_path / f"turned.{suffix}", Image.fromarray(scene), exif=exif, **options)
    # what a viewer shows, by the standard: where the stored row 0 and column 0 belong
    expected = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.swapaxes(0, 1),
        6: np.rot90(scene, -1),
        7: scene[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(scene),
    }[orientation]
    image = read_image(path)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3
    assert image_size(path) == expected.shape[:2]


def test_damaged_exif_does_not_make_the_pixels_unreadable(tmp_path, scene):
    path = save(tmp_path / "a.jpg", Image.fromarray(scene), exif=b"Exif\x00\x00garbage here")
    assert read_image(path).shape == (30, 50, 3)
    assert image_size(path) == (30, 50)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_high_byte(tmp_path, suffix, channels):
    values = (np.arange(600).reshape(20, 30) * 109).astype(np.uint16)
    pixels = values if channels == 1 else np.dstack([values, values // 2, values // 3])
    path = tmp_path / f"deep.{suffix}"
    path.write_bytes(cv2.imencode(f".{suffix}", pixels if channels == 1 else pixels[:, :, ::-1])[1].tobytes())
    expected = (pixels >> 8).astype(np.uint8)
    image = read_image(path)
    assert np.array_equal(image, np.dstack([expected] * 3) if channels == 1 else expected)


def test_alpha_is_dropped_and_the_colours_under_it_stay(tmp_path, scene):
    alpha = np.zeros((30, 50, 1), np.uint8)
    alpha[:, 25:] = 130
    path = save(tmp_path / "a.png", Image.fromarray(np.dstack([scene, alpha])))
    assert np.array_equal(read_image(path), scene)
    grey = scene[:, :, 0]
    path = save(tmp_path / "la.png", Image.fromarray(np.dstack([grey, alpha])))
    assert np.array_equal(read_image(path), np.dstack([grey] * 3))


def test_grey_and_one_bit_are_repeated(tmp_path, scene):
    grey = scene[:, :, 0]
    assert np.array_equal(read_image(save(tmp_path / "g.png", Image.fromarray(grey))), np.dstack([grey] * 3))
    black = grey > 128
    image = read_image(save(tmp_path / "b.png", Image.fromarray(black)))
    assert np.array_equal(image, np.dstack([black * np.uint8(255)] * 3))


def test_palette_with_transparency_gives_its_colours(tmp_path):
    image = Image.new("P", (8, 6), 1)
    image.putpalette([0, 0, 0, 10, 200, 30, 250, 1, 2])
    image.putpixel((0, 0), 2)
    path = save(tmp_path / "p.png", image, transparency=2)
    pixels = read_image(path)
    assert pixels[0, 0].tolist() == [250, 1, 2]
    assert pixels[3, 3].tolist() == [10, 200, 30]


def test_cmyk_becomes_rgb(tmp_path):
    path = save(tmp_path / "print.jpg", Image.new("CMYK", (40, 20), (0, 255, 255, 0)), quality=95)
    image = read_image(path)
    assert image.shape == (20, 40, 3)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path, suffix):
    first, second = Image.new("RGB", (20, 10), (255, 0, 0)), Image.new("RGB", (20, 10), (0, 0, 255))
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"moving.{suffix}", first, save_all=True, append_images=[second], duration=100, **options)
    image = read_image(path)
    assert image.shape == (10, 20, 3)
    assert (image == [255, 0, 0]).all()


def test_twenty_thousand_pixels_wide(tmp_path):
    path = save(tmp_path / "square.png", Image.new("1", (20000, 20000)))  # above Pillow's limit for "bombs"
    assert image_size(path) == (20000, 20000)
    wide = np.zeros((300, 20000), np.uint8)
    wide[:, 10000:] = 200
    image = read_image(save(tmp_path / "wide.png", Image.fromarray(wide), compress_level=1))
    assert image.shape == (300, 20000, 3)
    assert image[5, 9999].tolist() == [0, 0, 0]
    assert image[5, 10000].tolist() == [200, 200, 200]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, scene, suffix):
    data = io.BytesIO()
    noisy = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(noisy).save(data, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    with pytest.raises(DataError, match=f"half.{suffix}"):
        read_image(path)


@pytest.mark.parametrize("chunk", [b"IDAT", b"PLTE", b"tEXt"])
def test_a_chunk_that_claims_gigabytes_is_not_left_to_opencv(tmp_path, scene, monkeypatch, chunk):
    """It makes room for all of them and shows a part of the picture. Pillow reads what there is, or says why not."""
    data = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "one")
    Image.fromarray(scene).quantize(16).save(data, "PNG", pnginfo=text)
    content = data.getvalue()
    at = content.index(chunk)
    path = tmp_path / "wide.png"
    path.write_bytes(content[: at - 4] + struct.pack(">I", 4_211_083_555) + content[at:])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was asked"))
    with contextlib.suppress(DataError):
        assert read_image(path).shape == scene.shape


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "empty"), (b"<html>404</html>", "not an image"), (b"\xff\xd8\xff\xe0", "half|not an image")],
)
def test_what_is_no_image_is_an_error_with_its_cause(tmp_path, content, cause):
    path = tmp_path / "half.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=cause) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 3


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such image"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(DataError, match="can't be read"):
        read_image(tmp_path / ("é" * 300 + ".png"))


def test_pixels_without_a_brightness_range_are_refused(tmp_path):
    path = save(tmp_path / "float.tif", Image.fromarray(np.linspace(0, 3, 600, dtype=np.float32).reshape(20, 30)))
    with pytest.raises(DataError, match="32-bit"):
        read_image(path)
