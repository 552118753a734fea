"""The names a study may use, and the function each stands for.

To add a model, a dataset or a pruning method: write one file, add one line here.

Entries are text, resolved on use, so that a job imports (and its code digest covers) only
what it runs. This module is left out of code digests: a job's digest covers the module that
an entry resolves to, so a new line here makes nothing rerun.
"""

from importlib import import_module
from typing import Any

from sparsecnn.errors import UserError

REGISTRY: dict[str, dict[str, str]] = {
    "dataset": {
        "cifar10": "sparsecnn.data.cifar:read_cifar10",
        "cifar100": "sparsecnn.data.cifar:read_cifar100",
        "image_folder": "sparsecnn.data.image_folder:read_image_folder",
        "digits": "sparsecnn.data.digits:read_digits",
    },
    "model": {
        "custom_cnn": "sparsecnn.models.custom_cnn:custom_cnn",
        "vgg16": "sparsecnn.models.vgg:vgg16",
        "resnet18": "sparsecnn.models.resnet:resnet18",
    },
    "method": {
        "magnitude": "sparsecnn.pruning.methods.magnitude:Magnitude",
        "random": "sparsecnn.pruning.methods.random:Random",
        "wanda": "sparsecnn.pruning.methods.wanda:Wanda",
        "sparsegpt": "sparsecnn.pruning.methods.sparsegpt:SparseGPT",
        "static_obs": "sparsecnn.pruning.methods.static_obs:StaticOBS",
        "exact_obs": "sparsecnn.pruning.methods.exact_obs:ExactOBS",
        "admm": "sparsecnn.pruning.methods.admm:ADMM",
    },
}

READER_OPTIONS = {"image_folder": ("background", "names")}
"""Settings that one kind of dataset has alone; arguments of the function it names."""


def names(kind: str) -> list[str]:
    """All names of one kind ('dataset', 'model' or 'method')."""
    return list(REGISTRY[kind])


def module_of(kind: str, name: str) -> str:
    """Dotted name of the module that defines `name`; `UserError` if there is none."""
    return _entry(kind, name).partition(":")[0]


def resolve(kind: str, name: str) -> Any:
    """The registered function or class; `UserError` naming what exists if there is none."""
    module, _, attribute = _entry(kind, name).partition(":")
    return getattr(import_module(module), attribute)


def _entry(kind: str, name: str) -> str:
    try:
        return REGISTRY[kind][name]
    except KeyError:
        allowed = ", ".join(names(kind))
        raise UserError(f"unknown {kind} {name!r}: choose one of {allowed}") from None
