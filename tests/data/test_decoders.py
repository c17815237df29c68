"""Images are opened by decoders of image formats alone, in one place, and none of them is asked for the impossible."""

import ast
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segcli
from segcli.core.errors import DataError
from segcli.data import decoders
from segcli.data.image import image_size, read_image

PACKAGE = Path(segcli.__file__).parent
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
WMF = b"\xd7\xcd\xc6\x9a\0\0\0\0\0\0\x64\0\x64\0\x60\0\0\0\0\0\0\0\x01\0\x09\0\0\x03" + bytes(40)


def png(width: int, height: int, bits: int = 8, rows: int | None = None) -> bytes:
    """A black grey PNG with a header of that size; rows: as many are there."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    row = bytes(1 + (width * bits + 7) // 8)
    packer, data = zlib.compressobj(9), b""
    for _ in range(height if rows is None else rows):
        data += packer.compress(row)
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", data + packer.flush()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def test_pillow_opens_files_in_one_place_alone():
    where = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open", "cv2.imread"):
                formats = next((ast.unparse(k.value) for k in node.keywords if k.arg == "formats"), None)
                where.append((path.relative_to(PACKAGE).as_posix(), formats))
    assert where == [("data/decoders.py", "_decoders()")]


def test_no_format_that_is_a_program_is_among_them():
    assert not {"EPS", "WMF", "PDF", "MPEG", "FPX", "GRIB", "HDF5", "BUFR", "FITS"} & {*decoders.FORMATS}


@pytest.mark.parametrize("content", [EPS, WMF, b"%PDF-1.4\n" + bytes(99)], ids=["eps", "wmf", "pdf"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "eps"])
def test_what_other_programs_would_be_started_for_is_no_image(tmp_path, monkeypatch, content, suffix):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.\w+: not an image"):
            read(path)


@pytest.mark.parametrize("side", [30_000, 32_768, 40_000])
def test_few_bytes_that_claim_a_gigapixel_are_refused_before_they_are_decoded(tmp_path, monkeypatch, side):
    monkeypatch.setattr("cv2.imdecode", lambda *a: pytest.fail("it was decoded"))
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, bits=1, rows=64))
    with pytest.raises(DataError, match=rf"bomb\.png.*{side} x {side}"):
        read_image(path)


def test_a_tiff_that_claims_a_gigapixel_is_refused(tmp_path):
    path = tmp_path / "bomb.tif"
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    content = bytearray(path.read_bytes())
    for at in range(len(content) - 12):  # width and height, wherever its directory stands
        if content[at : at + 2] in (b"\x00\x01", b"\x01\x01") and content[at + 8 : at + 12] == struct.pack("<I", 8):
            content[at + 2 : at + 4], content[at + 8 : at + 12] = struct.pack("<H", 4), struct.pack("<I", 30_000)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="30000 x 30000"):
        read_image(path)


def test_large_pictures_that_are_what_they_say_are_opened(tmp_path):
    """A flat scan of 20,000 x 20,000 has 50 kB as a PNG of one bit: opened, and not decoded here."""
    path = tmp_path / "scan.png"
    path.write_bytes(png(20_000, 20_000, bits=1))
    assert image_size(path) == (20_000, 20_000)


def test_a_header_without_its_pixels_is_cut_off(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(png(20_000, 20_000, rows=1))
    with pytest.raises(DataError, match="cut off"):
        read_image(path)


@pytest.mark.skipif(not hasattr(__import__("os"), "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


def test_photographs_of_phones_are_read_or_the_plugin_is_named(tmp_path):
    path = tmp_path / "a.heic"
    if not decoders.reads_heic():
        path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(40))
        with pytest.raises(DataError) as caught:
            read_image(path)
        assert "segcli[heic]" in caught.value.hint
        return
    picture = np.full((32, 48, 3), (200, 30, 90), np.uint8)
    Image.fromarray(picture).save(path)
    assert np.abs(read_image(path).astype(int) - picture).mean() < 8
