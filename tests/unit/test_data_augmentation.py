import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsecnn.data.augmentation import AugmentedImages, normalize
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


def altered(images: Tensor, seed: int = 0, padding: int = 0, flip: bool = False, cutout: int = 0):
    """All images, each altered at random; pixel values stay as they are."""
    channels = images.shape[1]
    identity = Normalization((0.0,) * channels, (1 / 255,) * channels)
    source = AugmentedImages(
        images,
        identity,
        torch.device("cpu"),
        crop_padding=padding,
        horizontal_flip=flip,
        cutout=cutout,
    )
    drawn = source.draw(len(images), generator(seed))
    return source.batch(torch.arange(len(images)), drawn)


@given(shape=shapes, padding=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_each_image_is_a_crop_of_itself(
    shape: tuple[int, int, int, int], padding: int, flip: bool, seed: int
) -> None:
    images = numbered(*shape)
    before = images.clone()
    augmented = altered(images, seed, padding, flip)
    assert torch.equal(images, before)
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert augmented.is_contiguous(memory_format=torch.channels_last)
    for image, result in zip(images, augmented.long(), strict=True):
        assert any(torch.equal(result, c) for c in candidates(image, padding, flip))


def test_offsets_and_flips_are_uniform_and_independent() -> None:
    # The 3 x 3 x 2 outcomes for a 2x2 image are all different.
    image, n = numbered(1, 2, 2), 9000
    outcomes = candidates(image, 1, True)
    augmented = altered(image.expand(n, -1, -1, -1), 0, 1, True)
    matches = torch.stack([(augmented == outcome).all(3).all(2).all(1) for outcome in outcomes])
    assert matches.sum(0).tolist() == [1] * n
    counts = matches.sum(1).double()
    chi_square = ((counts - n / 18) ** 2 / (n / 18)).sum().item()
    assert chi_square < 40.8  # 99.9 % quantile, 17 degrees of freedom


@pytest.mark.parametrize("side", [1, 2, 3, 5, 20])
def test_cutout_hides_one_square_cut_off_at_the_border(side: int) -> None:
    n, height, width = 4000, 4, 6
    images = numbered(1, 2, height, width).expand(n, -1, -1, -1)
    hidden = altered(images, cutout=side) == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    seen = set()
    for image in hidden[:, 0]:
        rows, columns = (range(int(i.min()), int(i.max()) + 1) for i in image.nonzero().unbind(1))
        assert int(image.sum()) == len(rows) * len(columns)
        seen.add((rows, columns))
    half = side // 2
    expected = {
        tuple(
            range(max(0, centre - half), min(length, centre - half + side))
            for centre, length in ((row, height), (column, width))
        )
        for row in range(height)
        for column in range(width)
    }
    assert seen == expected


def test_hidden_pixels_have_the_mean_colour() -> None:
    images = torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)
    normalization = Normalization((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    source = AugmentedImages(
        images,
        normalization,
        torch.device("cpu"),
        crop_padding=0,
        horizontal_flip=False,
        cutout=9,
    )
    batch = source.batch(torch.zeros(1, dtype=torch.long), source.draw(1, generator(0)))
    assert torch.equal(batch, torch.zeros(1, 3, 4, 4))


def test_without_padding_flip_and_cutout_images_are_only_normalized() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8, generator=generator(1))
    assert torch.equal(altered(images), images.float())


def test_memory_format_does_not_matter() -> None:
    images = numbered(6, 3, 8, 8)
    strided = images.to(memory_format=torch.channels_last)
    assert torch.equal(altered(strided, 0, 2, True), altered(images, 0, 2, True))


def test_any_images_can_be_taken_in_any_order() -> None:
    images = numbered(6, 1, 4, 4)
    none = torch.zeros(3, 5, dtype=torch.long)
    source = AugmentedImages(
        images,
        Normalization((0.0,), (1 / 255,)),
        torch.device("cpu"),
        crop_padding=0,
        horizontal_flip=False,
        cutout=0,
    )
    at = torch.tensor([4, 0, 4])
    assert torch.equal(source.batch(at, none), images[at].float())


def test_same_seed_same_result() -> None:
    images = numbered(64, 1, 8, 8)
    assert torch.equal(altered(images, 3, 4, True, 3), altered(images, 3, 4, True, 3))
    assert not torch.equal(altered(images, 3, 4, True, 3), altered(images, 4, 4, True, 3))


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
