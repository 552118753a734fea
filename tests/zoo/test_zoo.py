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
from trials import METHODS, Trial, dense_network, run_trial, table_row

from sparsecnn.pruning.result import PruningResult

pytestmark = pytest.mark.zoo

NOT_BETTER: dict[str, str] = {}
"""Networks whose outputs SparseGPT need not keep better than magnitude pruning, and why."""


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str, tabulate: Any) -> None:
    network = NETWORKS[name]
    dense = dense_network(network)
    trials = {method: run_trial(network, dense, method) for method in METHODS}
    for method, trial in trials.items():
        assert_rows_are_all_weights(trial.pruned, trial.result)
        assert_all_else_is_as_it_was(trial)
        assert_pruned_where_used(trial, images(network.size, 2, seed=4), method)
    tabulate("the zoo", **table_row(network, trials))
    if name not in NOT_BETTER:
        assert trials["sparsegpt"].error < trials["magnitude"].error


def assert_rows_are_all_weights(model: nn.Module, result: PruningResult) -> None:
    rows = {path(row): row for row in result.layers}
    assert len(rows) == len(result.layers)
    matrices = {name: p for name, p in parameters(model).items() if p.dim() > 1}
    assert rows.keys() <= matrices.keys()
    listed = {id(matrices[name]) for name in rows}
    assert [name for name, matrix in matrices.items() if id(matrix) not in listed] == []
    for name, row in rows.items():
        assert row.status in ("pruned", "dense")
        assert bool(row.reason) == (row.status == "dense"), name
        assert row.weights == matrices[name].numel(), name
    assert sum(row.share for row in result.layers) == pytest.approx(1)
    distinct = {id(matrices[name]): matrices[name] for name in rows}.values()
    zeros = sum(int((matrix == 0).sum()) for matrix in distinct)
    assert result.sparsity == pytest.approx(zeros / sum(m.numel() for m in distinct))
    masked = {mask_name(row): path(row) for row in result.layers if row.status == "pruned"}
    assert result.masks.keys() == masked.keys()
    for key, mask in result.masks.items():
        assert not matrices[masked[key]][~mask].any(), key


def assert_all_else_is_as_it_was(trial: Trial) -> None:
    pruned = {path(row) for row in trial.result.layers if row.status == "pruned"}
    now = trial.pruned.state_dict()
    shares = {now[name].data_ptr() for name in pruned}
    before = trial.dense.state_dict()
    assert now.keys() == before.keys()
    changed = [
        name
        for name, tensor in now.items()
        if tensor.data_ptr() not in shares and not same_bits(tensor, before[name])
    ]
    assert changed == []
    assert settings(trial.pruned) == settings(trial.dense)


def assert_pruned_where_used(trial: Trial, batch: Tensor, method: str) -> None:
    found = uses(copy.deepcopy(trial.pruned).eval(), batch)
    for row in trial.result.layers:
        if row.status == "pruned":
            own = [use.weight for use in found if use.is_of(row.layer, row.tensor)]
            assert own, f"{method}: {path(row)} is pruned and in no use"
            assert all(map(two_of_four, own)), f"{method}: {path(row)} is not 2:4 where it is used"


def settings(model: nn.Module) -> dict[str, Any]:
    """What a model is beyond its tensors: flags, hooks, attributes."""
    modules = {
        name: (
            module.training,
            sorted(vars(module)),
            [len(value) for key, value in vars(module).items() if key.endswith("_hooks")],
        )
        for name, module in model.named_modules()
    }
    of_parameters = {name: (p.requires_grad, p.grad) for name, p in parameters(model).items()}
    return modules | of_parameters


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))


def path(row: Any) -> str:
    return ".".join(filter(None, (row.layer, row.tensor)))


def mask_name(row: Any) -> str:
    return row.layer if row.tensor == "weight" else f"{row.layer}.{row.tensor}"


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(as_bytes(a), as_bytes(b))


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
