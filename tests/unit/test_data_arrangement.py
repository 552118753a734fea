"""Names of files, classes and splits; what is left out is said.

Each case is a row of the table that is printed at the end of the tests.
"""

import io
import os
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from image_sets import (
    Files,
    Made,
    image,
    outcome,
    small_set,
    write,
)

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
    assert re.search(message, seen), seen
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
    assert re.search(message, seen), seen
    inputs(case, seen)
