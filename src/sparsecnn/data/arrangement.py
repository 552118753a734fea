"""Which files of a source are images of which class and split, and which are none."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sparsecnn.data.filenames import printable
from sparsecnn.errors import UserError

SPLITS = ("train", "test")
LAYOUT = "train/<class>/<image> and test/<class>/<image>, at most one folder above"

_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
}
"""What folders of a split are called, in any case."""
_ROLES = {word: role for role, words in _WORDS.items() for word in words}

_LEFT_BY_SYSTEMS = (
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
)
_LISTS = (".csv", ".json", ".jsonl", ".log", ".md", ".rst", ".tsv", ".txt", ".xml", ".yaml", ".yml")
"""Suffixes of readmes, lists and labels that lie beside images."""
_NAMES_OF_READMES = ("readme", "license", "licence")
_LISTED = 3


class Place(NamedTuple):
    """Where an image belongs; sorts by split, class and file, whatever it was read from."""

    split: str
    """``train`` or ``test``."""
    label: str
    """Name of the class, composed (NFC)."""
    file: str
    path: str
    """In the source."""


@dataclass(frozen=True)
class Arrangement:
    """The images of a source."""

    places: Mapping[str, Place]
    """Of every image, by its path; in order of split, class and file."""
    classes: tuple[str, ...]
    """In alphabetical order."""
    notes: Sequence[str]
    """What to tell a user: what was skipped, what a split is called, which class is empty."""


def may_be_image(path: str) -> bool:
    """Whether the file of this path can be one of the dataset's images."""
    return _skipped_as(path) is None and _split_at(path.split("/")) is not None


def arrange(source: Path, files: Sequence[str], folders: Iterable[str] = ()) -> Arrangement:
    """What each file is, by the paths of all files and folders alone.

    Raises `UserError` if a split is missing or could be either of two folders, if a file lies
    elsewhere than in a class, is there twice, or if train and test differ in their classes.
    """
    images = [path for path in files if may_be_image(path)]
    _refuse_twice(source, images)
    splits = _splits(source, images)
    places = {path: place for path in images if (place := _place(source, path, splits)) is not None}
    _refuse_deeper(source, folders, splits)
    classes = _classes(source, places.values())
    notes = [
        *(f"{folder}: read as the {split} split" for folder, split in _renamed(splits)),
        *_unread(files, places),
        *_empty_classes([*files, *(f"{folder}/" for folder in folders)], splits, classes),
    ]
    ordered = sorted(places.values())
    return Arrangement({p.path: p for p in ordered}, classes, [f"{source}: {n}" for n in notes])


def _split_at(parts: Sequence[str]) -> int | None:
    """Which part of a path names its split, one of the first two."""
    above = parts[:-1][:2]
    exact = (i for i, part in enumerate(above) if part in SPLITS)
    other = (i for i, part in enumerate(above) if part.casefold() in _ROLES)
    return next(exact, next(other, None))


def _skipped_as(path: str) -> str | None:
    """What a file is called that is none of the images; None of one that may be."""
    for part in path.split("/"):
        if part.startswith("."):
            return part if part == ".DS_Store" else "hidden"
        if part.casefold() in _LEFT_BY_SYSTEMS:
            return part
    name = _name(path).casefold()
    return _name(path) if name in _NAMES_OF_READMES or name.endswith(_LISTS) else None


def _refuse_twice(source: Path, images: Sequence[str]) -> None:
    if len(set(images)) == len(images):
        return
    twice = [path for path, count in Counter(images).items() if count > 1]
    others = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
    raise UserError(f"{source}: {twice[0]!r} is there twice{others}; remove one and try again")


def _splits(source: Path, images: Iterable[str]) -> dict[str, str]:
    """The split that each folder is, ``train`` or ``test``, by the folder's path.

    ``train`` and ``test`` themselves go before other words for them, and these before validation.
    """
    found: dict[str, list[str]] = {role: [] for role in _WORDS}
    for folder in sorted({folder for path in images if (folder := _split_folder(path))}):
        found[_ROLES[_name(folder).casefold()]].append(folder)
    chosen = {"train": found["train"], "test": found["test"] or found["validation"]}
    for split, folders in chosen.items():
        chosen[split] = [folder for folder in folders if _name(folder) == split] or folders
    tops = sorted({folder.rpartition("/")[0] for folders in chosen.values() for folder in folders})
    if len(tops) > 1:
        raise UserError(f"{source}: images below both {tops[0] or '.'!r} and {tops[1]!r}; keep one")
    for split, folders in chosen.items():
        if len(folders) > 1:
            names = " or ".join(folders)
            raise UserError(f"{source}: {split} could be {names}; rename or remove all but one")
    missing = [split for split, folders in chosen.items() if not folders]
    if missing:
        raise UserError(f"{source}: no image for {' and '.join(missing)}; expected {LAYOUT}")
    return {folder: split for split, folders in chosen.items() for folder in folders}


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]


def _split_folder(path: str) -> str | None:
    parts = path.split("/")
    at = _split_at(parts)
    return None if at is None else "/".join(parts[: at + 1])


def _place(source: Path, path: str, splits: Mapping[str, str]) -> Place | None:
    """Where an image belongs; None if it is in a folder that is no split."""
    folder = _split_folder(path)
    if folder not in splits:
        return None
    assert folder is not None
    label, _, file = path.removeprefix(f"{folder}/").partition("/")
    if not file or "/" in file:
        raise UserError(
            f"{source}: {path!r} is not where an image belongs ({LAYOUT}); remove it and try again"
        )
    return Place(splits[folder], _composed(label), _composed(file), path)


def _refuse_deeper(source: Path, folders: Iterable[str], splits: Mapping[str, str]) -> None:
    """Raise `UserError` for a folder so deep that it may have not been looked into."""
    for path in folders:
        for folder in splits:
            inside = path.removeprefix(f"{folder}/")
            if inside != path and inside.count("/") > 1 and _skipped_as(path) is None:
                raise UserError(
                    f"{source}: {path!r} is a folder where an image belongs ({LAYOUT}); remove it "
                    "and try again"
                )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _classes(source: Path, places: Iterable[Place]) -> tuple[str, ...]:
    found: dict[str, set[str]] = {split: set() for split in SPLITS}
    for place in places:
        found[place.split].add(place.label)
    single = sorted(found["train"] ^ found["test"])
    if single:
        split = "train" if single[0] in found["train"] else "test"
        others = f" (and {len(single) - 1} more)" if len(single) > 1 else ""
        raise UserError(
            f"{source}: class {single[0]!r} is only in {split}{others}; both splits need it"
        )
    return tuple(sorted(found["train"]))


def _renamed(splits: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(folder, split) for folder, split in splits.items() if _name(folder) != split]


def _unread(files: Sequence[str], places: Mapping[str, Place]) -> list[str]:
    """One line on the files that are none of the images, if there are any."""
    kinds = Counter(_unread_as(path) for path in files if path not in places)
    if not kinds:
        return []
    listed = [f"{count} {kind}" for kind, count in kinds.most_common(_LISTED)]
    if len(kinds) > _LISTED:
        listed.append(f"{sum(count for _, count in kinds.most_common()[_LISTED:])} others")
    total = sum(kinds.values())
    return [f"{total} file{'s' if total > 1 else ''} not read: {', '.join(listed)}"]


def _unread_as(path: str) -> str:
    folder = _split_folder(path)
    if kind := _skipped_as(path):
        return printable(kind)
    return f"in {folder}" if folder else "beside train and test"


def _empty_classes(
    paths: Iterable[str], splits: Mapping[str, str], classes: Sequence[str]
) -> list[str]:
    """A line on the folders of classes that hold no image in either split, if there are any."""
    inside = (
        path.removeprefix(f"{f}/") for path in paths for f in splits if path.startswith(f"{f}/")
    )
    labels = {_composed(rest.partition("/")[0]) for rest in inside if "/" in rest}
    empty = sorted(label for label in labels - {*classes} if _skipped_as(label) is None)
    if not empty:
        return []
    shown = ", ".join(map(repr, empty[:_LISTED])) + (", ..." if len(empty) > _LISTED else "")
    return [f"no image in either split of class {shown}, which is left out"]
