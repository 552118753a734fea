"""What pruning buys, in counts: parameters, bytes and multiply-accumulates; no measured time.

A pruned weight counts as *compressed* if sparse tensor cores store and multiply it as 2:4: they
take its shape (`sparsecnn.sparse_cores`), and of every four neighbouring input channels at most two
have a weight that is not zero. That is looked up in the stored tensor, whatever its pattern is
called: so 1:4 and 1:2 are compressed too, as 2:4 with zeros among the kept values, and so are
flattened groups of linear layers and 1 x 1 kernels, which lie along the channels. No hardware has a
format for 4:8, unstructured zeros and other flattened groups, which count as dense.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sparsecnn.evaluation.verification import stored_weight
from sparsecnn.sparse_cores import sparse_core_misfit

DENSE_BYTES = 2
"""Of a value in fp16."""
COMPRESSED_BYTES = 9 / 8
"""Of a weight in a compressed layer: every second value is kept, each with an index of 2 bits."""


@dataclass(frozen=True)
class Costs:
    """What a network takes, and what it would take if all its weights were kept."""

    parameters: int
    """All of them, those of biases and normalisation too."""
    parameters_kept: int
    """Without the zeros of pruned layers."""
    bytes_dense: int
    """Of all parameters in fp16; buffers, as running statistics, are not among them."""
    bytes_pruned: int
    """With compressed layers stored as such, all other parameters as if dense."""
    macs: int
    """Multiply-accumulates for one image."""
    macs_effective: int
    """Without those by a zero of a pruned layer."""
    macs_sparse_cores: float
    """Fraction of `macs` that is in compressed layers."""


def network_costs(
    model: nn.Module, image_shape: Sequence[int], layers: Sequence[Mapping[str, Any]]
) -> Costs:
    """Count what a network costs, by one forward pass of one black image in eval mode.

    Multiply-accumulates are those of convolutions, linear layers and matrix products, those of
    attention too, as `torch.utils.flop_counter` counts them (of padding too). Elementwise
    operations, normalisation, pooling and kernels that it does not know are left out.

    Parameters
    ----------
    model
        On any device, on torch's meta device too if `layers` is empty; left as it was.
    image_shape
        (C, H, W).
    layers
        Rows of the table of layers; read are `layer`, `tensor`, `status` and `groups`. A dense
        network has none.

    Raises
    ------
    PatternError
        A layer of the table is not in the network.
    """
    state = model.state_dict()
    pruned = {i: row for i, row in enumerate(layers) if row["status"] == "pruned"}
    weights = {i: stored_weight(state, row) for i, row in pruned.items()}
    compressed = {
        i for i, weight in weights.items() if _compressed(weight, int(pruned[i]["groups"]))
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    saved = (DENSE_BYTES - COMPRESSED_BYTES) * sum(weights[i].numel() for i in compressed)
    macs, by_weight, by_zeros = _multiplied(model, image_shape, weights)
    return Costs(
        parameters=parameters,
        parameters_kept=parameters - sum(_zeros(weight) for weight in weights.values()),
        bytes_dense=DENSE_BYTES * parameters,
        bytes_pruned=DENSE_BYTES * parameters - int(saved),
        macs=macs,
        macs_effective=macs - by_zeros.total(),
        macs_sparse_cores=sum(by_weight[i] for i in compressed) / macs if macs else 0.0,
    )


def _compressed(weight: Tensor, groups: int) -> bool:
    """Whether sparse tensor cores take a weight, (rows, channels of a group, ...), as 2:4."""
    rows, channels = weight.shape[0] // groups, weight.shape[1]
    if sparse_core_misfit(rows, channels):
        return False
    return int((weight != 0).unflatten(1, (-1, 4)).sum(2).max()) <= 2


def _multiplied(
    model: nn.Module, image_shape: Sequence[int], weights: Mapping[int, Tensor]
) -> tuple[int, Counter[int], Counter[int]]:
    """MACs of one image: all, those by each of some weights, and of these those by its zeros."""
    like = next(model.parameters())
    image = torch.zeros(1, *image_shape, dtype=like.dtype, device=like.device)
    with (
        _evaluating(model),
        FlopCounterMode(display=False) as flops,
        _Readers(flops, weights) as readers,
    ):
        model(image)
    return flops.get_total_flops() // 2, readers.macs, readers.by_zeros


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, and without fused attention, in which no product is seen."""
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for module in modes:
            module.training = False
        # Not inference mode, in which linear layers and convolutions come in other forms. Attention
        # as plain products, since torch 2.11 does not count those of the CPU's fused kernel.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training


class _Readers(TorchDispatchMode):
    """Counts the multiply-accumulates by some weights, as `flops` counts those of all.

    A weight is known by its memory, so that views of it count. What else is computed from one and
    has as many elements, as a copy in another format, stands for it.
    """

    def __init__(self, flops: FlopCounterMode, weights: Mapping[int, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: Counter[int] = Counter()
        self.by_zeros: Counter[int] = Counter()
        self._flops = flops
        self._sizes = {key: weight.numel() for key, weight in weights.items()}
        self._keys = {_memory(weight): key for key, weight in weights.items()}
        # Kept, since memory that is freed may be given to another tensor.
        self._computed: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self._flops.get_total_flops()
        found = func(*args, **(kwargs or {}))
        macs = (self._flops.get_total_flops() - before) // 2
        for read in _tensors((args, kwargs)) if self._keys else ():
            key = self._keys.get(_memory(read))
            if key is None:
                continue
            if macs:
                self.macs[key] += macs
                self.by_zeros[key] += macs * _zeros(read) // read.numel()
            else:
                self._follow(key, found)
        return found

    def _follow(self, key: int, found: Any) -> None:
        for tensor in _tensors(found):
            if tensor.numel() == self._sizes[key]:
                self._keys[_memory(tensor)] = key
                self._computed.append(tensor)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _zeros(weight: Tensor) -> int:
    return int((weight == 0).sum())
