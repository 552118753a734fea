import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsecnn.artifacts import Manifest, read_tensors, write_tensors
from sparsecnn.data.dataset import (
    Dataset,
    Normalization,
    channel_statistics,
    check,
    class_counts,
    load_dataset,
    save_dataset,
    square_side,
    summary,
)
from sparsecnn.errors import UserError

MANIFEST = Manifest(kind="dataset", settings={"name": "random"}, code="0" * 16)
HALF = Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def random_images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        train_images=random_images(6, 3, 4, 5),
        train_labels=torch.tensor([0, 1, 2, 2, 1, 0]),
        test_images=random_images(4, 3, 4, 5, seed=1),
        test_labels=torch.tensor([2, 1, 0, 0]),
        classes=("plane", "cat", "größe"),
    )


def test_round_trip(tmp_path: Path, dataset: Dataset) -> None:
    path = tmp_path / "dataset.safetensors"
    stored = save_dataset(path, dataset, HALF, MANIFEST)
    loaded, normalization, manifest = load_dataset(path)
    assert manifest == stored
    assert manifest.settings == {"name": "random"}
    assert normalization == HALF
    assert loaded.classes == dataset.classes
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(loaded, name), getattr(dataset, name))
        assert getattr(loaded, name).dtype == getattr(dataset, name).dtype


@pytest.mark.parametrize(("split", "other"), [("train", "test"), ("test", "train")])
def test_one_split_is_read_without_the_other(
    tmp_path: Path, dataset: Dataset, split: Literal["train", "test"], other: str
) -> None:
    path = tmp_path / "dataset.safetensors"
    whole = save_dataset(path, dataset, HALF, MANIFEST)
    pixels = getattr(dataset, f"{other}_images").numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(pixels, bytes(len(pixels))))
    loaded, normalization, manifest = load_dataset(path, split=split)
    assert (loaded.classes, normalization, manifest) == (dataset.classes, HALF, whole)
    for part in ("images", "labels"):
        wanted, left = (getattr(dataset, f"{one}_{part}") for one in (split, other))
        assert torch.equal(getattr(loaded, f"{split}_{part}"), wanted)
        assert torch.equal(getattr(loaded, f"{other}_{part}"), left[:0])
    with pytest.raises(UserError, match="altered"):
        load_dataset(path)


def test_content_covers_classes_and_normalization(tmp_path: Path, dataset: Dataset) -> None:
    path = tmp_path / "dataset.safetensors"
    contents = {
        save_dataset(path, variant, normalization, MANIFEST).content
        for variant in (dataset, replace(dataset, classes=("plane", "dog", "größe")))
        for normalization in (HALF, replace(HALF, mean=(0.5, 0.4, 0.31)))
    }
    assert len(contents) == 4


def test_altered_file_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    path = tmp_path / "dataset.safetensors"
    save_dataset(path, dataset, HALF, MANIFEST)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"dataset\.safetensors.*altered"):
        load_dataset(path)


def test_other_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, {"w": torch.zeros(1)}, replace(MANIFEST, kind="dense"))
    with pytest.raises(UserError, match="'dense', expected a 'dataset'"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": torch.zeros(6, 3, 4, 5)}, r"train images are torch\.float32"),
        ({"test_images": random_images(4, 4, 5)}, r"test images are .* \(4, 4, 5\)"),
        ({"test_images": random_images(4, 3, 0, 5)}, r"test images are .* \(4, 3, 0, 5\)"),
        ({"test_images": random_images(4, 3, 5, 5)}, r"\(3, 4, 5\) and test images \(3, 5, 5\)"),
        ({"train_labels": torch.zeros(6, dtype=torch.int32)}, r"train labels are torch\.int32"),
        ({"train_labels": torch.tensor([0, 1, 2])}, r"\(3,\); expected int64 of shape \(6,\)"),
        ({"train_labels": torch.tensor([0, 1, 2, 3, 1, 0])}, "train holds the label 3; .* 0 to 2"),
        ({"test_labels": torch.tensor([0, 1, 2, -1])}, "test holds the label -1"),
        ({"test_labels": torch.tensor([0, 1, 1, 0])}, "test has no image of class größe"),
        ({"train_labels": torch.zeros(6, dtype=torch.int64)}, "no image of class cat, größe"),
        ({"classes": ("a", "b", "a")}, "two or more different names"),
        ({"classes": ("a",)}, "two or more different names"),
    ],
)
def test_malformed_datasets_are_refused(
    tmp_path: Path, dataset: Dataset, changes: dict[str, object], message: str
) -> None:
    check(dataset)
    wrong = replace(dataset, **changes)
    with pytest.raises(UserError, match=message):
        check(wrong)
    with pytest.raises(UserError, match=message):
        save_dataset(tmp_path / "d.safetensors", wrong, HALF, MANIFEST)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), (0.1,), "2 means and 1 standard"),
        ((), (), "0 means"),
        ((0.5,), (0.0,), "must all be positive"),
        ((0.5,), (float("nan"),), "must all be positive"),
    ],
)
def test_impossible_normalization(
    mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Normalization(mean, std)


def test_normalization_of_other_channels(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(UserError, match="1 values for images of 3 channels"):
        save_dataset(tmp_path / "d", dataset, Normalization((0.5,), (0.2,)), MANIFEST)


@given(
    n=st.integers(2, 9),
    channels=st.integers(1, 4),
    height=st.integers(1, 6),
    width=st.integers(2, 6),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_channel_statistics(n: int, channels: int, height: int, width: int, seed: int) -> None:
    images = random_images(n, channels, height, width, seed=seed)
    images[0, :, 0, 0], images[1, :, 0, 0] = 0, 255  # never constant
    pixels = images.numpy().astype(np.float64) / 255
    measured = channel_statistics(images)
    assert measured.mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert measured.std == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12)


def test_channel_statistics_over_several_chunks() -> None:
    images = random_images(4096 + 3, 1, 2, 2)
    pixels = images.double() / 255
    measured = channel_statistics(images)
    assert measured.mean[0] == pytest.approx(pixels.mean().item(), rel=1e-12)
    assert measured.std[0] == pytest.approx(pixels.std(correction=0).item(), rel=1e-12)


def test_constant_channel_is_refused() -> None:
    images = random_images(3, 2, 2, 2)
    images[:, 1] = 7
    with pytest.raises(UserError, match="positive"):
        channel_statistics(images)


def test_class_counts_names_empty_classes() -> None:
    assert class_counts(torch.tensor([1, 1, 0]), ("a", "b", "c")) == {"a": 1, "b": 2, "c": 0}


def test_summary(dataset: Dataset) -> None:
    value = summary(dataset, HALF, source="random", content="f" * 64)
    assert json.loads(json.dumps(value)) == value
    measured = channel_statistics(dataset.train_images)
    assert value == {
        "source": "random",
        "n_train": 6,
        "n_test": 4,
        "image_shape": [3, 4, 5],
        "classes": ["plane", "cat", "größe"],
        "class_counts": {
            "train": {"plane": 2, "cat": 2, "größe": 2},
            "test": {"plane": 2, "cat": 1, "größe": 1},
        },
        "measured_mean": list(measured.mean),
        "measured_std": list(measured.std),
        "normalization": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
        "content": "f" * 64,
    }


def test_artifact_holds_no_metadata_beside_the_manifest(tmp_path: Path, dataset: Dataset) -> None:
    path = tmp_path / "d.safetensors"
    save_dataset(path, dataset, HALF, MANIFEST)
    tensors, _ = read_tensors(path, "dataset")
    assert bytes(tensors["classes"].tolist()).decode() == json.dumps(dataset.classes)
    assert tensors["mean"].dtype == tensors["std"].dtype == torch.float64


def test_the_side_of_images_that_are_not_square_is_refused() -> None:
    assert square_side(random_images(2, 3, 8, 8)) == 8
    with pytest.raises(UserError, match=r"are 5x4 pixels \(width, height\); .* crop or scale"):
        square_side(random_images(2, 3, 4, 5))
