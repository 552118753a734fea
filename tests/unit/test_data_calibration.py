from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecnn.artifacts import Manifest
from sparsecnn.data.augmentation import AugmentedImages, normalize
from sparsecnn.data.calibration import (
    CalibrationSet,
    augmented_batches,
    batches,
    draw_calibration_set,
    load_calibration,
    save_calibration,
)
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.errors import UserError
from sparsecnn.seeding import derive_seed

NORMALIZATION = Normalization((0.5, 0.4), (0.2, 0.3))


def dataset_with(counts: list[int], seed: int = 0) -> Dataset:
    """Train images of given count per class in mixed order; each has its index as its pixels."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    generator = torch.Generator().manual_seed(seed)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 3, 3)
    return Dataset(
        train_images=images,
        train_labels=labels,
        test_images=torch.full((len(counts), 2, 3, 3), 255, dtype=torch.uint8),
        test_labels=torch.arange(len(counts)),
        classes=tuple(f"class{i}" for i in range(len(counts))),
    )


def draw(dataset: Dataset, size: int, seed: int = 0, balanced: bool = True) -> CalibrationSet:
    return draw_calibration_set(dataset, NORMALIZATION, size, seed, balanced)


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    size=st.integers(1, 80),
    seed=st.integers(0, 99),
    balanced=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_drawn_sets(counts: list[int], size: int, seed: int, balanced: bool) -> None:
    dataset = dataset_with(counts, seed)
    share, remainder = divmod(size, len(counts))
    with_spare = sum(n > share for n in counts)
    possible = size <= sum(counts)
    if balanced:
        possible = possible and min(counts) >= share and with_spare >= remainder
    if not possible:
        with pytest.raises(UserError, match=f"calibration.images: {size} is not possible"):
            draw(dataset, size, seed, balanced)
        return
    drawn = draw(dataset, size, seed, balanced)
    assert drawn.indices.dtype == torch.int64
    assert len(drawn.indices.unique()) == len(drawn.indices) == size
    assert torch.equal(drawn.images, dataset.train_images[drawn.indices])
    assert drawn.normalization == NORMALIZATION
    if balanced:
        taken = torch.bincount(dataset.train_labels[drawn.indices], minlength=len(counts))
        assert (
            sorted(taken.tolist()) == [share] * (len(counts) - remainder) + [share + 1] * remainder
        )


@pytest.mark.parametrize("balanced", [True, False])
def test_the_seed_alone_decides(balanced: bool) -> None:
    dataset = dataset_with([40, 40, 40])
    first = draw(dataset, 30, 1, balanced)
    torch.manual_seed(99)
    assert torch.equal(first.indices, draw(dataset, 30, 1, balanced).indices)
    assert not torch.equal(first.indices, draw(dataset, 30, 2, balanced).indices)


@pytest.mark.parametrize("balanced", [True, False])
def test_every_image_is_equally_likely(balanced: bool) -> None:
    dataset, runs = dataset_with([5, 5, 5]), 600
    times = torch.zeros(15)
    for seed in range(runs):
        times[draw(dataset, 5, seed, balanced).indices] += 1
    # Binomial(600, 1/3): mean 200, sd 11.5; five deviations.
    assert (times - runs / 3).abs().max() < 58


def test_classes_are_mixed_in_the_order_drawn() -> None:
    dataset = dataset_with([40, 40])
    labels = dataset.train_labels[draw(dataset, 60).indices]
    assert 10 < labels[:30].sum() < 20


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("size", [0, -1, 31])
def test_impossible_size(size: int, balanced: bool) -> None:
    with pytest.raises(UserError, match=f"{size} is not possible.* 30 images, choose 1 to 30"):
        draw(dataset_with([10, 20]), size, 0, balanced)


def test_class_that_cannot_give_enough() -> None:
    dataset = dataset_with([10, 20])
    with pytest.raises(UserError, match=r"'class0' has only 10 train images; choose at most 20"):
        draw(dataset, 22)
    assert len(draw(dataset, 22, balanced=False).indices) == 22


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "seed-0.safetensors"
    drawn = draw(dataset_with([10, 20]), 7)
    manifest = Manifest(kind="calibration", settings={"images": 7}, code="0" * 16)
    stored = save_calibration(path, drawn, manifest)
    loaded, read = load_calibration(path)
    assert read == stored
    assert torch.equal(loaded.images, drawn.images)
    assert torch.equal(loaded.indices, drawn.indices)
    assert loaded.normalization == drawn.normalization
    save_calibration(path, drawn, replace(manifest, kind="dense"))
    with pytest.raises(UserError, match="expected a 'calibration'"):
        load_calibration(path)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches(size: int) -> None:
    drawn = draw(dataset_with([10, 20]), 7)
    inputs = batches(drawn, size, torch.device("cpu"))
    assert isinstance(inputs, list)
    assert all(len(batch) == size for batch in inputs[:-1])
    assert torch.equal(torch.cat(inputs), normalize(drawn.images, NORMALIZATION))
    assert inputs[0].dtype == torch.float32


def test_no_augmented_batch_is_of_a_single_image_beside_others():
    """Behind 1x1 outputs a single image has no variance for batch norm."""
    device = torch.device("cpu")
    altered = {"crop_padding": 1, "horizontal_flip": True, "cutout": 0}
    for size, expected in ((33, [16, 17]), (34, [16, 16, 2]), (2, [2]), (17, [17])):
        calibration = draw(dataset_with([20, 20]), size)
        found = augmented_batches(calibration, 16, device, 0, **altered)
        assert [len(batch) for batch in found] == expected


def test_augmented_batches_are_the_images_as_training_sees_them():
    calibration = draw(dataset_with([20, 20]), 30)
    device, generator = torch.device("cpu"), torch.Generator()
    altered = {"crop_padding": 1, "horizontal_flip": True, "cutout": 2}
    first, second = augmented_batches(calibration, 16, device, 3, **altered)
    source = AugmentedImages(calibration.images, NORMALIZATION, device, **altered)
    drawn = source.draw(30, generator.manual_seed(derive_seed(3, "batch norm")))
    torch.testing.assert_close(torch.cat([first, second]), source.batch(torch.arange(30), drawn))
    assert (len(first), len(second)) == (16, 14)
    again = augmented_batches(calibration, 16, device, 4, **altered)
    assert not torch.equal(again[0], first)
    nothing = {"crop_padding": 0, "horizontal_flip": False, "cutout": 0}
    plain = batches(calibration, 16, device)
    assert all(map(torch.equal, augmented_batches(calibration, 16, device, 3, **nothing), plain))
