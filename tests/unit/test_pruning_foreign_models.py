"""The library on models that are not ours: depthwise convolutions, concatenation, gates."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torchvision import models

from sparsecnn import prune
from sparsecnn.evaluation.verification import network_sparsity, verify_pattern


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v3_small", {"calibration": "sequential", "target": "dense"}),
        ("mobilenet_v3_small", {"layout": "flattened"}),
        ("densenet121", {"coverage": "skip_first_last", "exclude": ["*denseblock[23]*"]}),
    ],
)
def test_torchvision_models(name: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = models.get_model(name, num_classes=8).train()
    result = prune(model, [torch.randn(4, 3, 48, 48)], **settings)
    rows = [asdict(layer) for layer in result.layers]
    verify_pattern(model.state_dict(), rows)
    depthwise = [row for row in rows if row["groups"] > 1]
    if settings.get("layout") == "flattened":
        assert all(row["status"] == "pruned" for row in depthwise)
    else:
        assert all("1 input channels per group" in row["reason"] for row in depthwise)
        least = 0.25 if "exclude" in settings else 0.45
        assert network_sparsity(model.state_dict(), rows)["sparsity_network"] > least
    assert model.training
    assert all(row["relative_error"] < 1 for row in rows if row["status"] == "pruned")
