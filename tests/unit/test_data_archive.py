"""Archives and folders that are whole are read whole; others are refused in a line.

Each case is a row of the table that is printed at the end of the tests.
"""

import bz2
import io
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_sets import (
    counted,
    one_line,
    outcome,
    small_set,
    write,
)

from sparsecnn.data.archive import entries
from sparsecnn.data.image_folder import read_image_folder
from sparsecnn.errors import UserError


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
    assert re.search(message, seen), seen
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
