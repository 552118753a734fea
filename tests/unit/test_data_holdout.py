import pytest
import torch
from test_data_subset import dataset

from sparsecnn.data.holdout import hold_out
from sparsecnn.errors import UserError


def test_held_out_images_are_of_the_train_split_and_in_neither_twice() -> None:
    torch.manual_seed(3)
    data = dataset(100)
    split = hold_out(data, 30)
    assert hold_out(data, 30).test_images.equal(split.test_images)
    train, test = (images[:, 0, 0, 0] for images in (split.train_images, split.test_images))
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(100))
    assert (train // 10).equal(split.train_labels)
    assert (test // 10).equal(split.test_labels)
    assert torch.bincount(split.test_labels).tolist() == [3] * 10
    assert split.classes == data.classes


@pytest.mark.parametrize("count", [-10, 7, 15, 100, 110])
def test_a_wrong_number_to_hold_out_is_one_line(count: int) -> None:
    with pytest.raises(UserError, match=rf"holdout: {count} is not .* multiple of 10 up to 90"):
        hold_out(dataset(100), count)
