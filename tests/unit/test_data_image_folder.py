import io
import logging
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import ARCHIVES, Files, encode, image, read, refused, small_set, write
from PIL import Image

from sparsecnn.data import archive, image_folder
from sparsecnn.data.dataset import Dataset, channel_statistics, check, class_counts
from sparsecnn.data.image_folder import read_image_folder
from sparsecnn.errors import UserError


def equal(a: Dataset, b: Dataset) -> bool:
    return a.classes == b.classes and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("train_images", "train_labels", "test_images", "test_labels")
    )


def test_images_are_rgb_sorted_by_class_and_name(tmp_path: Path) -> None:
    files = small_set()
    dataset = read(write(tmp_path / "set", files))
    check(dataset)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train_labels.tolist() == [0, 0, 1, 1]
    assert dataset.train_images.shape == (4, 3, 5, 4)
    order = ["cat/0", "cat/1", "dog/0", "dog/1"]
    for split, images in (("train", dataset.train_images), ("test", dataset.test_images)):
        for name, pixels in zip(order, images, strict=True):
            original = Image.open(io.BytesIO(files[f"{split}/{name}.png"]))
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(original))


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_form_gives_the_same_dataset(tmp_path: Path, name: str) -> None:
    files = small_set()
    expected = read(write(tmp_path / "folder", files))
    below_top = {f"top/{path}": data for path, data in reversed(files.items())}
    assert equal(read(write(tmp_path / name, files)), expected)
    assert equal(read(write(tmp_path / f"top-{name}", below_top)), expected)
    renamed = (tmp_path / name).rename(tmp_path / "no-extension")
    assert equal(read(renamed), expected)


def test_folder_entries_and_dot_slash_names_in_tar(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", small_set())
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=".")
    assert equal(read(path), read(folder))


def test_linked_folders_of_the_user_are_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", small_set())
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "train").symlink_to(folder / "train")
    (tmp_path / "linked" / "test").symlink_to(folder / "test")
    assert equal(read(tmp_path / "linked"), read(folder))


@pytest.mark.parametrize("name", ["folder", *ARCHIVES])
def test_dotfiles_and_files_beside_the_splits_are_ignored(tmp_path: Path, name: str) -> None:
    files = small_set()
    more = {"README.md": b"x", "docs/a/b.txt": b"x", "train/.DS_Store": b"x"}
    more |= {"train/cat/._1.png": b"x", "__MACOSX/train/cat/._1.png": b"x"}
    expected = read(write(tmp_path / "plain", files))
    assert equal(read(write(tmp_path / name, more | files)), expected)


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(5, 4)
    colour = np.stack([grey, grey + 50, grey + 100], 2)
    files = {
        "train/a/0.png": encode(grey),
        "test/a/0.png": encode(np.dstack([colour, np.full_like(grey, 255)])),
        "train/b/0.jpg": encode(colour, "JPEG"),
        "test/b/0.bmp": encode(colour, "BMP"),
    }
    dataset = read(write(tmp_path / "set", files))
    assert np.array_equal(dataset.train_images[0].numpy(), np.stack([grey] * 3))
    assert np.array_equal(dataset.test_images[0].numpy(), colour.transpose(2, 0, 1))
    assert np.array_equal(dataset.test_images[1].numpy(), colour.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["folder", "a.tar.xz", "a.zip"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train/cat/9.png": b"no image"}, r"'train/cat/9\.png' is not an image"),
        ({"train/cat/9.tga": encode(np.zeros((5, 4), np.uint8), "TGA")}, "in one of BMP, GIF"),
        ({"train/cat/9.png": image()[:-40]}, r"'train/cat/9\.png' is"),
        ({"test/dog/9.png": image(size=(6, 4))}, r"is 4x5 and .*test/dog/9\.png' is 4x6|4x6 and"),
        ({"train/9.png": image()}, r"'train/9\.png' is not where an image belongs"),
        ({"train/cat/x/9.png": image()}, r"'train/cat/x/9\.png' is not where"),
        ({"train/cow/9.png": image()}, "class 'cow' is only in train"),
        ({"test/cow/9.png": image()}, "class 'cow' is only in test"),
        ({"top/train/cat/9.png": image()}, "below both '.' and 'top'"),
        (
            {"train/cat/9.png": encode(np.zeros((5, 4), np.uint16))},
            r"train/cat/9\.png' has more than 8 bits",
        ),
    ],
)
def test_unusable_files_are_refused_by_name(
    tmp_path: Path, name: str, changes: Files, message: str
) -> None:
    refused(write(tmp_path / name, small_set() | changes), message)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split(tmp_path: Path, split: str) -> None:
    files = {path: data for path, data in small_set().items() if not path.startswith(split)}
    refused(write(tmp_path / "a.tar", files), f"no image for {split}; expected train/<class>")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.source: image_folder needs"):
        read_image_folder(None, tmp_path)
    refused(tmp_path / "absent", r"dataset\.source: .*absent does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no image for train and test")
    (tmp_path / "void").write_bytes(b"")
    refused(tmp_path / "void", "cannot be read")
    (tmp_path / "text").write_bytes(b"words " * 500)
    refused(tmp_path / "text", "cannot be read")


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_archives(tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path / name, small_set())
    data = path.read_bytes()
    # A plain tar is padded at its end; cut where it still matters, and not between two files.
    length = 512 * 9 + 100 if name == "a.tar" else int(len(data) * share)
    path.write_bytes(data[:length])
    refused(path, "cannot be read")


def test_looping_links_end(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", small_set() | {"notes/x": b"x"})
    for name in "ab":  # followed without end, these are 2 ** 40 folders
        (folder / "notes" / name).symlink_to(folder / "notes")
    check(read(folder))


def test_unreadable_file_in_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", small_set())
    os.mkfifo(folder / "train" / "cat" / "pipe")
    refused(folder, r"'train/cat/pipe' is neither a file")


OUTSIDE = ["/train/cat/9.png", "../train/cat/9.png", "train/../cat/9.png", "C:/train/cat/9.png"]


@pytest.mark.parametrize(
    ("name", "member"),
    [
        *((name, member) for name in ARCHIVES for member in OUTSIDE),
        *(("a.zip", member.replace("/", "\\")) for member in OUTSIDE),
        ("a.zip", "\\\\server\\train\\cat\\9.png"),
        ("a.zip", "train\\cat/..\\..\\9.png"),
        ("a.tar", "train\\cat\\9.png"),
    ],
)
def test_paths_that_lead_outside(tmp_path: Path, name: str, member: str) -> None:
    path = write(tmp_path / name, {member: image()} | small_set())
    refused(path, r"has a path that may lead outside")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("train/cat/9.png")
        member.type, member.linkname = kind, "train/cat/0.png"
        tar.addfile(member)
    refused(path, r"'train/cat/9\.png' is a link or device")


def test_link_in_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("train/cat/9.png")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    refused(path, r"'train/cat/9\.png' is a link or device")


def test_zip_of_unknown_compression(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", small_set())
    data = path.read_bytes()
    for signature, before in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.index(signature) + before
        data = data[:at] + b"\x61" + data[at + 1 :]
    path.write_bytes(data)
    refused(path, "cannot be read")


def test_encrypted_zip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"train/cat/9.png": image()})
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    refused(path, "is encrypted")


@pytest.mark.parametrize("name", ARCHIVES)
def test_file_over_the_limit(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 100_000)
    path = write(tmp_path / name, {"train/cat/9.png": bytes(100_001)})
    refused(path, "takes 100001 bytes; at most 100000 are allowed")


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_over_the_limit(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 500_000)
    path = write(tmp_path / name, {f"notes/{i}": bytes(60_000) for i in range(10)})
    refused(path, "takes more than 500000 bytes")


@pytest.mark.parametrize("name", ARCHIVES)
def test_limit_for_one_file_is_not_for_all_together(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 60_000)
    path = write(tmp_path / name, {f"notes/{i}": bytes(60_000) for i in range(10)} | small_set())
    check(read(path))


def test_tar_header_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 100_000)
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("train/cat/9.png")
        member.pax_headers = {"comment": "x" * 1_000_000}
        tar.addfile(member)
    refused(path, "a header more than 100000")


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_image_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    refused(write(tmp_path / "a.tar", small_set()), "has more than 10 pixels")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 19)  # Pillow itself only warns below twice
    refused(write(tmp_path / "a.tar", small_set()), "has more than 19 pixels")


def test_decoded_images_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "set", small_set())
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 8 * 60)
    read(path)
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 8 * 60 - 1)
    refused(path, "takes more than 479 bytes")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_file_stored_twice(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, small_set())
    if name == "a.zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("train/cat/0.png", image(99))
    else:
        with tarfile.open(path, "a") as tar:
            member = tarfile.TarInfo("./train/cat/0.png")
            member.size = len(image(99))
            tar.addfile(member, io.BytesIO(image(99)))
    refused(path, r"'train/cat/0\.png' is there twice")


def test_progress_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_folder, "_PROGRESS_EVERY", 3)
    with caplog.at_level(logging.INFO):
        read(write(tmp_path / "set", small_set()))
    assert [r.getMessage() for r in caplog.records] == ["3 images read", "6 images read"]


@pytest.mark.slow
@pytest.mark.skipif(
    "SPARSECNN_IMAGES" not in os.environ,
    reason="SPARSECNN_IMAGES is not set to an archive of the CIFAR-10 images as JPEG",
)
def test_cifar10_as_jpeg() -> None:
    dataset = read(Path(os.environ["SPARSECNN_IMAGES"]))
    check(dataset)
    assert dataset.train_images.shape == (50_000, 3, 32, 32)
    assert dataset.test_images.shape == (10_000, 3, 32, 32)
    assert set(class_counts(dataset.train_labels, dataset.classes).values()) == {5000}
    assert set(class_counts(dataset.test_labels, dataset.classes).values()) == {1000}
    measured = channel_statistics(dataset.train_images)
    assert measured.mean == pytest.approx((0.4913, 0.4821, 0.4465), abs=1e-4)
    assert measured.std == pytest.approx((0.2452, 0.2428, 0.2606), abs=1e-4)
