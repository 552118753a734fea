"""Pictures are decoded as they are meant to be seen, or refused by name.

Each case is a row of the table that is printed at the end of the tests.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import (
    COLOUR,
    counted,
    encode,
    image,
    one_line,
    outcome,
    small_set,
    write,
)
from PIL import Image, ImageCms

from sparsecnn.data.pixels import UnusableImageError, decode
from sparsecnn.errors import UserError


def with_images(folder: Path, first: bytes, *more: bytes) -> Path:
    """A source whose train images of `cat` are these."""
    files = {k: v for k, v in small_set().items() if not k.startswith("train/cat")}
    files |= {f"train/cat/{i}.png": data for i, data in enumerate((first, *more))}
    return write(folder / "a.zip", files)


def png_of_16_bits(channels: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 4, channels))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 5, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_of_16_bits() -> bytes:
    """Of three channels, which Pillow reads but does not write."""
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 4, 3)).astype("<u2").tobytes()
    tags = [
        *((256, 3, 1, 4), (257, 3, 1, 5), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, 5), (279, 4, 1, len(pixels))),
        (284, 3, 1, 1),
    ]
    entries_ = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    head = struct.pack("<2sHLH", b"II", 42, 8, len(tags)) + entries_ + struct.pack("<L", 0)
    return head.ljust(134, b"\0") + struct.pack("<3H", 16, 16, 16) + pixels


def ppm(maximum: int) -> bytes:
    width = "<u1" if maximum < 256 else ">u2"
    pixels = np.random.default_rng(0).integers(0, maximum + 1, (5, 4, 3)).astype(width)
    return b"P6 4 5 %d\n" % maximum + pixels.tobytes()


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def lab() -> bytes:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    return saved(ImageCms.applyTransform(Image.fromarray(COLOUR), transform), "TIFF")


def frames(kind: str) -> bytes:
    stack = [
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (5, 4, 3), np.uint8))
        for i in range(3)
    ]
    return saved(stack[0], kind, save_all=True, append_images=stack[1:])


DEEP = "has more than 8 bits per channel"
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 16 bits, grey": (lambda: png_of_16_bits(1), rf"{DEEP} \(16 bits, PNG\)"),
    "PNG of 16 bits, grey and alpha": (lambda: png_of_16_bits(2), rf"{DEEP} \(16 bits, PNG\)"),
    "PNG of 16 bits, colour": (lambda: png_of_16_bits(3), rf"{DEEP} \(16 bits, PNG\)"),
    "PNG of 16 bits, colour and alpha": (lambda: png_of_16_bits(4), rf"{DEEP} \(16 bits, PNG\)"),
    "TIFF of 16 bits, colour": (tiff_of_16_bits, rf"{DEEP} \(16 bits, TIFF\)"),
    "TIFF of 16 bits, grey": (
        lambda: saved(Image.fromarray(COLOUR[..., 0].astype(np.uint16)), "TIFF"),
        rf"{DEEP} \(16 bits, TIFF\)",
    ),
    "TIFF of floats": (
        lambda: saved(Image.fromarray(COLOUR[..., 0].astype(np.float32)), "TIFF"),
        rf"{DEEP} \(32 bits, TIFF\)",
    ),
    "TIFF of 32-bit integers": (
        lambda: saved(Image.fromarray(COLOUR[..., 0].astype(np.int32)), "TIFF"),
        rf"{DEEP} \(32 bits, TIFF\)",
    ),
    "PPM of 16 bits": (lambda: ppm(65535), rf"{DEEP} \(16 bits, PPM\)"),
    "PPM of 12 bits": (lambda: ppm(4095), rf"{DEEP} \(12 bits, PPM\)"),
    "TIFF in LAB": (lab, r"is in a colour space with no certain way to RGB \(LAB\)"),
    "TIFF of three pages": (lambda: frames("TIFF"), r"has more than one frame \(3\)"),
    "moving GIF": (lambda: frames("GIF"), r"has more than one frame \(3\)"),
    "moving PNG": (lambda: frames("PNG"), r"has more than one frame \(3\)"),
    "moving WEBP": (lambda: frames("WEBP"), r"has more than one frame \(3\)"),
    "a web page called .png": (lambda: b"<!DOCTYPE html>", "is not an image in one of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pictures_that_would_lose_something_are_refused(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    make, message = REFUSED[case]
    dataset, seen = outcome(with_images(tmp_path, make(), image()), caplog)
    assert dataset is None
    assert re.search(rf"a.zip: 'train/cat/0\.png' {message}", seen), seen
    inputs(case, seen)


def drawn(cross: bool) -> np.ndarray:
    """A glyph in the alpha channel, black everywhere."""
    pixels = np.zeros((5, 4, 4), np.uint8)
    if cross:
        pixels[2, :, 3] = pixels[:, 1, 3] = 255
    else:
        pixels[1:4, 1:3, 3] = 255
    return pixels


def indexed(transparency: int | bytes) -> bytes:
    picture = Image.fromarray((COLOUR[..., 0] % 2), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    return saved(picture, "PNG", transparency=transparency)


def on_white(pixels: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    share = pixels[..., 3:].astype(float) / 255
    return np.rint(pixels[..., :3] * share + np.array(background) * (1 - share)).astype(np.uint8)


FIRST_WHITE = np.array([[255, 255, 255], [40, 50, 60]], np.uint8)[COLOUR[..., 0] % 2]
HALF = np.dstack([COLOUR, np.full((5, 4), 128, np.uint8)])
TRANSPARENT: dict[str, tuple[bytes, np.ndarray, dict[str, str]]] = {
    "a glyph in the alpha channel": (encode(drawn(True)), on_white(drawn(True)), {}),
    "another glyph": (encode(drawn(False)), on_white(drawn(False)), {}),
    "a glyph on black paper": (
        encode(drawn(True) + np.array([255, 255, 255, 0], np.uint8)),
        on_white(drawn(True) + np.array([255, 255, 255, 0], np.uint8), (0, 0, 0)),
        {"background": "black"},
    ),
    "a glyph on paper of a colour": (
        encode(drawn(True)),
        on_white(drawn(True), (16, 32, 48)),
        {"background": "#102030"},
    ),
    "half transparent": (encode(HALF), on_white(HALF), {}),
    "grey with alpha": (
        encode(drawn(True)[..., [0, 3]]),
        on_white(drawn(True)),
        {},
    ),
    "a palette with one transparent colour": (indexed(0), FIRST_WHITE, {}),
    "a palette with alphas": (indexed(b"\0\xff"), FIRST_WHITE, {}),
    "grey with one transparent value": (
        saved(Image.fromarray(drawn(True)[..., 3]), "PNG", transparency=0),
        np.full((5, 4, 3), 255, np.uint8),
        {},
    ),
    "WEBP with alpha": (
        saved(Image.fromarray(drawn(True)), "WEBP", lossless=True, exact=True),
        on_white(drawn(True)),
        {},
    ),
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_transparent_pictures_lie_on_a_background(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    data, expected, options = TRANSPARENT[case]
    dataset, seen = outcome((with_images(tmp_path, data, data), options), caplog)
    assert dataset is not None, seen
    shown = dataset.train_images[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(shown - expected).max() <= 1
    background = options.get("background", "white")
    assert f"a.zip: 2 transparent images laid on {background}" in seen
    inputs(case, seen)


def test_opaque_alpha_changes_nothing_and_is_not_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opaque = np.dstack([COLOUR, np.full((5, 4), 255, np.uint8)])
    dataset, seen = outcome(with_images(tmp_path, encode(opaque)), caplog)
    assert dataset is not None
    assert np.array_equal(dataset.train_images[0].permute(1, 2, 0).numpy(), COLOUR)
    assert "transparent" not in seen


TURNS = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""How each orientation of EXIF stores a picture that is to be seen upright."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_photos_stand_upright(
    orientation: int,
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](COLOUR)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    dataset, seen = outcome(with_images(tmp_path, data), caplog)
    assert dataset is not None, seen
    assert np.array_equal(dataset.train_images[0].permute(1, 2, 0).numpy(), COLOUR)
    inputs(f"{kind} turned by EXIF orientation {orientation}", "all images, upright")


HARMLESS: dict[str, Callable[[], bytes]] = {
    "EXIF that is damaged": lambda: saved(
        Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f", quality=100
    ),
    "EXIF orientation 0": lambda: saved(Image.fromarray(COLOUR), "PNG", exif=orientation_of(0)),
    "EXIF orientation 99": lambda: saved(Image.fromarray(COLOUR), "PNG", exif=orientation_of(99)),
    "a photo of two sizes in one JPEG (MPO)": lambda: saved(
        Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[Image.fromarray(COLOUR)]
    ),
    "a GIF of one frame": lambda: saved(Image.fromarray(COLOUR).quantize(), "GIF"),
    "a PPM of 4 bits": lambda: ppm(15),
    "a plain PPM": lambda: b"P3 4 5 255 " + b" ".join(b"%d" % v for v in COLOUR.flatten()),
    "CMYK": lambda: saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    "1-bit PNG": lambda: saved(Image.fromarray(COLOUR).convert("1"), "PNG"),
    "a BMP of 32 bits a pixel": lambda: saved(Image.fromarray(COLOUR).convert("RGBA"), "BMP"),
    "a TIFF of 8 bits, grey": lambda: saved(Image.fromarray(COLOUR[..., 0]), "TIFF"),
}


def orientation_of(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("case", HARMLESS)
def test_pictures_of_other_kinds_are_read(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    dataset, seen = outcome(with_images(tmp_path, HARMLESS[case]()), caplog)
    assert counted(dataset) == (3, 4), seen
    inputs(case, "all images")


ANY_PICTURE = {
    "PNG": encode(COLOUR),
    "palette": indexed(b"\0\xff"),
    "moving PNG": frames("PNG"),
    "JPEG": saved(Image.fromarray(COLOUR), "JPEG", exif=orientation_of(6)),
    "TIFF": saved(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw", exif=orientation_of(3)),
    "WEBP": saved(Image.fromarray(drawn(True)), "WEBP"),
    "GIF": frames("GIF"),
    "BMP": saved(Image.fromarray(COLOUR), "BMP"),
    "PPM": ppm(4095),
}


@given(data=st.data())
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("kind", ANY_PICTURE)
def test_a_damaged_picture_is_decoded_or_named(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(ANY_PICTURE[kind])
    for _ in range(data.draw(st.integers(1, 4), "flips")):
        damaged[data.draw(st.integers(0, len(damaged) - 1), "at")] = data.draw(
            st.integers(0, 255), "byte"
        )
    if data.draw(st.booleans(), "cut"):
        del damaged[data.draw(st.integers(0, len(damaged) - 1), "at") :]
    try:
        pixels = decode(bytes(damaged), "white")
    except UnusableImageError as error:
        one_line(UserError(f"{error.reason} {error.detail} {error.advice}"))
        return
    assert pixels.rgb.dtype == np.uint8
    assert pixels.rgb.shape[2] == 3


def test_pictures_that_cannot_be_used_are_named_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, inputs: Callable[[str, str], None]
) -> None:
    files = small_set() | {f"train/cat/x{i}.png": b"no image" for i in range(5)}
    files |= {f"test/dog/y{i}.png": png_of_16_bits(3) for i in range(2)}
    dataset, seen = outcome(write(tmp_path / "a.tar", files), caplog)
    assert dataset is None
    for text in (
        "each of 5 files is not an image in one of BMP, ",
        "'train/cat/x0.png', 'train/cat/x1.png', 'train/cat/x2.png' and 2 more",
        f"each of 2 files {DEEP}: 'test/dog/y0.png' (16 bits, PNG), 'test/dog/y1.png' (16 bits",
        "; remove or convert them",
        "; convert them to 8 bits per channel",
    ):
        assert text in seen
    inputs("7 files that cannot be used", seen)
