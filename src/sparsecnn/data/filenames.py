"""Names of files as text: UTF-8, or the encoding that `dataset.names` gives."""

import logging
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sparsecnn.errors import UserError

logger = logging.getLogger(__name__)

_UTF_8_FLAG = 0x800
_UNICODE_PATH = 0x7075
"""Extra field of a zip with a name in UTF-8 (PKWARE's APPNOTE, section 4.6.9)."""
_LIKELY = {
    "cp949": "Korean",
    "cp932": "Japanese",
    "gbk": "Chinese",
    "big5": "Chinese",
    "cp850": "Western Europe, DOS",
    "cp1252": "Western Europe",
}
"""What systems write that do not write UTF-8; East Asian ones first."""
_SHOWN = 24
_SURROGATES = re.compile("[\udc80-\udcff]")


def decoded(raw: Sequence[bytes], encoding: str | None) -> list[str]:
    """Names as text: those that are no UTF-8 by `encoding`.

    What is in neither keeps its bytes as lone surrogates; `refuse_undecoded` is for such names.
    """
    return [_text(name, "utf-8", *([encoding] if encoding else [])) for name in raw]


def in_zip(source: Path, members: Sequence[zipfile.ZipInfo], encoding: str | None) -> list[str]:
    """Path of each member, parts separated by ``/``; a folder's ends in one.

    A name that says to be UTF-8 is. Others of bytes above 127 are by `encoding`, without it UTF-8,
    as those of macOS are; what is not keeps its bytes as lone surrogates. Backslashes, as old
    Windows programs write them, separate parts.
    """
    paths = [_certain_name(member) for member in members]
    unsure = [i for i, path in enumerate(paths) if path is None]
    used = encoding or "utf-8"
    for i in unsure:
        paths[i] = _text(raw_in_zip(members[i]), used)
    if unsure:
        logger.info(
            "%s: %d names do not say in which encoding: read as %s", source, len(unsure), used
        )
    return [(path or "").replace("\\", "/") for path in paths]


def refuse_undecoded(source: Path, paths: Iterable[str], encoding: str | None) -> None:
    """Raise `UserError` that names what is likely if a path could not be made text."""
    raw = [path.encode("utf-8", "surrogateescape") for path in paths if _SURROGATES.search(path)]
    if not raw:
        return
    shown = repr(raw[0])[1:]
    count = f"{len(raw)} names are" if len(raw) > 1 else "a name is"
    how = f"in the encoding that dataset.names gives, {encoding}" if encoding else "UTF-8"
    raise UserError(f"{source}: {count} not {how}, as {shown}; {_advice(raw)}")


def printable(name: str) -> str:
    """A name as it can be shown in a line, whatever its characters are."""
    return name if name.isprintable() else repr(name.encode("utf-8", "surrogateescape"))[1:]


def _text(name: bytes, *encodings: str) -> str:
    for encoding in encodings:
        if _fits(name, encoding):
            return name.decode(encoding)
    return name.decode("utf-8", "surrogateescape")


def _certain_name(member: zipfile.ZipInfo) -> str | None:
    """The name if there is no doubt in which encoding it is."""
    if member.flag_bits & _UTF_8_FLAG or member.orig_filename.isascii():
        return member.orig_filename
    return next(_unicode_paths(member), None)


def _unicode_paths(member: zipfile.ZipInfo) -> Iterator[str]:
    rest = member.extra
    # A version, and the checksum of the plain name: of another name, it is out of date.
    current = b"\1" + zlib.crc32(raw_in_zip(member)).to_bytes(4, "little")
    while len(rest) >= 4:
        kind, size = struct.unpack_from("<HH", rest)
        field, rest = rest[4 : 4 + size], rest[4 + size :]
        if kind == _UNICODE_PATH and field.startswith(current):
            yield field.removeprefix(current).decode()


def raw_in_zip(member: zipfile.ZipInfo) -> bytes:
    """The name as it is stored."""
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF_8_FLAG else "cp437")


def _advice(raw: Sequence[bytes]) -> str:
    likely = [
        f"{encoding} ({language}: {_shortened(raw[0].decode(encoding))})"
        for encoding, language in _LIKELY.items()
        if all(_fits(name, encoding) and _is_words(name.decode(encoding)) for name in raw)
    ]
    if not likely:
        return "rename the files, or set dataset.names to the encoding"
    if not any(re.search(rb"[\x80-\xff]{2}", name) for name in raw):
        likely.reverse()  # accents stand alone, East Asian characters are two bytes
    return f"set dataset.names to the encoding, likely {' or '.join(likely)}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"


def _fits(name: bytes, encoding: str) -> bool:
    try:
        name.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_words(text: str) -> bool:
    """Whether all that is not ASCII is a letter, an accent, a digit or a sign of measure."""
    return all(c.isascii() or unicodedata.category(c)[0] in "LMN" for c in text)
