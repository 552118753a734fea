import pytest
import torch

from sparsecnn.data.augmentation import normalize
from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.data.subset import train_sample
from sparsecnn.errors import UserError

NORMALIZATION = Normalization((0.5,), (0.25,))
CPU = torch.device("cpu")


def dataset(count: int) -> Dataset:
    """Images whose pixels are their index; the label is a tenth of it. Test images stand out."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.arange(count) // 10
    classes = tuple(map(str, range(count // 10)))
    return Dataset(images, labels, torch.full_like(images, 255), labels, classes)


def test_different_train_images_with_their_labels_in_batches() -> None:
    data = dataset(100)
    batches = train_sample(data, NORMALIZATION, 50, CPU, batch_size=20)
    assert [len(labels) for _, labels in batches] == [20, 20, 10]
    inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    known = normalize(data.train_images, NORMALIZATION)[:, 0, 0, 0]
    indices = [int(torch.nonzero(known == value)) for value in inputs[:, 0, 0, 0]]
    assert len(set(indices)) == 50
    assert labels.tolist() == [i // 10 for i in indices]
    # Of classes in order, a sample sees nearly all.
    assert len(set(labels.tolist())) >= 9


def test_the_sample_is_always_the_same_and_a_larger_one_holds_it() -> None:
    torch.manual_seed(1)
    ((inputs, _),) = train_sample(dataset(100), NORMALIZATION, 10, CPU)
    torch.manual_seed(2)
    ((more, _),) = train_sample(dataset(100), NORMALIZATION, 20, CPU)
    assert more[:10].equal(inputs)


def test_too_few_images_are_one_line() -> None:
    assert len(train_sample(dataset(20), NORMALIZATION, 20, CPU)) == 1
    with pytest.raises(UserError, match=r"diagnostics\.images: 21 is not possible; .* 20 images"):
        train_sample(dataset(20), NORMALIZATION, 21, CPU)
