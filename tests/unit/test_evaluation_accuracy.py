"""Nearness to another network, against the obvious computation in float64."""

import math
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparsecnn.data.dataset import Normalization
from sparsecnn.evaluation.accuracy import evaluate

CPU = torch.device("cpu")
PLAIN = Normalization((0.0,), (1.0,))


class Table(nn.Module):
    """The logits of a table, in whose rows the images are counted."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.as_tensor(logits, dtype=torch.float32)
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        rows = (255 * inputs[:, 0, 0, 0]).round().long()
        inputs.zero_()
        return self.logits[rows]


def measured(model, reference=None, batch_size=1000):
    """Of all images; every class is the label of some."""
    n, classes = model.logits.shape
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    labels = torch.arange(n) % classes
    return evaluate(model, images, labels, PLAIN, classes, CPU, batch_size, reference)


def log_softmax(row):
    total = math.log(math.fsum(math.exp(value - max(row)) for value in row))
    return [value - max(row) - total for value in row]


def divergence(dense, pruned):
    """In nats, of one image's logits."""
    pairs = zip(log_softmax(dense), log_softmax(pruned), strict=True)
    return math.fsum(math.exp(p) * (p - q) for p, q in pairs)


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 12),
    images=st.integers(12, 60),
    scale=st.sampled_from([1e-3, 1.0, 40.0]),
    distance=st.sampled_from([1e-6, 1e-3, 1.0, 40.0]),
    batch_size=st.integers(1, 61),
)
def test_divergence_and_agreement_against_a_loop(
    seed, classes, images, scale, distance, batch_size
):
    source = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(images, classes, generator=source)
    other = logits + distance * torch.randn(images, classes, generator=source)
    dense, pruned = Table(logits), Table(other)
    result = measured(pruned, dense, batch_size)
    rows = list(zip(dense.logits.tolist(), pruned.logits.tolist(), strict=True))
    expected = fmean(divergence(*pair) for pair in rows)
    assert result.kl == pytest.approx(expected, rel=1e-9, abs=1e-14)
    assert result.kl >= 0
    same = [one.index(max(one)) == two.index(max(two)) for one, two in rows]
    assert result.agreement == pytest.approx(100 * fmean(same))
    alone = measured(pruned, batch_size=batch_size)
    assert (result.top1, result.loss, result.per_class) == (
        *(alone.top1, alone.loss, alone.per_class),
    )


def test_a_network_without_reference_is_its_own_and_computed_once():
    dense = Table(torch.randn(50, 7, generator=torch.Generator().manual_seed(0)))
    result = measured(dense, batch_size=20)
    assert (result.kl, result.agreement, dense.calls) == (0, 100, 3)


def test_a_network_equal_to_its_reference_has_exactly_its_predictions():
    logits = 20 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    result = measured(Table(logits), Table(logits))
    assert (result.kl, result.agreement) == (0, 100)


def test_what_is_no_number_is_not_hidden():
    dense, pruned = ([[1.0, 2.0], [3.0, 1.0]] for _ in range(2))
    pruned[1][0] = math.nan
    assert math.isnan(measured(Table(pruned), Table(dense)).kl)
    assert math.isnan(measured(Table(dense), Table(pruned)).kl)
    assert math.isnan(measured(Table(pruned)).loss)
    pruned[1] = [math.inf, math.inf]
    assert math.isnan(measured(Table(pruned), Table(dense)).kl)


def test_a_class_that_is_ruled_out_counts_by_the_networks_that_rule_it_out():
    open_, closed = [[1.0, 2.0, 0.0]] * 3, [[1.0, 2.0, -math.inf]] * 3
    assert measured(Table(closed), Table(open_)).kl == math.inf
    assert measured(Table(open_), Table(closed)).kl == pytest.approx(
        math.log(1 + math.exp(-2) / (1 + math.exp(-1)))
    )
    assert measured(Table(closed)).kl == 0


def test_the_reference_is_evaluated_as_the_model_is():
    model, reference = (nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.Dropout()) for _ in "ab")
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    found = [
        evaluate(model.train(), images, torch.arange(20) % 2, PLAIN, 2, CPU, 6, reference.train())
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert not any(network.training for network in (model, reference))
