"""Images in folders `train/<class>/` and `test/<class>/`, or in an archive of them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecnn.data import archive
from sparsecnn.data.arrangement import LAYOUT, Arrangement, Place, arrange, may_be_image
from sparsecnn.data.dataset import Dataset
from sparsecnn.data.pixels import Pixels, UnusableImageError, decode
from sparsecnn.errors import UserError

logger = logging.getLogger(__name__)

_PROGRESS_EVERY = 10_000
_LISTED = 3


def read_image_folder(
    source: Path | None, cache: Path, background: str = "white", names: str | None = None
) -> Dataset:
    """Read a folder or archive of images, all of one size, as RGB.

    Parameters
    ----------
    source
        A folder, or a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip archive (recognised by content),
        with `train/<class>/<image>` and `test/<class>/<image>`, at most one folder above.
        What else is there is ignored, and said in the log.
    cache
        Not used.
    background
        Colour that shows where images are transparent, as CSS writes it.
    names
        Encoding of file names that are not UTF-8.

    Returns
    -------
    Classes in alphabetical order; the images of each split sorted by class and file name.

    Raises
    ------
    UserError
        When the source is missing, damaged or unsafe, when files are no images that can be used
        (by name), when images differ in size, or when train and test differ in their classes.
    """
    if source is None:
        raise UserError(f"dataset.source: image_folder needs a folder or archive with {LAYOUT}")
    files: list[str] = []
    folders: list[str] = []
    images: dict[str, Pixels] = {}
    unusable: dict[str, UnusableImageError] = {}
    taken = 0
    for entry in archive.entries(source, names, may_be_image):
        (folders if entry.is_folder else files).append(entry.path)
        if entry.content is None:
            continue
        try:
            images[entry.path] = image = decode(entry.content, background)
        except UnusableImageError as reason:
            unusable[entry.path] = reason
            continue
        taken += image.rgb.size
        if taken > archive.MAX_TOTAL_BYTES:
            archive.refuse_total(source)
        if len(images) % _PROGRESS_EVERY == 0:
            logger.info("%d images read", len(images))
    arrangement = arrange(source, files, folders)
    _refuse_unusable(source, arrangement.places, unusable)
    _refuse_sizes(source, arrangement.places, images)
    _tell(source, arrangement, images, background)
    return _dataset(arrangement, images)


def _refuse_unusable(
    source: Path, places: Mapping[str, Place], unusable: Mapping[str, UnusableImageError]
) -> None:
    """Raise `UserError` that names the files that cannot be used, the first few of each kind."""
    kinds: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path in places:
        if path in unusable:
            why = unusable[path]
            detail = f" ({why.detail})" if why.detail else ""
            kinds.setdefault((why.reason, why.advice), []).append((path, detail))
    if kinds:
        told = [f"{_listed(files, reason)}; {how}" for (reason, how), files in kinds.items()]
        raise UserError(f"{source}: {'. And '.join(told)}")


def _listed(files: Sequence[tuple[str, str]], reason: str) -> str:
    """What is wrong with some files; each comes with a detail of its own, or none."""
    if len(files) == 1:
        return f"{files[0][0]!r} {reason}{files[0][1]}"
    shown = ", ".join(f"{path!r}{detail}" for path, detail in files[:_LISTED])
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    return f"each of {len(files)} files {reason}: {shown}{more}"


def _refuse_sizes(source: Path, places: Mapping[str, Place], images: Mapping[str, Pixels]) -> None:
    """Raise `UserError` unless all images have one size."""
    sizes = Counter(images[path].rgb.shape for path in places)
    if len(sizes) == 1:
        return
    usual = sizes.most_common(1)[0][0]
    others = [path for path in places if images[path].rgb.shape != usual]
    first = next(path for path in places if images[path].rgb.shape == usual)
    more = f" (and {len(others) - 1} more differ)" if len(others) > 1 else ""
    raise UserError(
        f"{source}: {first!r} is {_size(usual)} and {others[0]!r} is "
        f"{_size(images[others[0]].rgb.shape)}{more}; resize the images to one size first"
    )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _tell(
    source: Path, arrangement: Arrangement, images: Mapping[str, Pixels], background: str
) -> None:
    for note in arrangement.notes:
        logger.info("%s", note)
    count = sum(images[path].transparent for path in arrangement.places)
    if count:
        logger.info("%s: %d transparent images laid on %s", source, count, background)


def _dataset(arrangement: Arrangement, images: Mapping[str, Pixels]) -> Dataset:
    index = {name: i for i, name in enumerate(arrangement.classes)}
    tensors = {}
    for split in ("train", "test"):
        places = [place for place in arrangement.places.values() if place.split == split]
        labels = torch.tensor([index[place.label] for place in places], dtype=torch.int64)
        tensors[f"{split}_images"] = _stacked([images[place.path].rgb for place in places])
        tensors[f"{split}_labels"] = labels
    return Dataset(**tensors, classes=arrangement.classes)


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    height, width, channels = images[0].shape
    stacked = np.empty((len(images), channels, height, width), np.uint8)
    for i, image in enumerate(images):
        stacked[i] = image.transpose(2, 0, 1)
    return torch.from_numpy(stacked)
