"""Images in folders `train/<class>/` and `test/<class>/`, or in an archive of them.

Archives are read in one sequential pass without unpacking to disk. They may come from anyone:
members that point outside, links, devices and decompression bombs are refused.
"""

import bz2
import gzip
import io
import logging
import lzma
import os
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sparsecnn.data.dataset import Dataset
from sparsecnn.errors import UserError

logger = logging.getLogger(__name__)

SPLITS = ("train", "test")
MAX_TOTAL_BYTES = 8 * 2**30
"""Most that an archive may decompress to, and that all decoded images may take."""
MAX_FILE_BYTES = 64 * 2**20
"""Most that a single file may take."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's other formats include some that start external programs."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of 8 bits per channel; deeper ones would be cut off silently on conversion."""

_LAYOUT = "train/<class>/<image> and test/<class>/<image>, at most one folder above"
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,  # a compression that zipfile does not know
)
_PROGRESS_EVERY = 10_000


@dataclass(frozen=True, order=True)
class _Place:
    """Where an image belongs; sorts by split, class and file, whatever it was read from."""

    split: str
    label: str
    file: str
    top: str

    def __str__(self) -> str:
        return str(PurePosixPath(self.top, self.split, self.label, self.file))


def read_image_folder(source: Path | None, cache: Path) -> Dataset:
    """Read a folder or archive of images, all of one size, as RGB.

    Parameters
    ----------
    source
        A folder, or a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive (recognised by content),
        with `train/<class>/<image>` and `test/<class>/<image>`, at most one folder above.
        Files beside these, and names that begin with a dot, are ignored.
    cache
        Not used.

    Returns
    -------
    Classes in alphabetical order; the images of each split sorted by class and file name.

    Raises
    ------
    UserError
        When the source is missing, damaged or unsafe, when a file is no image (by name), when
        two images differ in size, or when train and test differ in their classes.
    """
    if source is None:
        raise UserError(f"dataset.source: image_folder needs a folder or archive with {_LAYOUT}")
    if not source.exists():
        raise UserError(f"dataset.source: {source} does not exist")
    images = _decode_all(source, _files(source))
    classes = _classes(source, images)
    train_images, train_labels = _stack("train", images, classes)
    test_images, test_labels = _stack("test", images, classes)
    return Dataset(train_images, train_labels, test_images, test_labels, classes)


def _files(source: Path) -> Iterator[tuple[_Place, bytes]]:
    """Every image file of the source with its bytes, in the order stored."""
    try:
        if source.is_dir():
            yield from _folder_files(source)
        elif _head(source).startswith(b"PK"):
            yield from _zip_files(source)
        else:
            yield from _tar_files(source)
    except _UNREADABLE as error:
        raise UserError(
            f"{source}: cannot be read ({error}); "
            "give a folder or a complete .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive"
        ) from None


def _folder_files(source: Path) -> Iterator[tuple[_Place, bytes]]:
    def stop(error: OSError) -> NoReturn:
        raise error

    for folder, subfolders, files in os.walk(source, onerror=stop, followlinks=True):
        depth = len(Path(folder).relative_to(source).parts)
        subfolders[:] = sorted(subfolders) if depth < 4 else []  # 4: also ends loops of links
        for name in sorted(files):
            path = Path(folder, name)
            place = _place(source, path.relative_to(source).as_posix())
            if place is None:
                continue
            if not path.is_file():
                _refuse(source, str(place), "is neither a file nor a link to one")
            _check_size(source, str(place), path.stat().st_size)
            yield place, path.read_bytes()


def _zip_files(source: Path) -> Iterator[tuple[_Place, bytes]]:
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
            _refuse_total(source)
        for member in members:
            _check_name(source, member.filename)
            _check_size(source, member.filename, member.file_size)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(source, member.filename, "is a link or device")
            if member.flag_bits & 1:
                _refuse(source, member.filename, "is encrypted")
            place = None if member.is_dir() else _place(source, member.filename)
            if place is not None:
                yield place, archive.read(member)


def _tar_files(source: Path) -> Iterator[tuple[_Place, bytes]]:
    with _decompressed(source) as file:
        stream = _BoundedStream(source, file)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                stream.next_member()
                _check_name(source, member.name)
                _check_size(source, member.name, member.size)
                if not (member.isreg() or member.isdir()):
                    _refuse(source, member.name, "is a link or device")
                place = None if member.isdir() else _place(source, member.name)
                content = place and archive.extractfile(member)
                if place and content:
                    yield place, content.read()


def _head(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(8)


def _decompressed(source: Path) -> io.BufferedIOBase:
    head = _head(source)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(source)
    if head.startswith(b"BZh"):
        return bz2.open(source)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(source)
    return source.open("rb")


class _BoundedStream(io.RawIOBase):
    """What tarfile reads from: stops a bomb by its decompressed bytes, headers included."""

    def __init__(self, source: Path, file: io.BufferedIOBase) -> None:
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
            _refuse_total(self._source)
        return data


def _check_name(source: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        _refuse(source, name, "has a path that may lead outside")


def _check_size(source: Path, name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        _refuse(source, name, f"takes {size} bytes; at most {MAX_FILE_BYTES} are allowed")


def _refuse(source: Path, name: str, reason: str) -> NoReturn:
    raise UserError(f"{source}: {name!r} {reason}; remove it and try again")


def _refuse_total(source: Path) -> NoReturn:
    raise UserError(
        f"{source}: its content takes more than {MAX_TOTAL_BYTES} bytes, or a header more than "
        f"{MAX_FILE_BYTES}; use fewer or smaller images"
    )


def _place(source: Path, name: str) -> _Place | None:
    """Where the file of this path belongs; None if it is to be ignored."""
    parts = PurePosixPath(name).parts
    if any(part.startswith(".") for part in parts):
        return None
    depth = next((i for i, part in enumerate(parts[:2]) if part in SPLITS), None)
    if depth is None:
        return None
    if len(parts) != depth + 3:
        _refuse(source, name, f"is not where an image belongs ({_LAYOUT})")
    return _Place(parts[depth], parts[depth + 1], parts[depth + 2], "".join(parts[:depth]))


def _decode_all(
    source: Path, files: Iterable[tuple[_Place, bytes]]
) -> dict[_Place, NDArray[np.uint8]]:
    """Decode every file to RGB, shape (H, W, 3); all must have the size of the first."""
    images: dict[_Place, NDArray[np.uint8]] = {}
    first: tuple[_Place, tuple[int, int]] | None = None
    for place, data in files:
        if place in images:
            _refuse(source, str(place), "is there twice")
        with _open(source, place, data) as image:
            first = first or (place, image.size)
            if image.size != first[1]:
                raise UserError(
                    f"{source}: {first[0]} is {_size(first[1])} and {place} is "
                    f"{_size(image.size)}; resize the images to one size first"
                )
            if (len(images) + 1) * image.width * image.height * 3 > MAX_TOTAL_BYTES:
                _refuse_total(source)
            images[place] = _decode(source, place, image)
        if len(images) % _PROGRESS_EVERY == 0:
            logger.info("%d images read", len(images))
    return images


def _open(source: Path, place: _Place, data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        _refuse(source, str(place), f"has more than {Image.MAX_IMAGE_PIXELS} pixels")
    except Exception:  # decoders raise all sorts on damaged data
        _refuse(source, str(place), f"is not an image in one of {', '.join(FORMATS)}")


def _decode(source: Path, place: _Place, image: Image.Image) -> NDArray[np.uint8]:
    if image.mode not in MODES:
        _refuse(source, str(place), f"has more than 8 bits per channel (mode {image.mode})")
    try:
        return np.asarray(image.convert("RGB"))
    except Exception as error:  # as above
        _refuse(source, str(place), f"is a damaged image ({error})")


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _classes(source: Path, places: Iterable[_Place]) -> tuple[str, ...]:
    found = {split: {p.label for p in places if p.split == split} for split in SPLITS}
    if not found["train"] or not found["test"]:
        missing = " and ".join(split for split in SPLITS if not found[split])
        raise UserError(f"{source}: no image for {missing}; expected {_LAYOUT}")
    tops = sorted({p.top for p in places})
    if len(tops) > 1:
        raise UserError(f"{source}: images below both {tops[0] or '.'!r} and {tops[1]!r}; keep one")
    single = sorted(found["train"] ^ found["test"])
    if single:
        split = "train" if single[0] in found["train"] else "test"
        raise UserError(f"{source}: class {single[0]!r} is only in {split}; both splits need it")
    return tuple(sorted(found["train"]))


def _stack(
    split: str, images: dict[_Place, NDArray[np.uint8]], classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    places = sorted(place for place in images if place.split == split)
    height, width, channels = images[places[0]].shape
    stacked = np.empty((len(places), channels, height, width), np.uint8)
    for i, place in enumerate(places):
        stacked[i] = images[place].transpose(2, 0, 1)
    index = {name: i for i, name in enumerate(classes)}
    labels = [index[place.label] for place in places]
    return torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64)
