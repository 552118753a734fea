"""Weights that were trained elsewhere, from the files that people keep them in."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError, in_a_line

INSIDE = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
"""Keys under which checkpoints keep a state dict, the first that is there."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What wrappers put before every name: DataParallel, torch.compile, and training loops."""
_SHOWN = 5


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU: safetensors, or what torch.save wrote.

    Of a checkpoint, what is under one of `INSIDE`. Nothing but tensors and plain values is ever
    unpickled. Raises `UserError` if there is none, or the file is broken.
    """
    values = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    for _ in range(2):  # a checkpoint, of a wrapper's state
        key = next((k for k in INSIDE if isinstance(values.get(k), Mapping)), None)
        values = values[key] if key else values
    tensors = {str(k): v for k, v in values.items() if isinstance(v, Tensor)}
    if not tensors:
        keys = _listed([str(key) for key in values]) or "nothing"
        raise UserError(
            f"{path}: holds no state dict, alone or under {', '.join(INSIDE[:3])}, but {keys}; "
            "save model.state_dict()"
        )
    return tensors


def load_given(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict into a network, whatever wrapper's prefix its names have.

    Raises `UserError` naming the weights that do not fit, and those that are not finite.
    """
    wanted = model.state_dict()
    tensors = _without_prefix(tensors, wanted)
    # Counts of batches, which old checkpoints lack, say nothing of what a network computes.
    missing = [k for k in wanted if k not in tensors and not k.endswith("num_batches_tracked")]
    unknown = [k for k in tensors if k not in wanted]
    shapes = [
        f"{k} {_shape(tensors[k])} for {_shape(wanted[k])}"
        for k in wanted
        if k in tensors and tensors[k].shape != wanted[k].shape
    ]
    kinds = {"has not": missing, "has besides": unknown, "has in another shape": shapes}
    problems = [f"{words} {_listed(names)}" for words, names in kinds.items() if names]
    if problems:
        raise UserError(f"{path}: does not fit the network: it {'; it '.join(problems)}")
    wild = [k for k, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if wild:
        raise UserError(f"{path}: has values that are not finite in {_listed(wild)}")
    model.load_state_dict({**{k: wanted[k] for k in wanted if k not in tensors}, **tensors})


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no whole safetensors file ({error})") from None


def _torch_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            if file.read(2) not in (b"PK", b"\x80\x02", b"\x80\x04"):
                raise ValueError("it begins otherwise")
            warnings.simplefilter("ignore")  # of other forms of pickles, which are refused
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors and plain values (a whole pickled network?), which "
            "is not read because it could run any code; save model.state_dict()"
        ) from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"{path}: no whole file of torch.save ({in_a_line(error)})") from None
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: holds a {type(value).__name__}; save model.state_dict()")
    return dict(value)


def _without_prefix(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The names as they are or, while none is the network's, without a prefix that all have."""
    while not set(tensors) & set(wanted):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            break
        tensors = {k.removeprefix(prefix): tensor for k, tensor in tensors.items()}
    return tensors


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
