"""Images as people have them: read as meant, or refused in a line that says what to do.

Each case is a row of the table that is printed at the end of the tests.
"""

import io
import logging
import os
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_sets import Files, encode, image, small_set, write
from PIL import Image, ImageCms

from sparsecnn.data.archive import entries
from sparsecnn.data.dataset import Dataset, check
from sparsecnn.data.image_folder import read_image_folder
from sparsecnn.data.pixels import UnusableImageError, decode
from sparsecnn.errors import UserError

Made = Path | tuple[Path, dict[str, str]]
"""A source, and options to read it with."""
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def outcome(made: Made, caplog: pytest.LogCaptureFixture) -> tuple[Dataset | None, str]:
    """The dataset, and all that a user sees: lines of the log, or the error."""
    source, options = made if isinstance(made, tuple) else (made, {})
    with caplog.at_level(logging.INFO):
        try:
            dataset = read_image_folder(source, source.parent, **options)
            check(dataset)
        except UserError as error:
            return None, one_line(error).replace(f"{source.parent}/", "")
    return dataset, " | ".join(r.getMessage() for r in caplog.records).replace(
        f"{source.parent}/", ""
    )


def one_line(error: UserError) -> str:
    assert "\n" not in str(error)
    assert len(str(error)) < 900
    return f"error: {error}"


def counted(dataset: Dataset | None) -> tuple[int, int] | None:
    return dataset and (len(dataset.train_labels), len(dataset.test_labels))


# --- Archives that are not whole ------------------------------------------------------------------


def blocks(path: Path) -> dict[str, int]:
    with tarfile.open(path) as archive:
        return {member.name: member.offset for member in archive}


def altered(folder: Path, name: str, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    path = write(folder / name, small_set())
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def at_file(folder: Path, change: Callable[[bytearray, int], bytes | bytearray]) -> Path:
    begins = blocks(write(folder / "a.tar", small_set()))["test/dog/1.png"]
    return altered(folder, "a.tar", lambda data: change(data, begins))


def flipped(data: bytearray, at: int) -> bytearray:
    data[at] ^= 0x41
    return data


def joined(folder: Path, name: str) -> Path:
    first, second = small_set(), {k.replace("1.png", "2.png"): v for k, v in small_set().items()}
    parts = [write(folder / f"{n}-{name}", part) for n, part in (("x", first), ("y", second))]
    path = folder / name
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def of_two_streams(folder: Path, name: str, rest: bytes) -> Path:
    """A compressed archive with more behind its end."""
    return altered(folder, name, lambda data: data + rest)


def without_the_directory_knowing(folder: Path) -> Path:
    """A zip from whose directory an entry was taken."""
    path = write(folder / "a.zip", small_set())
    data = path.read_bytes()
    begin = data.index(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    following = data.index(b"PK\1\2", begin + 4)
    total, size = struct.unpack_from("<HL", data, end + 10)
    changed = bytearray(data[:begin] + data[following:])
    end -= following - begin
    struct.pack_into("<HHL", changed, end + 8, total - 1, total - 1, size - (following - begin))
    path.write_bytes(changed)
    return path


def unreadable(folder: Path) -> Path:
    path = write(folder / "set", small_set())
    (path / "train/cat/9.png").symlink_to(folder / "nowhere")
    return path


def locked(folder: Path) -> Path:
    """A folder whose first look anybody but root would be denied."""
    return write(folder / "locked", small_set())


def linked_to_itself(folder: Path) -> Path:
    path = write(folder / "set", small_set())
    (path / "train/cat/9.png").symlink_to(path / "train/cat/9.png")
    (path / "beside").symlink_to(path / "beside")
    return path


def empty_file_in_the_middle(folder: Path) -> Path:
    return write(folder / "a.tar", small_set() | {"train/cat/5.png": b""})


NOT_WHOLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar cut in a header": (
        lambda f: at_file(f, lambda data, at: data[: at + 100]),
        "no file begins at byte .* cut short or altered",
    ),
    "tar cut between two files": (
        lambda f: at_file(f, lambda data, at: data[:at]),
        "no file begins at byte",
    ),
    "tar cut in a file": (lambda f: at_file(f, lambda d, at: d[: at + 530]), "unexpected end"),
    "tar without its last blocks": (
        lambda f: altered(
            f, "a.tar", lambda d: d.rstrip(b"\0") + bytes(-len(d.rstrip(b"\0")) % 512)
        ),
        "no file begins at byte|its end is missing",
    ),
    "tar with half its end": (
        lambda f: altered(
            f, "a.tar", lambda d: d.rstrip(b"\0") + bytes(-len(d.rstrip(b"\0")) % 512 + 512)
        ),
        "its end is missing; it was cut short",
    ),
    "tar with a byte of a header altered": (
        lambda f: at_file(f, lambda data, at: flipped(data, at + 20)),
        "no file begins at byte",
    ),
    "tar with a header's checksum altered": (
        lambda f: at_file(f, lambda data, at: flipped(data, at + 150)),
        "no file begins at byte",
    ),
    "cat a.tar b.tar": (lambda f: joined(f, "j.tar"), "something follows its end.* joined"),
    "cat a.tar.gz b.tar.gz": (lambda f: joined(f, "j.tar.gz"), "something follows its end"),
    "cat a.tar.bz2 b.tar.bz2": (lambda f: joined(f, "j.tar.bz2"), "something follows its end"),
    "cat a.tar.xz b.tar.xz": (lambda f: joined(f, "j.tar.xz"), "something follows its end"),
    "cat a.zip b.zip": (lambda f: joined(f, "j.zip"), "something comes before its first file"),
    "text behind a tar": (
        lambda f: of_two_streams(f, "a.tar", b"more"),
        "something follows its end",
    ),
    "text behind a tar.gz": (lambda f: of_two_streams(f, "a.tar.gz", b"more"), "Not a gzipped"),
    "text behind a tar.bz2": (
        lambda f: of_two_streams(f, "a.tar.bz2", b"more text"),
        "Invalid data stream",
    ),
    "text behind a tar.xz": (
        lambda f: of_two_streams(f, "a.tar.xz", b"more text"),
        "format not supported|Corrupt",
    ),
    "text behind a zip": (lambda f: of_two_streams(f, "a.zip", b"more"), "something follows its"),
    "text before a zip": (
        lambda f: altered(f, "a.zip", lambda d: b"PK, said he. " + d),
        "something comes before its first file",
    ),
    "zip whose directory lacks a file": (
        without_the_directory_knowing,
        "something comes before its first file|something that it does not list",
    ),
    "zip with a name altered in its directory": (
        lambda f: altered(f, "a.zip", lambda d: flipped(d, d.rindex(b"train/dog"))),
        "its directory has .* where something else is",
    ),
    "zip with a checksum altered": (
        lambda f: altered(f, "a.zip", lambda d: flipped(d, d.index(b"PK\1\2") + 16)),
        "Bad CRC-32",
    ),
    "zip of a length altered": (
        lambda f: altered(f, "a.zip", lambda d: flipped(d, d.index(b"PK\1\2") + 20)),
        "something that it does not list|Bad|Error",
    ),
    "a link to nothing in a folder": (unreadable, "is neither a file nor a link to one"),
    "a folder that must not be looked at": (lambda f: locked(f), "cannot be looked at .Permission"),
    "a link to itself": (lambda f: linked_to_itself(f), "is neither a file nor a link to one"),
    "an archive of another kind": (
        lambda f: altered(f, "a.zip", lambda _: b"7z\xbc\xaf\x27\x1c" + bytes(600)),
        "a.zip: cannot be read .it is no archive that is known here.; give a folder or a complete",
    ),
    "a web page in place of a download": (
        lambda f: altered(f, "a.tar", lambda _: b"<!DOCTYPE html>" * 50),
        "it is no archive that is known here",
    ),
    "an empty file": (empty_file_in_the_middle, "'train/cat/5.png' is not an image"),
}


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_a_source_that_is_not_whole_is_refused(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    look = os.scandir

    def denied(path: str) -> object:
        if "locked/train/dog" in path:
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", denied)
    make, message = NOT_WHOLE[case]
    dataset, seen = outcome(make(tmp_path), caplog)
    assert dataset is None, seen
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(seen)
    inputs(case, seen)


def streamed_zip(path: Path, method: int) -> Path:
    """As a program writes it that cannot go back: lengths follow the files."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        archive.comment = b"made by hand"
        for name, data in small_set().items():
            with archive.open(name, "w", force_zip64=name.endswith("1.png")) as file:
                file.write(data)
    path.write_bytes(pipe.data)
    return path


def tar_of_format(path: Path, form: int) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in small_set().items():
            member = tarfile.TarInfo("a long name/" + name.replace(".png", "x" * 150 + ".png"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


WHOLE: dict[str, Callable[[Path], Path]] = {
    "zip written to a pipe": lambda f: streamed_zip(f / "a.zip", zipfile.ZIP_DEFLATED),
    "zip of stored files written to a pipe": lambda f: streamed_zip(
        f / "a.zip", zipfile.ZIP_STORED
    ),
    "zip begun to be split (PK00)": lambda f: marked(f),
    "tar of GNU's kind with long names": lambda f: tar_of_format(f / "a.tar", tarfile.GNU_FORMAT),
    "tar of POSIX' kind with long names": lambda f: tar_of_format(f / "a.tar", tarfile.PAX_FORMAT),
    "zip padded to a tape's block (bsdtar)": lambda f: altered(
        f, "a.zip", lambda d: d + bytes(-len(d) % 10240)
    ),
    "tar padded to a tape's block": lambda f: altered(f, "a.tar", lambda d: d + bytes(20480)),
    "tar.bz2 of two streams (pbzip2)": lambda f: in_two_streams(f),
    "tar.xz with padding": lambda f: altered(f, "a.tar.xz", lambda d: d + bytes(8)),
    "tar.gz with padding": lambda f: altered(f, "a.tar.gz", lambda d: d + bytes(512)),
}


def marked(folder: Path) -> Path:
    return altered(folder, "a.zip", lambda data: b"PK00" + data)


def in_two_streams(folder: Path) -> Path:
    import bz2

    data = write(folder / "a.tar", small_set()).read_bytes()
    path = folder / "a.tar.bz2"
    path.write_bytes(bz2.compress(data[:5000]) + bz2.compress(data[5000:]))
    return path


@pytest.mark.parametrize("case", WHOLE)
def test_archives_of_any_writer_are_read_whole(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    dataset, seen = outcome(WHOLE[case](tmp_path), caplog)
    assert counted(dataset) == (4, 4), seen
    inputs(case, "all images")


def test_a_tar_cut_anywhere_loses_nothing_silently(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", small_set())
    data = path.read_bytes()
    expected = [e.path for e in entries(path, None, lambda _: True)]
    read = 0
    for length in [*range(0, len(data), 512), *range(100, len(data), 1111)]:
        path.write_bytes(data[:length])
        try:
            assert [e.path for e in entries(path, None, lambda _: True)] == expected
            read += 1
        except UserError as error:
            one_line(error)
    assert 0 < read < len(data) // 512  # cut in the padding


@given(data=st.data())
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip", "s.zip"])
def test_a_damaged_archive_gives_all_images_or_one_line(
    name: str, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / name
    if not path.exists():
        streamed_zip(path, zipfile.ZIP_STORED) if name == "s.zip" else write(path, small_set())
    stored = path.read_bytes()
    damaged = bytearray(stored)
    if data.draw(st.booleans(), "cut"):
        del damaged[data.draw(st.integers(0, len(stored) - 1), "at") :]
    # Two in the header of a tar can make up for each other: its checksum is a sum.
    for _ in range(data.draw(st.integers(0, 1 if name == "a.tar" else 3), "flips")):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1), "at")] ^= data.draw(
                st.integers(1, 255), "with"
            )
    fuzzed = tmp_path / "fuzzed"
    fuzzed.write_bytes(damaged)
    try:
        dataset = read_image_folder(fuzzed, tmp_path)
    except UserError as error:
        one_line(error)
        return
    assert counted(dataset) == (4, 4)
    assert dataset.classes == ("cat", "dog")


# --- Pictures -------------------------------------------------------------------------------------


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
    with pytest.raises(AssertionError, match=rf"a.zip: 'train/cat/0\.png' {message}"):
        raise AssertionError(seen)
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


# --- Names ----------------------------------------------------------------------------------------

NFC, NFD = (unicodedata.normalize(form, "고양이 é") for form in ("NFC", "NFD"))


def named(*labels: str, split: str = "train") -> Files:
    return {f"{split}/{label}/{i}.png": image(i) for label in labels for i in range(2)}


class OfBytes(zipfile.ZipInfo):
    """A member whose name is written as the bytes of cp437 that it is given as, without a flag."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode("cp437"), 0


def zip_of_bytes(path: Path, encoding: str, label: str) -> Path:
    """A zip as Windows makes it: names of bytes in its own encoding, without a flag."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (small_set() | named(label) | named(label, split="test")).items():
            member = OfBytes(name.encode(encoding).decode("cp437"))
            archive.writestr(member, data)
    return path


def with_path_in_unicode(path: Path, label: str) -> Path:
    """A zip as Info-ZIP makes it: names in an encoding of its own, and besides in UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (small_set() | named(label) | named(label, split="test")).items():
            raw = name.encode("cp949")
            field = b"\1" + zlib.crc32(raw).to_bytes(4, "little") + name.encode()
            member = OfBytes(raw.decode("cp437"))
            member.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(member, data)
    return path


def folder_of_bytes(folder: Path, label: bytes) -> Path:
    for split in ("train", "test"):
        where = folder / "set" / split / os.fsdecode(label)
        where.mkdir(parents=True)
        (where / "0.png").write_bytes(image())
    return write(folder / "set", small_set())


def tar_of_bytes(path: Path, encoding: str, label: str) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding=encoding) as archive:
        for name, data in (small_set() | named(label) | named(label, split="test")).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


NAMES: dict[str, tuple[Callable[[Path], Made], tuple[str, ...]]] = {
    "NFC in train, NFD in test": (
        lambda f: write(f / "a.zip", small_set() | named(NFC) | named(NFD, split="test")),
        ("cat", "dog", NFC),
    ),
    "NFC and NFD in one split": (
        lambda f: write(f / "a.tar", small_set() | named(NFC, NFD) | named(NFD, split="test")),
        ("cat", "dog", NFC),
    ),
    "NFD in a folder": (
        lambda f: write(f / "set", small_set() | named(NFD) | named(NFC, split="test")),
        ("cat", "dog", NFC),
    ),
    "zip from Korean Windows, encoding given": (
        lambda f: (zip_of_bytes(f / "a.zip", "cp949", "고양이"), {"names": "cp949"}),
        ("cat", "dog", "고양이"),
    ),
    "zip from Japanese Windows, encoding given": (
        lambda f: (zip_of_bytes(f / "a.zip", "cp932", "ネコ"), {"names": "cp932"}),
        ("cat", "dog", "ネコ"),
    ),
    "zip from Western Windows, encoding given": (
        lambda f: (zip_of_bytes(f / "a.zip", "cp850", "Löwe"), {"names": "cp850"}),
        ("Löwe", "cat", "dog"),
    ),
    "zip from macOS, UTF-8 without a flag": (
        lambda f: zip_of_bytes(f / "a.zip", "utf-8", NFD),
        ("cat", "dog", NFC),
    ),
    "zip from Info-ZIP with names in UTF-8 besides": (
        lambda f: with_path_in_unicode(f / "a.zip", "고양이"),
        ("cat", "dog", "고양이"),
    ),
    "tar with names in cp949, encoding given": (
        lambda f: (tar_of_bytes(f / "a.tar", "cp949", "고양이"), {"names": "cp949"}),
        ("cat", "dog", "고양이"),
    ),
    "folder with names in latin-1, encoding given": (
        lambda f: (folder_of_bytes(f, "Löwe".encode("latin-1")), {"names": "latin-1"}),
        ("Löwe", "cat", "dog"),
    ),
    "zip from Windows with backslashes": (
        lambda f: backslashes(f / "a.zip", small_set()),
        ("cat", "dog"),
    ),
    "zip with backslashes, folders and one folder above": (
        lambda f: backslashes(
            f / "a.zip", {"top/train/": b""} | {f"top/{k}": v for k, v in small_set().items()}
        ),
        ("cat", "dog"),
    ),
    "train and val": (
        lambda f: write(
            f / "a.zip", {k.replace("test/", "val/"): v for k, v in small_set().items()}
        ),
        ("cat", "dog"),
    ),
    "Training and Validation": (
        lambda f: write(
            f / "set",
            {
                k.replace("test/", "Validation/").replace("train/", "Training/"): v
                for k, v in small_set().items()
            },
        ),
        ("cat", "dog"),
    ),
    "train, test and valid": (
        lambda f: write(f / "a.tar", small_set() | named("cat", "cow", split="valid")),
        ("cat", "dog"),
    ),
    "classes called val and test": (
        lambda f: write(
            f / "a.tar", small_set() | named("val", "test") | named("val", "test", split="test")
        ),
        ("cat", "dog", "test", "val"),
    ),
}


def backslashes(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo("x")
            member.filename = name.replace("/", "\\")
            archive.writestr(member, data)
    return path


@pytest.mark.parametrize("case", NAMES)
def test_names_of_classes_and_splits(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    make, classes = NAMES[case]
    dataset, seen = outcome(make(tmp_path), caplog)
    assert dataset is not None, seen
    assert dataset.classes == classes
    inputs(case, seen or f"classes {', '.join(classes)}")


def hidden(folder: Path) -> Path:
    left = ("Thumbs.db", "desktop.ini", ".DS_Store", "ehthumbs.db", "readme.txt", "labels.csv")
    files = {f"{s}/{c}/{n}": b"x" for s in ("train", "test") for c in ("cat", "dog") for n in left}
    files |= {
        "__MACOSX/train/cat/._0.png": b"x",
        "train/@eaDir/0.png": b"x",
        "train/list.txt": b"x",
    }
    return write(folder / "a.zip", small_set() | files | {"licence": b"x", "README.md": b"x"})


TOLD: dict[str, tuple[Callable[[Path], Made], str]] = {
    "what systems and people leave beside images": (
        hidden,
        r"29 files not read: 4 Thumbs\.db, 4 desktop\.ini, 4 \.DS_Store, 17 others",
    ),
    "files outside the splits": (
        lambda f: write(f / "set", small_set() | {"extra/a/0.png": image(), "extra/b/0.png": b""}),
        "2 files not read: 2 beside train and test",
    ),
    "a class empty in both splits": (
        lambda f: with_folders(f, "train/cow", "test/cow"),
        "no image in either split of class 'cow', which is left out",
    ),
    "a class of nothing but Thumbs.db": (
        lambda f: write(f / "a.tar", small_set() | {"train/cow/Thumbs.db": b"x"}),
        "no image in either split of class 'cow', which is left out",
    ),
    "files beside the splits whose names are no UTF-8": (
        lambda f: with_odd_names(f),
        r"3 files not read: 2 beside train and test, 1 'caf\\xe9\.txt'",
    ),
    "a zip with such a file beside the splits": (
        lambda f: with_odd_readme(f / "a.zip"),
        "1 file not read: 1 beside train and test",
    ),
    "val beside test": (
        lambda f: write(f / "a.tar", small_set() | named("cat", split="val")),
        "2 files not read: 2 in val",
    ),
    "train and Train": (
        lambda f: write(f / "a.zip", small_set() | named("cat", split="Train")),
        "2 files not read: 2 in Train",
    ),
    "val for test": (
        lambda f: write(
            f / "a.zip", {k.replace("test/", "val/"): v for k, v in small_set().items()}
        ),
        "val: read as the test split",
    ),
    "names in UTF-8 that do not say so": (
        lambda f: zip_of_bytes(f / "a.zip", "utf-8", "né"),
        "4 names do not say in which encoding: read as utf-8",
    ),
}


def with_odd_names(folder: Path) -> Path:
    source = write(folder / "set", small_set())
    for name in (b"notes/\xdc.dat", b"\xdc\n.dat", b"train/cat/caf\xe9.txt"):
        path = source / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (source / os.fsdecode(b"train/empty \xdc")).mkdir()
    return source


def with_odd_readme(path: Path) -> Path:
    write(path, small_set())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(OfBytes("Ü.dat"), b"x")
    return path


def with_folders(folder: Path, *paths: str) -> Path:
    source = write(folder / "set", small_set())
    for path in paths:
        (source / path).mkdir()
    return source


@pytest.mark.parametrize("case", TOLD)
def test_what_is_left_out_or_taken_for_something_is_said(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    make, message = TOLD[case]
    dataset, seen = outcome(make(tmp_path), caplog)
    assert dataset is not None, seen
    assert dataset.classes[-2:] in (("cat", "dog"), ("dog", "né"))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(seen)
    inputs(case, seen)


WRONG_NAMES: dict[str, tuple[Callable[[Path], Made], str]] = {
    "zip from Korean Windows": (
        lambda f: zip_of_bytes(f / "a.zip", "cp949", "고양이"),
        r"4 names are not UTF-8, as 'train/\\xb0.*set dataset.names .* cp949 \(Korean: .*고양이",
    ),
    "zip from Japanese Windows": (
        lambda f: zip_of_bytes(f / "a.zip", "cp932", "ネコ"),
        r"4 names are not UTF-8, .*cp932 \(Japanese: .*ネコ",
    ),
    "zip from Western Windows": (
        lambda f: zip_of_bytes(f / "a.zip", "cp1252", "Löwe"),
        r"4 names are not UTF-8, .*cp1252 \(Western Europe: .*Löwe",
    ),
    "tar with names in cp949": (
        lambda f: tar_of_bytes(f / "a.tar", "cp949", "고양이"),
        "a name is not UTF-8, .* cp949",
    ),
    "folder with names in latin-1": (
        lambda f: folder_of_bytes(f, "Löwe".encode("latin-1")),
        r"names are not UTF-8, .* likely cp1252 \(Western Europe: test/Löwe/0\.png\) or",
    ),
    "zip from Korean Windows, another encoding given": (
        lambda f: (zip_of_bytes(f / "a.zip", "cp949", "고양이"), {"names": "utf-8"}),
        "4 names are not in the encoding that dataset.names gives, utf-8",
    ),
    "val and valid for test": (
        lambda f: write(
            f / "a.zip",
            {k.replace("test/", "val/"): v for k, v in small_set().items()}
            | {k.replace("test/", "valid/"): v for k, v in small_set().items()},
        ),
        "test could be val or valid; rename or remove all but one",
    ),
    "Train and training": (
        lambda f: write(
            f / "a.zip",
            {k.replace("train/", "Train/"): v for k, v in small_set().items()}
            | named("cat", split="training"),
        ),
        "train could be Train or training; rename or remove all but one",
    ),
    "train alone": (
        lambda f: write(f / "a.zip", named("cat", "dog")),
        "no image for test; expected train/<class>/<image> and test/<class>/<image>",
    ),
    "a folder of folders in a class": (
        lambda f: with_folders_of(f, "train/cat/x/y"),
        "'train/cat/x/y' is a folder where an image belongs",
    ),
}


def with_folders_of(folder: Path, path: str) -> Path:
    source = write(folder / "set", small_set())
    (source / path / "z").mkdir(parents=True)
    (source / path / "z/0.png").write_bytes(image())
    return source


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_names_that_leave_a_doubt_are_refused(
    case: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inputs: Callable[[str, str], None],
) -> None:
    make, message = WRONG_NAMES[case]
    dataset, seen = outcome(make(tmp_path), caplog)
    assert dataset is None, seen
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(seen)
    inputs(case, seen)
