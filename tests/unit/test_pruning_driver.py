import copy
import inspect
from dataclasses import asdict
from typing import Any

import pytest
import torch
from pruning_oracles import textbook_sparsegpt
from torch import Tensor, nn

import sparsecnn
from sparsecnn.errors import UserError
from sparsecnn.evaluation.verification import verify_pattern
from sparsecnn.pruning import PruningResult, prune
from sparsecnn.pruning.settings import read_settings


class Network(nn.Module):
    """Layers registered in another order than data takes; one is used twice, one grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 8)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2, bias=False)
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.stem(images)).relu()
        x = self.shared(self.shared(x).relu()).relu()
        x = self.grouped(input=x).mean((2, 3))
        out: Tensor = self.head(self.dropout(x))
        return out


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    return Network()


@pytest.fixture
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(8, 3, 10, 10) for _ in range(3)]


def rows(result: PruningResult) -> list[dict[str, Any]]:
    return [asdict(layer) for layer in result.layers]


@pytest.mark.parametrize(
    "method", ["magnitude", "random", "wanda", "sparsegpt", "static_obs", "exact_obs", "admm"]
)
@pytest.mark.parametrize("layout", ["channels", "flattened"])
def test_every_layer_is_listed_in_data_order_and_pruned_or_explained(
    model: Network, batches: list[Tensor], method: str, layout: str
) -> None:
    result = prune(model, batches, method=method, layout=layout)
    assert [row.layer for row in result.layers] == ["stem", "shared", "grouped", "head"]
    stem = result.layers[0]
    if layout == "channels":
        assert (stem.status, stem.pattern, stem.relative_error) == ("dense", "", None)
        assert stem.reason == "3 input channels per group are not a multiple of 4"
    else:
        assert (stem.status, stem.reason, stem.pattern) == ("pruned", "", "2:4")
        assert stem.sparsity == pytest.approx(12 / 27)
    for row in result.layers[1:]:
        assert (row.status, row.sparsity, row.layout) == ("pruned", 0.5, layout)
        assert row.relative_error is not None
        assert row.relative_error > 0
    verify_pattern(model.state_dict(), rows(result))
    for name, mask in result.masks.items():
        weight = model.state_dict()[f"{name}.weight"]
        assert mask.shape == weight.shape
        assert not weight[~mask].any()


def test_hessian_of_a_layer_used_twice_counts_both_uses(
    model: Network, batches: list[Tensor]
) -> None:
    result = prune(model, batches)
    samples = {row.layer: row.samples for row in result.layers}
    assert samples["shared"] == 2 * 24 * 8 * 8
    assert samples["grouped"] == 24 * 6 * 6


def test_pruned_linear_layer_is_the_textbook_result(batches: list[Tensor]) -> None:
    layer = nn.Linear(16, 6)
    inputs = [torch.randn(20, 16) for _ in range(3)]
    joined = torch.cat(inputs)
    weight = layer.weight.detach().clone()
    expected, mask = textbook_sparsegpt(weight, 2 / 60 * joined.T @ joined, 2, 4, 16, 0.05)
    published: dict[str, Any] = {
        "method": "sparsegpt",
        "calibration": "independent",
        "refit": False,
    }
    result = prune(layer, inputs, damping=0.05, **published)
    assert torch.equal(result.masks[""], mask)
    torch.testing.assert_close(layer.weight.detach().double(), expected, rtol=0, atol=1e-5)
    error = joined @ (weight - layer.weight.detach()).T
    relative = error.square().sum() / (joined @ weight.T).square().sum()
    assert result.layers[0].relative_error == pytest.approx(relative.item(), rel=1e-4)
    verify_pattern(layer.state_dict(), rows(result))


def test_batches_may_be_split_at_will(model: Network, batches: list[Tensor]) -> None:
    other = copy.deepcopy(model)
    first = prune(model, batches, precision="float64")
    second = prune(other, [torch.cat(batches)], memory_mb=0.3, precision="float64")
    for name, mask in first.masks.items():
        assert torch.equal(mask, second.masks[name])
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fail", [False, True])
def test_model_is_left_as_it_was(model: Network, batches: list[Tensor], fail: bool) -> None:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    model.norm.eval()
    model.shared.weight.requires_grad_(False)
    model.head.bfloat16()
    model.head.register_forward_pre_hook(lambda _, args: (args[0].bfloat16(),))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if fail:
        batches[1][0, 0, 0, 0] = float("nan")
        with pytest.raises(UserError, match="'shared' hold NaN"):
            prune(model, batches)
        assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    else:
        prune(model, batches)
    assert model.training
    assert model.head.training
    assert not model.norm.training
    assert not model.shared.weight.requires_grad
    assert model.grouped.weight.requires_grad
    assert model.head.weight.dtype == torch.bfloat16
    assert model.shared.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.norm.running_mean, before["norm.running_mean"])
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    assert sum(hooks) == 1
    assert torch.is_grad_enabled()


def test_coverage_and_names(model: Network, batches: list[Tensor]) -> None:
    result = prune(model, batches, coverage="skip_first_last", layout="flattened", exclude=["gro*"])
    reasons = {row.layer: row.reason for row in result.layers}
    assert reasons == {
        "stem": "first layer",
        "shared": "",
        "grouped": "excluded by name",
        "head": "last layer",
    }
    assert list(result.masks) == ["shared"]


def test_hardware_coverage_takes_what_sparse_tensor_cores_take() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 32, 3),
        nn.Conv2d(32, 24, 1),
        nn.Conv2d(24, 32, 1),
        nn.Conv2d(32, 32, 1, groups=2),
        nn.Conv2d(32, 32, 1, groups=4),
    )
    result = prune(model, [torch.randn(2, 3, 9, 9)], coverage="hardware")
    assert list(result.masks) == ["1", "4"]
    assert result.layers[2].reason.endswith("in multiples of 16, not 24 and 32 per group")
    assert result.layers[5].reason.endswith("not 8 and 8 per group")


@pytest.mark.parametrize("pattern", ["50%", "50% per row"])
@pytest.mark.parametrize("method", ["magnitude", "sparsegpt"])
def test_unstructured_patterns(
    model: Network, batches: list[Tensor], method: str, pattern: str
) -> None:
    result = prune(model, batches, method=method, pattern=pattern, refit=True)
    assert list(result.masks) == ["stem", "shared", "grouped", "head"]
    verify_pattern(model.state_dict(), rows(result))
    assert all(row.sparsity == pytest.approx(0.5, abs=0.05) for row in result.layers)


def test_bias_correction_makes_the_mean_output_right(model: Network, batches: list[Tensor]) -> None:
    model.eval()
    wanted = torch.cat([model(batch) for batch in batches]).detach().mean(0)
    prune(model, batches, calibration="sequential", target="dense", bias_correction=True)
    got = torch.cat([model(batch) for batch in batches]).detach().mean(0)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_float64_solves_a_float32_model(model: Network, batches: list[Tensor]) -> None:
    result = prune(model, batches, precision="float64")
    assert model.head.weight.dtype == torch.float32
    assert result.masks["head"].sum() == 32


def test_weights_that_are_not_finite_are_refused_by_layer() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    with torch.no_grad():
        model[1].weight[0, 0] = float("inf")
    with pytest.raises(UserError, match="weight of layer '1'"):
        prune(model, [torch.randn(5, 8)])


def test_rank_deficient_hessian_is_flagged() -> None:
    model = nn.Linear(64, 8)
    result = prune(model, [torch.randn(10, 64)], method="sparsegpt")
    assert result.layers[0].notes == "rank-deficient: 10 samples for 64 columns"
    assert model.weight.isfinite().all()


def test_every_variant_of_the_ablation_improves_on_magnitude(
    model: Network, batches: list[Tensor]
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "magnitude": {"method": "magnitude"},
        "magnitude, refit": {"method": "magnitude", "refit": True},
        "sparsegpt": {},
        "joint": {"selection": "joint"},
        "refit": {"refit": True},
        "joint, refit": {"selection": "joint", "refit": True},
        "importance, refit": {"column_order": "importance", "refit": True},
        "exact_obs": {"method": "exact_obs"},
        "admm": {"method": "admm"},
    }
    errors = {}
    plain: dict[str, Any] = {"method": "sparsegpt", "calibration": "independent", "refit": False}
    for name, options in settings.items():
        chosen = {"include": ["shared"], **plain, **options}
        result = prune(copy.deepcopy(model), batches, **chosen)
        errors[name] = result.layers[1].relative_error or 0.0
    best_without_change = errors.pop("magnitude")
    assert max(errors.values()) < best_without_change
    assert errors["refit"] < errors["sparsegpt"]
    assert errors["joint, refit"] < errors["joint"]
    assert errors["admm"] <= errors["refit"]


def test_what_is_not_said_is_what_serves_the_method_best(
    model: Network, batches: list[Tensor]
) -> None:
    best: dict[str, Any] = {"calibration": "sequential", "target": "dense", "refit": True}
    plain: dict[str, Any] = {"calibration": "independent", "target": "own", "refit": False}
    for method, said, expected in (
        ("sparsegpt", {}, best),
        ("admm", {}, best),
        ("sparsegpt", {"calibration": "independent"}, plain | {"refit": True}),
        ("sparsegpt", {"target": "own"}, best | {"target": "own"}),
        ("magnitude", {}, plain),
        ("wanda", {"calibration": "sequential"}, plain | {"calibration": "sequential"}),
    ):
        one, other = copy.deepcopy(model), copy.deepcopy(model)
        prune(one, batches, method=method, **said)
        prune(other, batches, method=method, **expected)
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])


def test_include_restricts(model: Network, batches: list[Tensor]) -> None:
    assert list(prune(model, batches, include=["head"]).masks) == ["head"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "sparsegtp"}, "unknown method 'sparsegtp'"),
        ({"method": "magnitude", "block_size": 4}, "no option 'block_size': it takes none"),
        (
            {"method": "sparsegpt", "blocksize": 4},
            "'sparsegpt' has no option 'blocksize': it takes .*block_size",
        ),
        ({"pattern": "4:2"}, "pattern '4:2'"),
        ({"layout": "rows"}, "unknown layout 'rows'"),
        ({"damping": -1}, "damping must not be negative"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"coverage": "most"}, "unknown coverage 'most'"),
        ({"include": ["heat"]}, "include='heat' matches no layer"),
        ({"exclude": ["heat"]}, "exclude='heat' matches no"),
    ],
)
def test_mistakes_are_explained(
    model: Network, batches: list[Tensor], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prune(model, batches, **settings)


def test_no_batches(model: Network) -> None:
    with pytest.raises(UserError, match="at least one"):
        prune(model, [])


def test_package_exports() -> None:
    assert sparsecnn.prune is prune
    assert sparsecnn.PruningResult is PruningResult


def test_defaults_of_prune_are_those_that_a_study_is_checked_with() -> None:
    shown = inspect.signature(prune).parameters
    for name, parameter in inspect.signature(read_settings).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert shown[name].default == parameter.default, name
