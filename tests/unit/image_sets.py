"""Small made-up sets of images, as folders and archives."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsecnn.data.dataset import Dataset
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
