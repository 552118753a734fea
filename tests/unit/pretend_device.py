"""A device that is not there: what torch refuses on a GPU, refused on any machine.

Tensors on it say that they are on `mps`, compute on the CPU, and raise where torch would: where
they meet tensors of the CPU, and where float64 is asked for, which MPS does not have.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE, CPU = torch.device("mps"), torch.device("cpu")
ATEN = torch.ops.aten
MOVES = {ATEN.copy_.default, ATEN._to_copy.default}
# The CPU may hold the indices.
INDEXING = {ATEN.index.Tensor, ATEN.index_put_.default, ATEN._index_put_impl_.default}


@contextlib.contextmanager
def pretended_device():
    """Within it torch knows the device: `.to(DEVICE)` and `device=DEVICE` lead there."""
    with _Creation(), _Named():
        yield


class OnDevice(torch.Tensor):
    """A tensor on the device; to torch's C++ one without data, as `meta` tensors are."""

    @staticmethod
    def __new__(cls, held):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )
        tensor.held = held
        return tensor

    @property
    def device(self):
        return DEVICE

    @property
    def is_meta(self):
        return False

    def tolist(self):
        return self.held.tolist()

    def __repr__(self):
        return f"OnDevice({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Named(TorchFunctionMode):
    """Python's calls that name the device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        named = any(_is_device(value) for value in (*args, *kwargs.values()))
        if not named or func is torch._C._nn._parse_to:
            return func(*args, **kwargs)
        args, kwargs = tree_map(lambda v: CPU if _is_device(v) else v, (args, kwargs))
        made = func(*map(_held, args), **kwargs)
        return _on_device(made.detach(), func).requires_grad_(made.requires_grad)


class _Creation(TorchDispatchMode):
    """What C++ makes on the device of a tensor that it takes for one without data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if OnDevice in types or _device(kwargs) == "meta":
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


def _run(func, args, kwargs):
    tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
    moves = func in MOVES or (func in INDEXING and isinstance(args[0], OnDevice))
    if not moves and any(not isinstance(t, OnDevice) and t.dim() for t in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    leaves = _device(kwargs) == "cpu"
    if func is ATEN.copy_.default:
        leaves = not isinstance(args[0], OnDevice)
    there = {"device": CPU} if kwargs.get("device") else {}
    held_args, held_kwargs = tree_map(_held, (args, kwargs | there))
    out = func(*held_args, **held_kwargs)
    if leaves:
        return args[0] if func is ATEN.copy_.default else out
    out = tree_map(lambda value: _on_device(value, func), out)
    return return_and_correct_aliasing(func, args, kwargs, out) if tensors else out


def _device(kwargs):
    return torch.device(kwargs["device"]).type if kwargs.get("device") else None


def _is_device(value):
    return isinstance(value, torch.device | str) and str(value) == DEVICE.type


def _held(value):
    return value.held if isinstance(value, OnDevice) else value


def _on_device(value, func):
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype == torch.float64:
        raise TypeError(f"{func}: MPS has no float64")
    return OnDevice(value)
