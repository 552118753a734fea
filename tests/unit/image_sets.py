"""Small made-up sets of images, as folders and archives."""

import io
import logging
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsecnn.data.dataset import Dataset, check
from sparsecnn.data.image_folder import read_image_folder
from sparsecnn.errors import UserError

Files = dict[str, bytes]
ARCHIVES = ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"]


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def image(seed: int = 0, size: tuple[int, int] = (5, 4)) -> bytes:
    rng = np.random.default_rng(seed)
    return encode(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def small_set() -> Files:
    return {
        f"{split}/{name}/{i}.png": image(seed)
        for seed, (split, name, i) in enumerate(
            (split, name, i) for split in ("train", "test") for name in ("dog", "cat") for i in "10"
        )
    }


def write(path: Path, files: Files) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif ".tar" in path.name:
        extension = path.suffix.removeprefix(".")
        with tarfile.open(path, "w:" + extension.replace("tar", "")) as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def read(path: Path) -> Dataset:
    return read_image_folder(path, path.parent / "unused")


def refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


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
