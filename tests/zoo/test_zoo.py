"""prune() on networks of every family of torchvision and of thirty of timm.

Their pruned weights are looked at where the network computes with them; everything else has to
be as it was.
"""

import copy
from typing import Any

import pytest
import torch
from in_use import two_of_four, uses
from networks import NETWORKS, images
from torch import Tensor, nn
from trials import METHODS, dense_network, prune_copy, table_row

from sparsecnn.pruning.result import LayerReport, PruningResult

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str, tabulate: Any) -> None:
    network = NETWORKS[name]
    dense = dense_network(network)
    trials = {}
    for method in METHODS:
        pruned, trials[method] = prune_copy(network, dense, method)
        result = trials[method].result
        assert_rows_are_all_weights(pruned, result)
        assert_all_else_is_as_it_was(dense, pruned, result)
        assert_pruned_where_used(pruned, result, images(network.size, 2, seed=4))
    tabulate("zoo", **table_row(network, trials))
    errors = {method: trial.error for method, trial in trials.items()}
    assert errors["sparsegpt"] < errors["magnitude"]


def assert_rows_are_all_weights(model: nn.Module, result: PruningResult) -> None:
    rows = {path(row): row for row in result.layers}
    assert len(rows) == len(result.layers)
    matrices = {name: p for name, p in parameters(model).items() if p.dim() > 1}
    assert rows.keys() <= matrices.keys()
    listed = {id(matrices[name]) for name in rows}
    assert [name for name, matrix in matrices.items() if id(matrix) not in listed] == []
    for name, row in rows.items():
        assert row.status in ("pruned", "dense"), name
        assert bool(row.reason) == (row.status == "dense"), name
        assert row.weights == matrices[name].numel(), name
    assert sum(row.share for row in result.layers) == pytest.approx(1)
    assert_zeros_are_told(matrices, result)


def assert_zeros_are_told(matrices: dict[str, nn.Parameter], result: PruningResult) -> None:
    distinct = {id(matrices[path(row)]): matrices[path(row)] for row in result.layers}.values()
    zeros = sum(int((matrix == 0).sum()) for matrix in distinct)
    assert result.sparsity == pytest.approx(zeros / sum(matrix.numel() for matrix in distinct))
    masked = {mask_name(row): path(row) for row in result.layers if row.status == "pruned"}
    assert result.masks.keys() == masked.keys()
    for key, mask in result.masks.items():
        assert not matrices[masked[key]][~mask].any(), key


def assert_all_else_is_as_it_was(
    dense: nn.Module, pruned: nn.Module, result: PruningResult
) -> None:
    before, now = dense.state_dict(), pruned.state_dict()
    touched = {now[path(row)].data_ptr() for row in result.layers if row.status == "pruned"}
    assert now.keys() == before.keys()
    changed = [
        name
        for name, tensor in now.items()
        if tensor.data_ptr() not in touched and not same_bits(tensor, before[name])
    ]
    assert changed == []
    assert settings(pruned) == settings(dense)


def assert_pruned_where_used(model: nn.Module, result: PruningResult, batch: Tensor) -> None:
    found = uses(copy.deepcopy(model).eval(), batch)
    for row in result.layers:
        if row.status == "pruned":
            weights = [use.weight for use in found if use.is_of(row.layer, row.tensor)]
            assert weights, f"{path(row)} is pruned and in no use"
            assert all(map(two_of_four, weights)), f"{path(row)} is not 2:4 where it is used"


def settings(model: nn.Module) -> dict[str, Any]:
    """What a model is beyond its tensors: flags, hooks, names of attributes."""
    of_modules = {
        name: (
            module.training,
            sorted(vars(module)),
            [len(value) for key, value in vars(module).items() if key.endswith("_hooks")],
        )
        for name, module in model.named_modules()
    }
    of_parameters = {
        f"{name} (parameter)": (p.requires_grad, p.grad) for name, p in parameters(model).items()
    }
    return of_modules | of_parameters


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By all of their names, if they have several."""
    return dict(model.named_parameters(remove_duplicate=False))


def path(row: LayerReport) -> str:
    return f"{row.layer}.{row.tensor}".removeprefix(".")


def mask_name(row: LayerReport) -> str:
    return row.layer if row.tensor == "weight" else path(row)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(as_bytes(a), as_bytes(b))


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
