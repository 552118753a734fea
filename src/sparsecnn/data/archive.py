"""Every file of a folder or an archive, all of it or one line that says why not.

Archives are read in one sequential pass without unpacking to disk. They may come from anyone: what
points outside, links, devices and decompression bombs are refused. They may be damaged, too: what
tarfile and zipfile take for the end of an archive, or leave out without a word, is looked at here.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, NoReturn, Self

from sparsecnn.data import filenames
from sparsecnn.errors import UserError, in_a_line


class _DamagedError(Exception):
    """An archive that is not whole; says what is wrong with it."""


MAX_TOTAL_BYTES = 8 * 2**30
"""Most that an archive may decompress to, and that all decoded images may take."""
MAX_FILE_BYTES = 64 * 2**20
"""Most that a single file may take."""

_MAX_DEPTH = 4
"""Folders below the source's own that are looked into; it also ends loops of links."""
_CHUNK = 2**20
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    ValueError,  # numbers and names that are none
    NotImplementedError,  # a compression that zipfile does not know
    _DamagedError,
)
"""What damage makes the standard library raise."""
_FORMS = "a folder or a complete .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive"


@dataclass(frozen=True)
class Entry:
    """A file or folder inside a source."""

    path: str
    """From the source's root, parts separated by ``/``."""
    is_folder: bool = False
    content: bytes | None = None
    """Of a file that was wanted."""


Wanted = Callable[[str], bool]
"""Whether the content of the file of this path is to be read."""


def entries(source: Path, names: str | None, wanted: Wanted) -> Iterator[Entry]:
    """Everything in `source`, in the order stored.

    Parameters
    ----------
    source
        A folder, or a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive (recognised by content).
    names
        Encoding of file names that are not UTF-8; None refuses these.
    wanted
        Says of a path whether its content is to be read.

    Raises
    ------
    UserError
        In one line, if the source is not there, not whole, not safe, or too large.
    """
    if not source.exists():
        raise UserError(absent(source))
    try:
        if source.is_dir():
            yield from _folder_entries(source, names, wanted)
        elif _head(source).startswith(b"PK"):
            yield from _zip_entries(source, names, wanted)
        else:
            yield from _tar_entries(source, names, wanted)
    except UserError:
        raise
    except PermissionError as error:
        where = error.filename or source
        raise UserError(
            f"{source}: {where} cannot be read ({error.strerror}); let it be read, or remove it"
        ) from None
    except _UNREADABLE as error:
        raise UserError(f"{source}: cannot be read ({in_a_line(error)}); give {_FORMS}") from None


def absent(source: Path) -> str:
    """What to say of a source that is not there."""
    hint = (
        " (write the path in full: ~ and $ stay as they are)"
        if re.search("[~$]", str(source))
        else ""
    )
    return f"dataset.source: {source} does not exist{hint}"


def folder_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and state of every file below a folder, links followed; a folder's path ends in ``/``.

    Paths are as the file system has them; in the order of names. Raises `UserError` for what must
    not be looked at.
    """
    try:
        yield from _scan(os.fspath(folder), "", 0)
    except OSError as error:
        raise UserError(
            f"{folder}: {error.filename} cannot be looked at ({error.strerror}); let it be read, "
            "or remove it"
        ) from None


def _scan(folder: str, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as found:
        inside = sorted(found, key=lambda entry: entry.name)
    for entry in inside:
        path, state = prefix + entry.name, _state(entry)
        if stat.S_ISDIR(state.st_mode):
            yield f"{path}/", state
            if depth < _MAX_DEPTH:
                yield from _scan(entry.path, f"{path}/", depth + 1)
        else:
            yield path, state


def _state(entry: os.DirEntry[str]) -> os.stat_result:
    """Of what a link leads to, or of the link if that is nowhere."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def _folder_entries(source: Path, names: str | None, wanted: Wanted) -> Iterator[Entry]:
    found = list(folder_files(source))
    paths = filenames.decoded([os.fsencode(path) for path, _ in found], names)
    filenames.refuse_undecoded(source, _files(paths, wanted), names)
    for (stored, state), path in zip(found, paths, strict=True):
        if path.endswith("/"):
            yield Entry(path.removesuffix("/"), is_folder=True)
        elif not wanted(path):
            yield Entry(path)
        elif not stat.S_ISREG(state.st_mode):
            refuse(source, path, "is neither a file nor a link to one")
        else:
            _check_size(source, path, state.st_size)
            yield Entry(path, content=(source / stored).read_bytes())


# --- zip ------------------------------------------------------------------------------------------


def _zip_entries(source: Path, names: str | None, wanted: Wanted) -> Iterator[Entry]:
    with zipfile.ZipFile(source) as archive, source.open("rb") as file:
        members = archive.infolist()
        _check_directory(file, archive)
        if sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
            refuse_total(source)
        paths = filenames.in_zip(source, members, names)
        filenames.refuse_undecoded(source, _files(paths, wanted), names)
        for member, path in zip(members, paths, strict=True):
            _check_path(source, path)
            _check_size(source, path, member.file_size)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                refuse(source, path, "is a link or device")
            if member.flag_bits & 1:
                refuse(source, path, "is encrypted")
            if path.endswith("/"):
                yield Entry(_plain(path), is_folder=True)
            elif not wanted(_plain(path)):
                yield Entry(_plain(path))
            else:
                yield Entry(_plain(path), content=archive.read(member))


_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")


def _check_directory(file: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Raise `_DamagedError` unless directory and members account for every byte of the file."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    _check_end(file, len(members))
    begins = [member.header_offset for member in members] + [archive.start_dir]
    if begins[0] != _marker_size(file):
        raise _DamagedError("something comes before its first file; were two archives joined?")
    for member, (begin, following) in zip(members, pairwise(begins), strict=True):
        gap = following - _end_of_member(file, member, begin)
        # What may stand in between are sizes and checksum, where they were not known before.
        if gap not in ((0, 12, 16, 20, 24) if member.flag_bits & 8 else (0,)):
            raise _DamagedError(f"something that it does not list lies beside {member.filename!r}")


def _check_end(file: IO[bytes], count: int) -> None:
    """Raise `_DamagedError` unless the last record is of so many files, and ends the archive."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _END.size - 0xFFFF))
    tail = file.read()
    begin = tail.rindex(b"PK\5\6")
    _, _, _, _, listed, _, _, comment_size = _END.unpack_from(tail, begin)
    # Programs that write to tapes and pipes pad with zeros.
    if tail[begin + _END.size + comment_size :].strip(b"\0"):
        raise _DamagedError("something follows its end; were two archives joined?")
    if listed not in (0xFFFF, count):  # more are counted elsewhere (ZIP64)
        raise _DamagedError(f"it lists {count} of {listed} files")


def _marker_size(file: IO[bytes]) -> int:
    """Bytes that an archive begins with which could have been split over disks (APPNOTE 8.5.4)."""
    file.seek(0)
    return 4 if file.read(4) in (b"PK00", b"PK\7\x08") else 0


def _end_of_member(file: IO[bytes], member: zipfile.ZipInfo, begin: int) -> int:
    file.seek(begin)
    signature, *_, name_size, extra_size = _LOCAL.unpack(file.read(_LOCAL.size))
    if signature != b"PK\3\4" or file.read(name_size) != filenames.raw_in_zip(member):
        raise _DamagedError(f"its directory has {member.filename!r} where something else is")
    return begin + _LOCAL.size + int(name_size) + int(extra_size) + member.compress_size


# --- tar ------------------------------------------------------------------------------------------


class _StrictHeader(tarfile.TarInfo):
    """Of a member: what is no header is an error, and not the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError:
            if not tarfile_.offset:
                raise _DamagedError("it is no archive that is known here") from None
            raise _DamagedError(
                f"no file begins at byte {tarfile_.offset}, nor does the archive end there; it was "
                "cut short or altered"
            ) from None


def _tar_entries(source: Path, names: str | None, wanted: Wanted) -> Iterator[Entry]:
    with _decompressed(source) as file:
        stream = _BoundedStream(source, file)
        with tarfile.open(
            fileobj=stream,
            mode="r|",
            tarinfo=_StrictHeader,
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive:
            for member in archive:
                stream.next_member()
                raw = member.name.encode("utf-8", "surrogateescape")
                [path] = filenames.decoded([raw], names)
                if member.isreg():
                    filenames.refuse_undecoded(source, _files([path], wanted), names)
                if "\\" in path:
                    refuse(source, path, "has a path that may lead outside")
                _check_path(source, path)
                _check_size(source, path, member.size)
                if not (member.isreg() or member.isdir()):
                    refuse(source, path, "is a link or device")
                path = _plain(path)
                content = archive.extractfile(member) if member.isreg() and wanted(path) else None
                yield Entry(path, member.isdir(), content.read() if content else None)
            _check_rest(archive.fileobj)  # type: ignore[arg-type]


def _check_rest(stream: IO[bytes]) -> None:
    """Raise `_DamagedError` unless nothing but another block of zeros and padding follows."""
    if len(block := stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise _DamagedError("its end is missing; it was cut short")
    while block:
        if block.count(0) != len(block):
            raise _DamagedError("something follows its end; were two archives joined?")
        block = stream.read(_CHUNK)


def _head(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(8)


def _decompressed(source: Path) -> io.BufferedIOBase | io.BufferedReader:
    head = _head(source)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(source)
    if head.startswith(b"BZh"):
        return io.BufferedReader(_Decompressed(source, bz2.BZ2Decompressor))
    if head.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(_Decompressed(source, lzma.LZMADecompressor))
    return source.open("rb")


class _Decompressed(io.RawIOBase):
    """A file of streams one after the other; bz2.open and lzma.open ignore what is no stream."""

    def __init__(
        self, source: Path, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
    ) -> None:
        self._file, self._new, self._stream = source.open("rb"), new, new()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while True:
            if self._stream.eof and not self._next_stream():
                return 0
            data = b""
            if self._stream.needs_input and not (data := self._file.read(_CHUNK)):
                raise EOFError("it was cut short")
            if out := self._stream.decompress(data, len(buffer)):
                buffer[: len(out)] = out
                return len(out)

    def _next_stream(self) -> bool:
        """Begin what follows a stream's end; False if it is the file's end, after any padding."""
        rest = self._stream.unused_data.lstrip(b"\0")
        while not rest and (more := self._file.read(_CHUNK)):
            rest = more.lstrip(b"\0")
        if not rest:
            return False
        self._file.seek(-len(rest), os.SEEK_CUR)
        self._stream = self._new()
        return True


class _BoundedStream(io.RawIOBase):
    """What tarfile reads from: stops a bomb by its decompressed bytes, headers included."""

    def __init__(self, source: Path, file: io.BufferedIOBase | io.BufferedReader) -> None:
        self._source = source
        self._file = file
        self._total = 0
        self._since_member = 0

    def next_member(self) -> None:
        """A header has been read; allow for the file that it announces and the next header."""
        self._since_member = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._total += len(data)
        self._since_member += len(data)
        # tarfile keeps extended headers in memory, of whatever size they claim to be.
        if self._total > MAX_TOTAL_BYTES or self._since_member > 2 * MAX_FILE_BYTES:
            refuse_total(self._source)
        return data


# --- what is refused of any -----------------------------------------------------------------------


def _files(paths: Iterable[str], wanted: Wanted) -> list[str]:
    """Of paths those of files that are wanted; a folder's ends in ``/``."""
    return [path for path in paths if not path.endswith("/") and wanted(_plain(path))]


def _plain(path: str) -> str:
    """Without a trailing slash, and without parts that lead nowhere."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _check_path(source: Path, path: str) -> None:
    outside = path.startswith("/") or re.match("[A-Za-z]:/", path) or ".." in path.split("/")
    if outside or "\0" in path:
        refuse(source, path, "has a path that may lead outside")


def _check_size(source: Path, path: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        refuse(source, path, f"takes {size} bytes; at most {MAX_FILE_BYTES} are allowed")


def refuse(source: Path, path: str, reason: str) -> NoReturn:
    """Raise the `UserError` that one file of a source is not allowed."""
    raise UserError(f"{source}: {path!r} {reason}; remove it and try again")


def refuse_total(source: Path) -> NoReturn:
    """Raise the `UserError` that a source takes too much."""
    raise UserError(
        f"{source}: its content takes more than {MAX_TOTAL_BYTES} bytes, or a header more than "
        f"{MAX_FILE_BYTES}; use fewer or smaller images"
    )
