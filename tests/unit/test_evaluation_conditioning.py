import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecnn.evaluation.conditioning import conditioning
from sparsecnn.pruning.factor import damped


@settings(deadline=None, max_examples=40)
@given(
    groups=st.integers(1, 3),
    columns=st.integers(1, 8),
    count=st.integers(1, 12),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_both_are_those_of_the_dense_block_matrix(
    groups: int, columns: int, count: int, seed: int, scale: float
) -> None:
    torch.manual_seed(seed)
    inputs = scale * torch.randn(groups, columns, count, dtype=torch.float64)
    inputs[:, 1:][:, torch.rand(columns - 1) < 0.3] = 0  # dead columns, which damping lifts
    inputs[0] *= 100
    blocks = inputs @ inputs.mT
    found = conditioning(blocks)

    whole = torch.block_diag(*blocks).numpy()
    singular = np.linalg.svd(whole, compute_uv=False)
    p = singular / singular.sum()
    p = p[p > 1e-300]
    conditions = [np.linalg.cond(matrix) for matrix in damped(blocks, 0.01).numpy()]
    assert found.columns == groups * columns
    assert found.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert found.condition == pytest.approx(max(conditions), rel=1e-6)
    assert 1 - 1e-9 <= found.effective_rank <= groups * min(columns, count) * (1 + 1e-9)


def test_known_spectra() -> None:
    even = conditioning(torch.eye(5).expand(2, 5, 5))
    assert (even.effective_rank, even.condition) == (pytest.approx(10), pytest.approx(1))
    single = conditioning(torch.ones(1, 4, 4))
    assert single.effective_rank == pytest.approx(1)
    assert single.condition == pytest.approx((4 + 0.01) / 0.01)
    nothing = conditioning(torch.zeros(1, 3, 3))
    assert (nothing.columns, nothing.effective_rank, nothing.condition) == (3, 0, 1)
