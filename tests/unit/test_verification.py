from typing import Any

import pytest
import torch

from sparsecnn.errors import UserError
from sparsecnn.evaluation.verification import PatternError, network_sparsity, verify_pattern


def row(layer: str, layout: str = "channels", status: str = "pruned") -> dict[str, Any]:
    shared = {"tensor": "weight", "pattern": "2:4"}
    return {"layer": layer, "status": status, "layout": layout, **shared}


def row_of(pattern: str) -> dict[str, Any]:
    return row("fc") | {"pattern": pattern}


def channels_mask() -> torch.Tensor:
    weight = torch.ones(2, 8, 1, 3)
    weight[:, [0, 1, 5, 6]] = 0
    return weight


def test_accepts_a_weight_that_has_its_pattern() -> None:
    state = {"conv.weight": channels_mask(), "fc.weight": torch.ones(3, 5)}
    layers = [row("conv"), row("fc", status="dense")]
    assert verify_pattern(state, layers) == {"conv": 0.5, "fc": 0.0}
    assert network_sparsity(state, layers) == {
        "sparsity_pruned_layers": 0.5,
        "sparsity_network": 24 / 63,
    }


def test_one_weight_too_many_is_found_by_name() -> None:
    weight = channels_mask()
    weight[1, 5, 0, 2] = 0.1
    with pytest.raises(PatternError, match=r"'block\.conv' .* 3 of 4"):
        verify_pattern({"block.conv.weight": weight}, [row("block.conv")])
    assert issubclass(PatternError, UserError)


def test_the_layout_matters() -> None:
    weight = torch.ones(1, 4, 1, 4)
    weight[:, 2:] = 0
    verify_pattern({"c.weight": weight}, [row("c")])
    with pytest.raises(PatternError, match="4 of 4"):
        verify_pattern({"c.weight": weight}, [row("c", "flattened")])


def test_tail_is_free_in_flattened_and_refused_in_channels() -> None:
    weight = torch.ones(2, 6)
    weight[:, :2] = 0
    verify_pattern({"fc.weight": weight}, [row("fc", "flattened")])
    with pytest.raises(PatternError, match="do not divide by 4"):
        verify_pattern({"fc.weight": weight}, [row("fc")])


def test_missing_layer_is_named() -> None:
    with pytest.raises(PatternError, match="'gone'"):
        verify_pattern({}, [row("gone")])


def test_no_pruned_layer() -> None:
    state = {"fc.weight": torch.ones(2, 4)}
    sparsity = network_sparsity(state, [row("fc", status="dense")])
    assert sparsity == {"sparsity_pruned_layers": 0.0, "sparsity_network": 0.0}


@pytest.mark.parametrize(
    ("pattern", "zeros", "fine"),
    [
        ("50%", [20, 0], True),
        ("50%", [17, 0], False),
        ("50% per row", [10, 9], True),
        ("50% per row", [20, 0], False),
    ],
)
def test_unstructured_rates(pattern: str, zeros: list[int], fine: bool) -> None:
    weight = torch.ones(2, 20)
    for row, count in enumerate(zeros):
        weight[row, :count] = 0
    layers = [row_of(pattern)]
    if fine:
        verify_pattern({"fc.weight": weight}, layers)
    else:
        with pytest.raises(PatternError, match="weights are zero"):
            verify_pattern({"fc.weight": weight}, layers)


def test_weights_of_other_names() -> None:
    projection = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    state = {"attention.in_proj_weight": projection, "q_proj_weight": torch.ones(4, 4)}
    layers = [
        row("attention") | {"tensor": "in_proj_weight"},
        row("") | {"tensor": "q_proj_weight"},
    ]
    with pytest.raises(PatternError, match=r"'q_proj_weight' .* 4 of 4"):
        verify_pattern(state, layers)
    layers[1]["status"] = "dense"
    expected = {"attention.in_proj_weight": 0.5, "q_proj_weight": 0.0}
    assert verify_pattern(state, layers) == expected
