from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sparsecnn.data.dataset import Dataset, check, class_counts
from sparsecnn.data.digits import read_digits
from sparsecnn.errors import UserError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return read_digits(None, Path("unused"))


def upscaled(small: np.ndarray) -> np.ndarray:
    """Bilinear by a factor of four, pixel by pixel: centres at (i + 0.5) / 4 - 0.5, edges held."""
    where = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    low = np.minimum(where.astype(int), 6)
    weight = where - low
    rows = small[low] * (1 - weight)[:, None] + small[low + 1] * weight[:, None]
    return rows[:, low] * (1 - weight) + rows[:, low + 1] * weight


def test_shapes_classes_and_balance(digits: Dataset) -> None:
    check(digits)
    assert digits.classes == tuple("0123456789")
    assert digits.train_images.shape == (1437, 3, 32, 32)
    assert digits.test_images.shape == (360, 3, 32, 32)
    train = class_counts(digits.train_labels, digits.classes)
    test = class_counts(digits.test_labels, digits.classes)
    assert all(abs(test[c] - (train[c] + test[c]) / 5) < 1 for c in digits.classes)


def test_images_are_the_digits_upscaled_and_none_is_in_both_splits(digits: Dataset) -> None:
    original = load_digits()
    expected: dict[bytes, list[int]] = {}
    for image, label in zip(original.images, original.target, strict=True):
        pixels = np.rint(upscaled(image) * 255 / 16).astype(np.uint8)
        expected.setdefault(pixels.tobytes(), []).append(int(label))
    images = torch.cat([digits.train_images, digits.test_images])
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert len(images) == len(original.target)
    assert bool((images == images[:, :1]).all())
    for image, label in zip(images[:, 0], labels, strict=True):
        expected[image.numpy().tobytes()].remove(int(label))
    assert not any(expected.values())


def test_split_is_fixed(digits: Dataset) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    again = read_digits(None, Path("unused"))
    assert torch.equal(again.test_images, digits.test_images)
    # Recorded once: another split would make results of different versions incomparable.
    assert digits.test_labels[:10].tolist() == [1, 4, 8, 6, 5, 9, 9, 1, 3, 2]


def test_a_source_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.source: mine is of no use"):
        read_digits(Path("mine"), Path("unused"))
