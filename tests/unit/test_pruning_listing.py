"""What is listed of a network, under which names, and what shares its memory with what."""

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.pruning import PruningResult, prune


class Net(nn.Module):
    """Layers registered against the order of the data; an auxiliary head that only trains."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.aux = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Flatten(), nn.LazyLinear(4))
        self.block1 = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.block10 = nn.Conv2d(8, 8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.ConvTranspose2d(8, 8, 1)
        self.stem = nn.Conv2d(4, 8, 3)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.block10(self.block1(self.stem(x) * self.scale)))
        if self.training:
            self.aux(x)
        tokens = x.flatten(2).mT
        return cast(Tensor, self.head(self.attention(tokens, tokens, tokens)[0].mean(1)))


IN_ORDER = [
    *("stem", "scale", "block1.0", "block1.2", "block10", "up"),
    *("attention.in_proj_weight", "attention.out_proj", "head", "aux.0", "aux.2"),
]


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    net = Net()
    net(torch.randn(2, 4, 8, 8))
    return net.eval()


@pytest.fixture
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(6, 4, 8, 8) for _ in range(2)]


def names(result: PruningResult, status: str | None = None) -> list[str]:
    return [
        row.layer if row.tensor == "weight" else f"{row.layer}.{row.tensor}".lstrip(".")
        for row in result.layers
        if status in (None, row.status)
    ]


def reasons(result: PruningResult) -> dict[str, str]:
    return dict(zip(names(result), (row.reason for row in result.layers), strict=True))


def tensors(model: nn.Module) -> dict[str, Tensor]:
    every = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    return {name: value.detach().clone() for name, value in every.items()}


def check_whole(model: nn.Module, result: PruningResult) -> None:
    """Every weight is listed once, and the numbers are those of the weights themselves."""
    weights = {name: p for name, p in model.named_parameters() if p.dim() >= 2}
    listed = [f"{row.layer}.{row.tensor}".lstrip(".") for row in result.layers]
    assert sorted(listed) == sorted(weights)
    assert sum(row.share for row in result.layers) == pytest.approx(1)
    zeros = {name: int((value == 0).sum()) for name, value in weights.items()}
    total = sum(value.numel() for value in weights.values())
    assert result.sparsity == pytest.approx(sum(zeros.values()) / total)
    for name, row in zip(listed, result.layers, strict=True):
        assert row.weights == weights[name].numel()
        assert row.sparsity == pytest.approx(zeros[name] / row.weights)
        assert (row.status == "dense") == bool(row.reason)
    assert sorted(result.masks) == sorted(names(result, "pruned"))


def only_these_changed(
    model: nn.Module, before: dict[str, Tensor], changed: set[str], *, exact: bool = True
) -> None:
    now = {name for name, value in tensors(model).items() if not torch.equal(value, before[name])}
    assert now == changed if exact else now <= changed


def test_every_weight_is_listed_once_in_the_order_of_the_data(
    model: Net, batches: list[Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    before = tensors(model)
    with caplog.at_level(logging.WARNING):
        result = prune(model, batches)
    assert names(result) == IN_ORDER
    assert names(result, "dense") == ["scale", "up", "aux.0", "aux.2"]
    check_whole(model, result)
    pruned = [r for r in result.layers if r.status == "pruned"]
    only_these_changed(model, before, {f"{row.layer}.{row.tensor}" for row in pruned})
    (warning,) = caplog.messages
    assert warning == (
        "weights that the first calibration batch did not reach stay dense (2): aux.0, aux.2"
    )
    assert [(row.kind, row.kernel) for row in result.layers[:2]] == [("conv2d", "3x3"), ("net", "")]


@pytest.mark.parametrize(
    ("chosen", "pruned"),
    [
        ({"include": "head"}, ["head"]),
        ({"include": ["block1"]}, ["block1.0", "block1.2"]),
        ({"include": ["block*"]}, ["block1.0", "block1.2", "block10"]),
        ({"include": ["*"]}, [n for n in IN_ORDER if n[:3] not in ("sca", "up", "aux")]),
        ({"include": "attention"}, ["attention.in_proj_weight", "attention.out_proj"]),
        ({"include": "attention.in_proj_weight"}, ["attention.in_proj_weight"]),
        ({"include": "attention", "exclude": "attention.in*"}, ["attention.out_proj"]),
        ({"include": ["stem", "up"], "exclude": "up"}, None),
        ({"include": ["block1", "head"], "exclude": ["block1"]}, ["head"]),
        ({"include": ["b*"], "exclude": "block1"}, ["block10"]),
        ({"exclude": ["block1", "attention", "head"]}, ["stem", "block10"]),
        ({"exclude": "*"}, []),
        ({"include": "head", "exclude": "aux"}, ["head"]),
        ({"include": "head", "exclude": "up"}, ["head"]),
        ({"include": "head", "exclude": "block1.1"}, ["head"]),
    ],
)
def test_layers_are_chosen_by_names(
    model: Net, batches: list[Tensor], chosen: dict[str, Any], pruned: list[str] | None
) -> None:
    if pruned is None:
        with pytest.raises(UserError, match=r"include='up': .* cannot be pruned"):
            prune(model, batches, **chosen)
        return
    before = tensors(model)
    result = prune(model, batches, **chosen)
    assert names(result, "pruned") == [n for n in pruned if n not in ("up", "scale")]
    assert names(result) == IN_ORDER
    check_whole(model, result)
    rows = [r for r in result.layers if r.status == "pruned"]
    only_these_changed(model, before, {f"{row.layer}.{row.tensor}" for row in rows})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"include": "aux"}, "include='aux': .*'aux.0' .*first calibration batch did not reach it"),
        ({"include": ["head", "aux.2"]}, "include='aux.2': .*did not reach it"),
        ({"include": "up"}, "include='up': .*ConvTranspose2d uses it in .*conv_transpose2d"),
        ({"include": "scale"}, "include='scale': .*'scale' cannot be pruned: Net uses it in"),
        ({"include": "norm"}, "include='norm' matches no layer: the layers are scale, head, "),
        ({"exclude": "norm"}, "exclude='norm' matches no module"),
        ({"exclude": ["head", "block2"]}, "exclude='block2' matches no module"),
        ({"exclude": "bloc"}, "exclude='bloc' matches no module"),
    ],
)
def test_names_that_cannot_be_meant(
    model: Net, batches: list[Tensor], chosen: dict[str, Any], message: str
) -> None:
    before = tensors(model)
    with pytest.raises(UserError, match=message):
        prune(model, batches, **chosen)
    only_these_changed(model, before, set())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (nn.ReLU, "no .*layer to prune"),
        (lambda: nn.BatchNorm2d(4), "no .*layer to prune"),
        (lambda: nn.ConvTranspose2d(4, 4, 1), "the model: ConvTranspose2d uses it in"),
        (
            lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 1), nn.ReLU()),
            "0: ConvTranspose2d uses it in",
        ),
    ],
)
def test_model_with_nothing_to_prune(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prune(build(), [torch.randn(2, 4, 8, 8)])


# Weights that are in two places.


class Tied(nn.Module):
    """Tokens in, scores of tokens out, by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.middle = nn.Embedding(8, 8), nn.Linear(8, 8)
        self.scores = nn.Linear(8, 8, bias=False)
        self.scores.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.scores(self.middle(self.tokens((x > 0).long()))))


def chain(count: int = 3) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(count)))


def twice_one_parameter() -> nn.Module:
    model = chain()
    model[2].weight = model[0].weight
    return model


def two_views(first: slice, second: slice) -> nn.Module:
    """The weights of two layers are cut from one buffer that is not registered."""
    model, flat = chain(), torch.randn(128)
    model[0].weight = nn.Parameter(flat[first].view(8, 8))
    model[2].weight = nn.Parameter(flat[second].view(8, 8))
    return model


def bias_in_a_weight() -> nn.Module:
    model = chain()
    model[2].bias = nn.Parameter(model[0].weight.detach()[0])
    return model


def weight_in_a_buffer(*, view: bool) -> nn.Module:
    model = chain()
    kept = model[0].weight.detach()
    model[2].register_buffer("kept", kept[:2] if view else model[0].weight)
    return model


def one_module_twice() -> nn.Module:
    model = chain()
    model[2] = model[0]
    return model


def under_two_names() -> nn.Module:
    model = chain()
    model.add_module("alias", nn.Identity())
    model[1].inner = model[0]  # type: ignore[assignment]
    return model


SHARED = [
    pytest.param(Tied, ["middle"], {"tokens": "it is also scores.weight"}, id="embedding"),
    pytest.param(twice_one_parameter, ["1"], {"0": "it is also 2.weight"}, id="parameter"),
    pytest.param(lambda: two_views(slice(64), slice(64, 128)), ["0", "1", "2"], {}, id="flat"),
    pytest.param(
        lambda: two_views(slice(64), slice(63, 127)),
        ["1"],
        {"0": "it shares memory with 2.weight", "2": "it shares memory with 0.weight"},
        id="overlap",
    ),
    pytest.param(
        bias_in_a_weight, ["1", "2"], {"0": "it shares memory with 2.bias"}, id="bias-in-weight"
    ),
    pytest.param(
        lambda: weight_in_a_buffer(view=False), ["1", "2"], {"0": "it is also 2.kept"}, id="buffer"
    ),
    pytest.param(
        lambda: weight_in_a_buffer(view=True),
        ["1", "2"],
        {"0": "it shares memory with 2.kept"},
        id="view-in-buffer",
    ),
    pytest.param(one_module_twice, ["0", "1"], {}, id="used-twice"),
    pytest.param(under_two_names, ["0", "1", "2"], {}, id="two-names"),
]


@pytest.mark.parametrize("calibration", ["independent", "sequential"])
@pytest.mark.parametrize(("build", "pruned", "dense"), SHARED)
def test_weight_in_two_places(
    build: Callable[[], nn.Module], pruned: list[str], dense: dict[str, str], calibration: str
) -> None:
    torch.manual_seed(0)
    model = build()
    before = tensors(model)
    result = prune(model, [torch.randn(16, 8) for _ in range(2)], calibration=calibration)
    assert sorted(result.masks) == sorted(pruned)
    assert {name: reason for name, reason in reasons(result).items() if reason} == dense
    check_whole(model, result)
    changed = {f"{name}.weight" for name in pruned}
    if build is one_module_twice:
        changed.add("2.weight")
    if build is under_two_names:
        changed.add("1.inner.weight")
    only_these_changed(model, before, changed)
    assert all(row.sparsity == 0.5 for row in result.layers if row.status == "pruned")


def test_both_names_of_a_shared_weight_stand_for_it() -> None:
    for name in ("0", "2.weight"):
        with pytest.raises(UserError, match=r"it is also 2\.weight"):
            prune(twice_one_parameter(), [torch.randn(16, 8)], include=name)
    model = under_two_names()
    assert list(prune(model, [torch.randn(16, 8)], include="0").masks) == ["0"]


def tied_biases() -> nn.Sequential:
    model = chain()
    model[2].bias = model[0].bias
    return model


def overlapping_biases() -> nn.Sequential:
    model, flat = chain(), torch.randn(12)
    model[0].bias, model[2].bias = nn.Parameter(flat[:8]), nn.Parameter(flat[4:])
    return model


class BiasRead(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, super().forward(x) + self[0].bias + self[2].bias.mean())


@pytest.mark.parametrize(
    "build",
    [tied_biases, overlapping_biases, lambda: BiasRead(*chain())],
    ids=["tied", "overlapping", "read"],
)
def test_bias_that_something_else_uses_is_not_corrected(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    before = tensors(model)
    batches = [1 + torch.randn(16, 8) for _ in range(2)]
    result = prune(model, batches, bias_correction=True)
    only_these_changed(model, before, {"0.weight", "1.weight", "1.bias", "2.weight"})
    uncorrected = [row.layer for row in result.layers if "no bias of its own" in row.notes]
    assert uncorrected == ["0", "2"]


# Any network.


class Drawn(nn.Module):
    """A network of drawn blocks, whose layers are called in another order than they are made."""

    def __init__(self, kinds: list[str], again: bool, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kinds, self.again = kinds, again
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(8, 4)
        made: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(8, 8, 3, padding=1),
            "strided": lambda: nn.Conv2d(8, 8, (3, 1), stride=(2, 1), padding=1),
            "grouped": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False),
            "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
            "batch norm": lambda: nn.BatchNorm2d(8),
            "group norm": lambda: nn.GroupNorm(2, 8),
            "residual": lambda: nn.Conv2d(8, 8, 3, padding="same", dilation=2),
            "concatenation": lambda: nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(2)),
            "rows": lambda: nn.Conv1d(8, 8, 3, padding=1),
            "transposed": lambda: nn.ConvTranspose2d(8, 8, 1),
            "pixels": lambda: nn.Linear(8, 8),
        }
        self.blocks = nn.ModuleList(made[kind]() for kind in reversed(kinds))
        self.stem = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for kind, block in zip(self.kinds, list(self.blocks)[::-1], strict=True):
            for _ in range(2 if self.again else 1):
                x = self._through(kind, block, x).relu()
        return cast(Tensor, self.head(x.mean((2, 3))))

    def _through(self, kind: str, block: Any, x: Tensor) -> Tensor:
        if kind == "residual":
            return x + cast(Tensor, block(x))
        if kind == "concatenation":
            return torch.cat([branch(x) for branch in reversed(block)], 1)
        if kind == "rows":
            return cast(Tensor, block(x.flatten(2)).view_as(x))
        if kind == "pixels":
            return cast(Tensor, block(x.movedim(1, -1)).movedim(-1, 1))
        return cast(Tensor, block(x))


KINDS = [
    *("conv", "strided", "grouped", "depthwise", "batch norm", "group norm", "residual"),
    *("concatenation", "rows", "transposed", "pixels"),
]


def most_kept(weight: Tensor, layout: str) -> int:
    """The most weights that a group of four has."""
    if layout == "channels":
        return int((weight != 0).unflatten(1, (-1, 4)).sum(2).max())
    rows = (weight != 0).flatten(1)
    return int(rows[:, : rows.shape[1] // 4 * 4].unflatten(1, (-1, 4)).sum(2).max())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    again=st.booleans(),
    seed=st.integers(0, 99),
    method=st.sampled_from(["magnitude", "wanda", "sparsegpt"]),
    calibration=st.sampled_from(["independent", "sequential"]),
    layout=st.sampled_from(["channels", "flattened"]),
    corrected=st.booleans(),
)
def test_any_network_is_pruned_and_nothing_else_in_it_changes(
    kinds: list[str],
    again: bool,
    seed: int,
    method: str,
    calibration: str,
    layout: str,
    corrected: bool,
) -> None:
    model = Drawn(kinds, again, seed).train()
    before = tensors(model)
    batches = [torch.randn(n, 3, 9, 7) for n in (3, 5)]
    result = prune(
        model,
        batches,
        method=method,
        calibration=calibration,
        layout=layout,
        bias_correction=corrected,
    )
    check_whole(model, result)
    changed = {f"{row.layer}.weight" for row in result.layers if row.status == "pruned"}
    biases = {name.replace("weight", "bias") for name in changed} if corrected else set()
    only_these_changed(model, before, changed | biases, exact=False)
    for row in result.layers:
        weight = model.get_submodule(row.layer).get_parameter("weight")
        groups, channels = row.groups, weight.shape[1]
        if row.status == "pruned":
            assert most_kept(weight, layout) <= 2
            assert not weight[~result.masks[row.layer]].any()
            assert row.relative_error is not None
        elif row.layer != "unused" and "Transpose" not in row.reason:
            assert layout == "channels" or row.weights // row.out_channels < 4
            assert row.reason.startswith(f"{channels} ") or groups == 8
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()
    assert not torch.overrides._get_current_function_mode_stack()
    assert all(p.requires_grad for p in model.parameters())
