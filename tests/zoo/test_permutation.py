"""Every network of the zoo computes the same with its channels in another order."""

import pytest
import torch
from networks import NETWORKS, build, images

from sparsecnn.pruning.permutation.trace import trace

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_channels_in_random_order_give_the_same_outputs(name):
    network = NETWORKS[name]
    model, batch = build(network).double(), images(network.size, 4, seed=0).double()
    before = model(batch)
    generator = torch.Generator().manual_seed(0)
    for stream in trace(model, lambda: model(batch)).found:
        stream.permute(torch.randperm(stream.channels, generator=generator))
    assert (model(batch) - before).abs().max() <= 1e-9 * before.abs().max()
