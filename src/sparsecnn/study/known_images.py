"""What is known of the datasets that are always the same, before anything is read."""

from collections.abc import Mapping, Sequence
from typing import Any

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


def known_facts(name: str) -> dict[str, Any] | None:
    """What dataset.json would say of a dataset without holdout; None of images known to nobody.

    The keys are `classes`, `class_counts`, `n_train`, `n_test` and `image_shape` of
    `sparsecnn.data.dataset.summary`.
    """
    if name == "cifar10":
        return _facts(_CIFAR10.split(), [5000] * 10, [1000] * 10)
    if name == "cifar100":
        return _facts(_CIFAR100.split(), [500] * 100, [100] * 100)
    if name == "digits":  # the stratified split of `sparsecnn.data.digits`
        train = [142, 146, 142, 146, 145, 145, 145, 143, 139, 144]
        return _facts(list("0123456789"), train, [36, 36, 35, 37, 36, 37, 36, 36, 35, 36])
    return None


def after_holdout(facts: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The same with `count` train images in the place of the test split, equally many a class."""
    classes, each = facts["classes"], count // len(facts["classes"])
    left = [facts["class_counts"]["train"][name] - each for name in classes]
    return {**facts, **_facts(classes, left, [each] * len(classes))}


def _facts(classes: Sequence[str], train: Sequence[int], test: Sequence[int]) -> dict[str, Any]:
    counts = {"train": train, "test": test}
    return {
        "classes": list(classes),
        "class_counts": {s: dict(zip(classes, n, strict=True)) for s, n in counts.items()},
        "n_train": sum(train),
        "n_test": sum(test),
        "image_shape": [3, 32, 32],
    }
