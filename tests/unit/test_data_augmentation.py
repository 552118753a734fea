import statistics
import time

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsecnn.data.augmentation import augment, normalize
from sparsecnn.data.dataset import Normalization

shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 8), st.integers(1, 8))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(*shape: int) -> Tensor:
    """Every pixel has its own value, from 1: zeros can only come from padding."""
    return torch.arange(1, torch.Size(shape).numel() + 1).view(shape)


def candidates(image: Tensor, padding: int, flip: bool) -> list[Tensor]:
    """Every outcome for one image, crop by crop: pad with 0, crop, then flip."""
    _, height, width = image.shape
    padded = F.pad(image, (padding,) * 4)
    crops = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]
    return crops + [crop.flip(-1) for crop in crops] if flip else crops


@given(shape=shapes, padding=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_each_image_is_a_crop_of_itself(
    shape: tuple[int, int, int, int], padding: int, flip: bool, seed: int
) -> None:
    images = numbered(*shape)
    before = images.clone()
    augmented = augment(images, generator(seed), padding, flip)
    assert torch.equal(images, before)
    assert augmented.shape == images.shape
    for image, result in zip(images, augmented, strict=True):
        assert any(torch.equal(result, c) for c in candidates(image, padding, flip))


def test_offsets_and_flips_are_uniform_and_independent() -> None:
    # The 3 x 3 x 2 outcomes for a 2x2 image are all different.
    image, n = numbered(1, 2, 2), 9000
    outcomes = candidates(image, 1, True)
    augmented = augment(image.expand(n, -1, -1, -1), generator(0), 1, True)
    matches = torch.stack([(augmented == outcome).all((1, 2, 3)) for outcome in outcomes])
    assert matches.sum(0).tolist() == [1] * n
    counts = matches.sum(1).double()
    chi_square = ((counts - n / 18) ** 2 / (n / 18)).sum().item()
    assert chi_square < 40.8  # 99.9 % quantile, 17 degrees of freedom


def test_without_padding_and_flip_nothing_changes() -> None:
    images = numbered(5, 3, 4, 6)
    assert torch.equal(augment(images, generator(0), 0, False), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_dtype_is_kept_and_draws_do_not_depend_on_it(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8), generator=generator(1))
    augmented = augment(images.to(dtype), generator(0), 2, True)
    assert augmented.dtype == dtype
    assert augmented.is_contiguous()
    assert torch.equal(augmented.long(), augment(images, generator(0), 2, True))


def test_memory_format_does_not_matter() -> None:
    images = numbered(6, 3, 8, 8)
    strided = images.to(memory_format=torch.channels_last)
    assert torch.equal(
        augment(strided, generator(0), 2, True), augment(images, generator(0), 2, True)
    )


def test_same_seed_same_result_and_the_stream_goes_on() -> None:
    images, stream = numbered(64, 1, 8, 8), generator(3)
    first, second = augment(images, stream, 4, True), augment(images, stream, 4, True)
    assert torch.equal(first, augment(images, generator(3), 4, True))
    assert not torch.equal(first, second)


@given(shape=shapes, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_normalize(shape: tuple[int, int, int, int], seed: int) -> None:
    images = torch.randint(0, 256, shape, generator=generator(seed), dtype=torch.uint8)
    before = images.clone()
    channels = shape[1]
    mean = torch.rand(channels, generator=generator(seed), dtype=torch.float64)
    std = 0.1 + torch.rand(channels, generator=generator(seed + 1), dtype=torch.float64)
    normalization = Normalization(tuple(mean.tolist()), tuple(std.tolist()))
    expected = (images.double() / 255 - mean[:, None, None]) / std[:, None, None]
    result = normalize(images, normalization)
    assert result.dtype == torch.float32
    assert torch.equal(images, before)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6)


def test_normalize_again_with_other_constants() -> None:
    images = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
    assert normalize(images, Normalization((0.0,), (0.5,))).item() == 2
    assert normalize(images, Normalization((0.5,), (0.5,))).item() == 1
    assert normalize(images, Normalization((0.5,), (0.25,))).item() == 2


def test_far_faster_than_image_by_image() -> None:
    images = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)

    def one_by_one() -> None:
        stream = generator(0)
        torch.cat([augment(image[None], stream, 4, True) for image in images])

    fast = _median_seconds(lambda: augment(images, generator(0), 4, True))
    assert fast < _median_seconds(one_by_one) / 3


def _median_seconds(call: object) -> float:
    assert callable(call)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
