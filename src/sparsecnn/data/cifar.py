"""CIFAR-10 and CIFAR-100 from their official archives (Krizhevsky 2009, python version)."""

import logging
import pickle
import socket
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from sparsecnn.data.dataset import Dataset
from sparsecnn.errors import UserError

logger = logging.getLogger(__name__)

MIRRORS = ("https://www.cs.toronto.edu/~kriz", "https://dataset.bj.bcebos.com/cifar")
"""Where the archives are, tried in order: the official site, then PaddlePaddle's copy."""

STALLED_SECONDS = 60.0
"""A mirror that sends nothing for so long is given up."""


@dataclass(frozen=True)
class Layout:
    """What an official archive is called, how it is verified, and where its parts are."""

    filename: str
    md5: str
    train: tuple[str, ...]
    """Members with the train batches: pickled dicts with `data` and `label_key`."""
    test: tuple[str, ...]
    meta: str
    """Member with the class names."""
    label_key: str
    names_key: str


CIFAR10 = Layout(
    filename="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    train=tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
    test=("cifar-10-batches-py/test_batch",),
    meta="cifar-10-batches-py/batches.meta",
    label_key="labels",
    names_key="label_names",
)
CIFAR100 = Layout(
    filename="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    train=("cifar-100-python/train",),
    test=("cifar-100-python/test",),
    meta="cifar-100-python/meta",
    label_key="fine_labels",
    names_key="fine_label_names",
)


def read_cifar10(source: Path | None, cache: Path) -> Dataset:
    """CIFAR-10: 50,000 train and 10,000 test images of 3x32x32, ten classes.

    Parameters
    ----------
    source
        The official archive, if it is already here.
    cache
        Folder to download to otherwise; an archive found there is used again.

    Raises
    ------
    UserError
        When the archive cannot be had, or its checksum is wrong.
    """
    return _read_cifar(CIFAR10, source, cache)


def read_cifar100(source: Path | None, cache: Path) -> Dataset:
    """CIFAR-100 with its 100 fine labels; parameters and errors as in `read_cifar10`."""
    return _read_cifar(CIFAR100, source, cache)


def _read_cifar(layout: Layout, source: Path | None, cache: Path) -> Dataset:
    if source is None:
        return read_archive(download(layout, cache, MIRRORS), layout)
    verify(source, layout)
    return read_archive(source, layout)


def verify(archive: Path, layout: Layout) -> None:
    """Raise `UserError` unless `archive` is a file with the layout's checksum."""
    from torchvision.datasets.utils import calculate_md5

    if not archive.is_file():
        raise UserError(
            f"dataset.source: {archive} is not a file; it must be the official {layout.filename}"
        )
    found = calculate_md5(archive)
    if found != layout.md5:
        raise UserError(
            f"{archive}: md5 is {found}, expected {layout.md5}; "
            f"use the complete, official {layout.filename}"
        )


def download(layout: Layout, cache: Path, mirrors: Sequence[str]) -> Path:
    """Path of the verified archive in `cache`, downloaded first if it is not there.

    The file gets its name only after its checksum holds, so one that exists is complete.
    Raises `UserError`, naming each mirror's error and the ways out, when no mirror serves it.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    target = cache / layout.filename
    if check_integrity(target, layout.md5):
        return target
    failures = []
    for mirror in mirrors:
        url = f"{mirror}/{layout.filename}"
        logger.info("downloading %s", url)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
                with _socket_timeout(STALLED_SECONDS):
                    download_url(url, folder, layout.filename, layout.md5)
                (Path(folder) / layout.filename).replace(target)
            return target
        except (OSError, HTTPException, RuntimeError) as error:
            logger.warning("%s: %s", url, error)
            failures.append(f"{mirror}: {error}")
    raise UserError(
        f"cannot download {layout.filename} ({'; '.join(failures)}); no network? Place the file "
        f"at {target}, or set dataset.source to where it is, "
        "or use --configfile studies/demo.yaml, which needs no download"
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torchvision's helpers take no timeout: an unresponsive server would hang the job for good.
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def read_archive(archive: Path, layout: Layout) -> Dataset:
    """Read an archive that has been verified: pickles run code, so never call it before.

    Raises `UserError` when the archive does not have the parts that `layout` names.
    """
    try:
        with tarfile.open(archive) as tar:
            members = {
                name: _unpickle(tar.extractfile(name))
                for name in (*layout.train, *layout.test, layout.meta)
            }
        train_images, train_labels = _join([members[n] for n in layout.train], layout.label_key)
        test_images, test_labels = _join([members[n] for n in layout.test], layout.label_key)
        classes = tuple(members[layout.meta][layout.names_key])
    except (tarfile.TarError, EOFError, KeyError) as error:
        raise UserError(f"{archive}: not the archive {layout.filename} ({error})") from None
    return Dataset(train_images, train_labels, test_images, test_labels, classes)


def _unpickle(file: IO[bytes] | None) -> Any:
    if file is None:
        raise KeyError("a member is not a file")
    return pickle.load(file, encoding="latin1")  # written by Python 2


def _join(batches: list[dict[str, Any]], label_key: str) -> tuple[Tensor, Tensor]:
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch[label_key] for batch in batches])
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
