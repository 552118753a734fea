"""The Triton kernel without a GPU: its interpreter gives the results, its compiler the code."""

import importlib
import sys
from types import ModuleType

import pytest
import torch

from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.methods import sparsegpt
from sparsecnn.pruning.methods.sparsegpt import SparseGPT
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.problem import Problem

pytest.importorskip("triton", reason="torch came without Triton")
FUSED = "sparsecnn.pruning.methods.block_kernel"


def import_fused(monkeypatch: pytest.MonkeyPatch, *, interpreted: bool) -> ModuleType:
    """The module with its kernel for the interpreter or for the compiler."""
    monkeypatch.setenv("TRITON_INTERPRET", str(int(interpreted)))
    monkeypatch.delitem(sys.modules, FUSED, raising=False)
    module = importlib.import_module(FUSED)
    monkeypatch.delitem(sys.modules, FUSED)
    return module


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_kernel_gives_the_masks_and_weights_of_the_plain_path(
    monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    inputs = torch.randn(2, 80, 24, dtype=torch.float64).relu()
    weight = torch.randn(2, 37, 24, dtype=torch.float64)
    problem = Problem(weight, Curvature(inputs.mT @ inputs, 0.01), NM(kept, 4), 24)
    plain = SparseGPT(block_size=16).solve(problem)
    fused = import_fused(monkeypatch, interpreted=True)
    monkeypatch.setattr(
        sparsegpt, "block_pruner", lambda pattern, *_, **__: fused.FusedPruner(pattern)
    )
    kernel = SparseGPT(block_size=16).solve(problem)
    assert torch.equal(kernel.mask, plain.mask)
    torch.testing.assert_close(kernel.weight, plain.weight)


def test_of_equal_scores_the_earlier_columns_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(torch.ones(1, 3, 8), Curvature(torch.eye(8)[None], 0.01), NM(2, 4), 8)
    fused = import_fused(monkeypatch, interpreted=True)
    monkeypatch.setattr(
        sparsegpt, "block_pruner", lambda pattern, *_, **__: fused.FusedPruner(pattern)
    )
    assert SparseGPT().solve(problem).mask.int().tolist() == [[[1, 1, 0, 0] * 2] * 3]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("dtype", "other"), [("fp32", ".f64"), ("fp64", ".f32")])
def test_kernel_compiles_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, dtype: str, other: str, capability: int
) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compiled

    kernel = import_fused(monkeypatch, interpreted=False)._prune_block
    matrices = dict.fromkeys(("base", "reaction", "inverse", "pruned"), f"*{dtype}")
    numbers = dict.fromkeys(("pruned_stride", "mask_stride", "rows", "columns"), "i32")
    constants = dict.fromkeys(("kept", "tile"), "constexpr")
    types = {**matrices, "mask": "*i1", **numbers, **constants}
    signature = {name: types[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature, {"kept": 2, "tile": 32})
    options = {"num_warps": 1, "enable_fp_fusion": True}
    code = compiled(source, target=GPUTarget("cuda", capability, 32), options=options).asm
    assert code["cubin"]
    assert other not in code["ptx"], "something is computed in the other precision"
    assert "ld.global.nc" not in code["ptx"], "what was just stored is read by another cache"
    assert ".local" not in code["ptx"]
