import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm_warning

from sparsecnn.errors import UserError
from sparsecnn.models.reparametrized import Computed, plain_weights


def old_weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    with pytest.warns(FutureWarning, match="deprecated"):
        return old_weight_norm_warning(module, name, dim)  # type: ignore[arg-type]


class Doubled(nn.Module):
    def forward(self, half: Tensor) -> Tensor:
        return half * 2

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / 2


class Flipped(nn.Module):
    """Given in two parts, one for each sign."""

    def forward(self, positive: Tensor, negative: Tensor) -> Tensor:
        return positive - negative

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight.clamp_min(0), -weight.clamp_max(0)


class Careless(Doubled):
    """Changes what it is given."""

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.div_(2)


class Symmetric(nn.Module):
    def forward(self, upper: Tensor) -> Tensor:
        return upper.triu() + upper.triu(1).T

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.triu()


class Positive(nn.Module):
    def forward(self, logarithm: Tensor) -> Tensor:
        return logarithm.exp()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.abs().clamp_min(1e-3).log()


class Masked(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.tril()


class LowRank(nn.Module):
    """The frozen weight and a change of low rank, as of adapters."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(1, columns))
        self.up = nn.Parameter(torch.randn(rows, 1))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight - self.up @ self.down


class Noisy(Doubled):
    def forward(self, half: Tensor) -> Tensor:
        return half * 2 + torch.randn_like(half)

    def right_inverse(self, weight: Tensor) -> Tensor:
        torch.rand(3)
        return weight / 2


def parametrized(module: nn.Module, *steps: nn.Module, tensor: str = "weight") -> nn.Module:
    for step in steps:
        parametrize.register_parametrization(module, tensor, step)
    return module


def with_bias_too(module: nn.Module) -> nn.Module:
    return parametrized(parametrizations.weight_norm(module), Doubled(), tensor="bias")


def bias_first(module: nn.Module) -> nn.Module:
    return parametrizations.weight_norm(parametrized(module, Doubled(), tensor="bias"))


def conv() -> nn.Module:
    return nn.Conv2d(4, 8, 3)


def grouped() -> nn.Module:
    return nn.Conv2d(8, 8, 3, groups=2)


def linear() -> nn.Module:
    return nn.Linear(8, 8)


Case = tuple[nn.Module, str, tuple[Tensor, ...]]
IMAGES, ROWS, INDICES = (2, 4, 6, 6), (3, 8), torch.tensor([[0, 3, 5]])

SETTABLE: dict[str, Callable[[], tuple[nn.Module, str, Any]]] = {
    "weight_norm": lambda: (parametrizations.weight_norm(conv()), "weight", IMAGES),
    "weight_norm dim=1": lambda: (parametrizations.weight_norm(conv(), dim=1), "weight", IMAGES),
    "weight_norm dim=-1": lambda: (parametrizations.weight_norm(conv(), dim=-1), "weight", IMAGES),
    "weight_norm dim=None": lambda: (
        parametrizations.weight_norm(linear(), dim=None),  # type: ignore[arg-type]
        "weight",
        ROWS,
    ),
    "weight_norm grouped": lambda: (
        parametrizations.weight_norm(grouped()),
        "weight",
        (2, 8, 6, 6),
    ),
    "weight_norm transposed": lambda: (
        parametrizations.weight_norm(nn.ConvTranspose2d(4, 8, 3)),
        "weight",
        IMAGES,
    ),
    "weight_norm embedding": lambda: (
        parametrizations.weight_norm(nn.Embedding(6, 8)),
        "weight",
        INDICES,
    ),
    "weight_norm attention": lambda: (
        parametrizations.weight_norm(nn.MultiheadAttention(8, 2), "in_proj_weight"),
        "in_proj_weight",
        (3, 2, 8),
    ),
    "weight_norm attention out": lambda: (
        parametrizations.weight_norm(nn.MultiheadAttention(8, 2).out_proj),
        "weight",
        ROWS,
    ),
    "weight_norm lstm": lambda: (
        parametrizations.weight_norm(nn.LSTM(8, 4), "weight_hh_l0"),
        "weight_hh_l0",
        ROWS,
    ),
    "weight_norm and bias": lambda: (with_bias_too(conv()), "weight", IMAGES),
    "bias and weight_norm": lambda: (bias_first(conv()), "weight", IMAGES),
    "doubled": lambda: (parametrized(conv(), Doubled()), "weight", IMAGES),
    "doubled twice": lambda: (parametrized(linear(), Doubled(), Doubled()), "weight", ROWS),
    "two parts, doubled": lambda: (parametrized(linear(), Flipped(), Doubled()), "weight", ROWS),
    "careless": lambda: (parametrized(linear(), Careless()), "weight", ROWS),
    "old weight_norm": lambda: (old_weight_norm(conv()), "weight", IMAGES),
    "old weight_norm dim=1": lambda: (old_weight_norm(conv(), dim=1), "weight", IMAGES),
    "old weight_norm dim=None": lambda: (old_weight_norm(linear(), dim=None), "weight", ROWS),
    "old weight_norm lstm": lambda: (
        old_weight_norm(nn.LSTM(8, 4), "weight_hh_l0"),
        "weight_hh_l0",
        ROWS,
    ),
    "old weight_norm attention": lambda: (
        old_weight_norm(nn.MultiheadAttention(8, 2), "in_proj_weight"),
        "in_proj_weight",
        (3, 2, 8),
    ),
}


def settable(name: str) -> Case:
    torch.manual_seed(0)
    module, tensor, shape = SETTABLE[name]()
    inputs = (shape if isinstance(shape, Tensor) else torch.randn(shape),)
    if isinstance(module, nn.MultiheadAttention):
        inputs = inputs * 3
    return module.eval(), tensor, inputs


def output(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        result = module(*inputs)
    found: Tensor = result[0] if isinstance(result, tuple) else result
    return found


def prune_inside(model: nn.Module, change: Callable[[], object]) -> None:
    with plain_weights(model), torch.no_grad():
        change()


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit, and in the same order."""
    return list(one) == list(other) and all(
        value.dtype == other[name].dtype
        and value.stride() == other[name].stride()
        and value.flatten().view(torch.uint8).equal(other[name].flatten().view(torch.uint8))
        for name, value in one.items()
    )


def structure(model: nn.Module) -> Any:
    """All that a model is but values of tensors."""
    found = []
    for name, module in model.named_modules():
        kind = type(module)
        attributes = [
            (key, value if isinstance(value, bool | int | str | None) else id(value))
            for key, value in vars(module).items()
            # An RNN notes there which tensors its last forward pass used.
            if not key.startswith("_flat_weight")
        ]
        tensors = [
            (key, id(value), value.requires_grad, value.device, value.data_ptr())
            for place in (module._parameters, module._buffers)
            for key, value in place.items()
            if value is not None
        ]
        hooks = [
            (key, id(hook))
            for place in (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks)
            for key, hook in place.items()
        ]
        properties = [(k, id(v)) for k, v in vars(kind).items() if isinstance(v, property)]
        children = [(key, id(child)) for key, child in module._modules.items()]
        found.append((name, id(kind), attributes, tensors, hooks, properties, children))
    return found


def pruned(weight: Tensor) -> Tensor:
    """Other values, half of them zero."""
    kept = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)).argsort(-1) % 2 == 0
    return (weight * 0.75 + 0.01) * kept


@pytest.mark.parametrize("name", SETTABLE)
def test_settable_weight_is_a_plain_parameter_inside(name: str) -> None:
    module, tensor, inputs = settable(name)
    expected = output(module, inputs)
    weight = getattr(module, tensor).detach().clone()
    with plain_weights(module) as (computed, _):
        assert computed == []
        plain = module._parameters[tensor]
        assert isinstance(plain, nn.Parameter)
        assert plain.requires_grad
        assert plain.is_leaf
        assert getattr(module, tensor) is plain
        assert same({"": plain.detach()}, {"": weight})
        assert torch.equal(output(module, inputs), expected)
        assert getattr(module, tensor) is plain
        with torch.no_grad():
            plain.mul_(2)
        assert not torch.equal(output(module, inputs), expected)
        plain.data = weight
        assert torch.equal(output(module, inputs), expected)


@pytest.mark.parametrize("name", SETTABLE)
@pytest.mark.parametrize("gradients", [True, False])
def test_nothing_happens_to_a_weight_that_nobody_changes(name: str, gradients: bool) -> None:
    module, tensor, inputs = settable(name)
    for parameter in module.parameters():
        parameter.requires_grad_(gradients)
    expected = output(module, inputs)
    before, built, drawn = values(module), structure(module), torch.get_rng_state()
    with plain_weights(module):
        assert getattr(module, tensor).requires_grad == gradients
        output(module, inputs)
    assert same(values(module), before)
    assert structure(module) == built
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(output(module, inputs), expected)


@pytest.mark.parametrize("name", SETTABLE)
def test_changed_weight_is_written_back(name: str) -> None:
    module, tensor, inputs = settable(name)
    attributes, drawn = list(vars(module)), torch.get_rng_state()
    built = structure_without_computed_attribute(module, tensor)
    keys = list(module.state_dict())
    wanted = pruned(getattr(module, tensor).detach())
    bias = values(module).get("bias")
    with plain_weights(module):
        with torch.no_grad():
            module._parameters[tensor].copy_(wanted)  # type: ignore[union-attr]
        expected = output(module, inputs)
    assert structure_without_computed_attribute(module, tensor) == built
    assert list(vars(module)) == attributes
    assert list(module.state_dict()) == keys
    assert torch.equal(torch.get_rng_state(), drawn)
    for _ in range(2):
        weight = getattr(module, tensor).detach()
        assert torch.equal(weight == 0, wanted == 0)
        torch.testing.assert_close(weight, wanted, rtol=1e-6, atol=0)
        torch.testing.assert_close(output(module, inputs), expected, rtol=1e-4, atol=1e-5)
    if bias is not None:
        assert torch.equal(module.bias, bias)
    loss = module.train()(*inputs)
    (loss[0] if isinstance(loss, tuple) else loss).sum().backward()
    assert any(parameter.grad is not None for parameter in module.parameters())


def structure_without_computed_attribute(module: nn.Module, tensor: str) -> Any:
    """The old weight_norm keeps the weight as an attribute, which each forward pass replaces."""
    return [
        (name, kind, [pair for pair in attributes if pair[0] != tensor], *rest)
        for name, kind, attributes, *rest in structure(module)
    ]


@pytest.mark.parametrize("name", SETTABLE)
def test_what_is_raised_inside_leaves_all_as_it_was(name: str) -> None:
    module, tensor, inputs = settable(name)
    expected = output(module, inputs)
    before, built = values(module), structure(module)

    def change() -> None:
        module._parameters[tensor].zero_()  # type: ignore[union-attr]
        output(module, inputs)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_inside(module, change)
    assert same(values(module), before)
    assert structure(module) == built
    assert torch.equal(output(module, inputs), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["weight_norm", "old weight_norm", "two parts, doubled"])
def test_precisions(name: str, dtype: torch.dtype) -> None:
    module, tensor, inputs = settable(name)
    module.to(dtype)
    inputs = tuple(part.to(dtype) for part in inputs)
    output(module, inputs)
    wanted = pruned(getattr(module, tensor).detach())
    assert wanted.dtype == dtype
    with plain_weights(module) as (computed, _), torch.no_grad():
        assert computed == []
        module._parameters[tensor].copy_(wanted)  # type: ignore[union-attr]
    weight = getattr(module, tensor).detach()
    assert {parameter.dtype for parameter in module.parameters()} == {dtype}
    assert torch.equal(weight == 0, wanted == 0)
    torch.testing.assert_close(weight, wanted, rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", [parametrizations.weight_norm, old_weight_norm])
def test_long_rows_are_written_back(kind: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    module = kind(nn.Conv2d(512, 16, 3, dtype=dtype)).eval()
    with plain_weights(module) as (computed, _), torch.no_grad():
        assert computed == []
        module.weight.copy_(pruned(module.weight))
        wanted = module.weight.clone()
    assert torch.equal(module.weight == 0, wanted == 0)


def test_memory_format_is_kept() -> None:
    module = parametrizations.weight_norm(conv()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    strides = module.parametrizations.weight.original1.stride()
    assert strides[1] == 1
    stride = module.weight.stride()
    with plain_weights(module), torch.no_grad():
        assert module.weight.stride() == stride
        module.weight.copy_(pruned(module.weight))
    assert module.parametrizations.weight.original1.stride() == strides


def seed_and(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


FIXED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "spectral_norm": (
        lambda: parametrizations.spectral_norm(conv()),
        "its weight is computed by SpectralNorm, which cannot give every weight",
    ),
    "orthogonal": (
        lambda: parametrizations.orthogonal(linear()),
        "its weight is computed by Orthogonal, which cannot give every weight",
    ),
    "orthogonal, wide": (
        lambda: parametrizations.orthogonal(nn.Linear(8, 4), orthogonal_map="householder"),
        "its weight is computed by Orthogonal, which cannot give every weight",
    ),
    "orthogonal without trivialization": (
        lambda: parametrizations.orthogonal(linear(), use_trivialization=False),
        "its weight is computed by Orthogonal, which cannot give every weight",
    ),
    "symmetric": (
        lambda: parametrized(nn.Linear(9, 9), Symmetric()),
        "its weight is computed by Symmetric, which cannot give every weight",
    ),
    "positive": (
        lambda: parametrized(linear(), Positive()),
        "its weight is computed by Positive, which cannot give every weight",
    ),
    "noisy": (
        lambda: parametrized(linear(), Noisy()),
        "its weight is computed by Noisy, which cannot give every weight",
    ),
    "adapter": (
        lambda: parametrized(linear(), LowRank(8, 8)),
        "its weight is computed by LowRank, which cannot give every weight",
    ),
    "without inverse": (
        lambda: parametrized(linear(), Masked()),
        "its weight is computed by Masked without a right_inverse to set it by",
    ),
    "stacked, one without inverse": (
        lambda: parametrized(linear(), Doubled(), Masked()),
        "its weight is computed by Doubled and Masked without a right_inverse to set it by",
    ),
    "one input": (
        lambda: parametrizations.weight_norm(nn.Linear(1, 8)),
        "its weight is computed by WeightNorm, which cannot give every weight",
    ),
    "old spectral_norm": (
        lambda: old_spectral_norm(conv()),
        "its weight is computed by SpectralNorm, which cannot give every weight",
    ),
    "masked": (
        lambda: prune.l1_unstructured(conv(), "weight", 0.5),
        "its weight is masked: call torch.nn.utils.prune.remove first",
    ),
    "masked twice": (
        lambda: prune.ln_structured(
            prune.l1_unstructured(conv(), "weight", 0.5), "weight", 0.25, n=2, dim=0
        ),
        "its weight is masked: call torch.nn.utils.prune.remove first",
    ),
    "old weight_norm of a masked direction": (
        lambda: prune.l1_unstructured(old_weight_norm(conv()), "weight_v", 0.5),
        "its weight is computed from computed tensors",
    ),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", FIXED)
def test_weight_that_cannot_be_set_is_named_and_untouched(name: str, training: bool) -> None:
    make, reason = FIXED[name]
    module = seed_and(make).train(training)
    before, built, drawn = values(module), structure(module), torch.get_rng_state()
    with plain_weights(module) as (computed, made_from):
        assert computed[0] == Computed(module, "weight", reason)
        assert "weight" not in module._parameters
        assert made_from >= {
            id(p) for key, p in module.named_parameters() if key not in ("bias", "weight_g")
        }
    assert same(values(module), before)
    assert structure(module) == built
    assert torch.equal(torch.get_rng_state(), drawn)


def test_biases_stay_as_they_are() -> None:
    module = prune.l1_unstructured(parametrized(linear(), Doubled(), tensor="bias"), "weight", 0.5)
    prune.remove(module, "weight")
    prune.identity(other := linear(), "bias")
    model = nn.Sequential(module, other).eval()
    built = structure(model)
    with plain_weights(model) as found:
        assert found == ([], set())
        assert structure(model) == built


def test_computed_buffers_stay_as_they_are() -> None:
    module = linear()
    module.register_buffer("codes", torch.ones(8, 8))
    parametrized(module, Doubled(), tensor="codes")
    with plain_weights(module) as found:
        assert found == ([], set())
        assert "codes" not in module._parameters


def test_parameters_that_weights_are_made_from() -> None:
    model = nn.Sequential(
        with_bias_too(conv()),
        old_weight_norm(linear()),
        parametrizations.spectral_norm(linear()),
        old_spectral_norm(linear()),
        prune.identity(linear(), "weight"),
        parametrized(linear(), LowRank(8, 8)),
        linear(),
    ).eval()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    with plain_weights(model) as (computed, made_from):
        assert [item.module for item in computed] == list(model[2:6])
        assert [names[key] for key in names if key in made_from] == [
            "0.parametrizations.weight.original0",
            "0.parametrizations.weight.original1",
            "1.weight_g",
            "1.weight_v",
            "2.parametrizations.weight.original",
            "3.weight_orig",
            "4.weight_orig",
            "5.parametrizations.weight.original",
            "5.parametrizations.weight.0.down",
            "5.parametrizations.weight.0.up",
        ]
        assert len(made_from) == 10
        assert id(model[0].weight) not in made_from


def test_two_weights_of_a_module() -> None:
    torch.manual_seed(0)
    module = nn.Bilinear(4, 5, 3)
    module.extra = nn.Parameter(torch.randn(4, 4))
    parametrizations.weight_norm(module)
    parametrized(module, Doubled(), tensor="extra")
    built = structure(module)
    with plain_weights(module), torch.no_grad():
        module.extra.fill_(3)
        module.weight.mul_(2)
        wanted = module.weight.clone()
        assert isinstance(module, nn.Bilinear)
    assert structure(module) == built
    assert torch.equal(module.extra, torch.full((4, 4), 3.0))
    torch.testing.assert_close(module.weight.detach(), wanted)


def test_module_that_is_registered_twice_is_one() -> None:
    layer = parametrizations.weight_norm(linear())
    model = nn.Sequential(layer, nn.ReLU(), layer).eval()
    with plain_weights(model) as (computed, made_from), torch.no_grad():
        assert computed == []
        assert len(made_from) == 2
        layer.weight.copy_(pruned(layer.weight))
        wanted = layer.weight.clone()
    torch.testing.assert_close(layer.weight.detach(), wanted)


def test_copy_of_a_module_outside_the_model_stays_computed() -> None:
    layer = parametrizations.weight_norm(linear())
    other = copy.deepcopy(layer)
    assert type(other) is type(layer)
    with plain_weights(layer), torch.no_grad():
        layer.weight.copy_(pruned(layer.weight))
        assert other.weight is not other.weight
    with plain_weights(nn.Sequential(layer, other)) as (computed, _):
        assert computed == []


def test_tensors_of_two_weights_are_not_written() -> None:
    first, second, third = (parametrizations.weight_norm(linear()) for _ in range(3))
    second.parametrizations.weight.original1 = first.parametrizations.weight.original1
    fourth = parametrizations.weight_norm(linear())
    fourth.parametrizations["weight"] = third.parametrizations["weight"]
    reason = "its weight is computed from tensors that are used elsewhere, too"
    model = nn.Sequential(first, second, third, fourth).eval()
    with plain_weights(model) as (computed, _):
        assert computed == [Computed(layer, "weight", reason) for layer in model]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (parametrizations.weight_norm, "torch.nn.utils.parametrize.remove_parametrizations"),
        (old_weight_norm, "torch.nn.utils.remove_weight_norm"),
    ],
)
def test_row_of_zeros_cannot_be_written(
    kind: Callable[[nn.Module], nn.Module], advice: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(linear()), kind(linear()), kind(linear())).eval()
    expected = model(torch.ones(8))
    before, built = values(model), structure(model)

    def change() -> None:
        for layer in model[:2]:
            layer.weight.copy_(pruned(layer.weight))
        model[1].weight[3] = 0

    with pytest.raises(UserError) as caught:
        prune_inside(model, change)
    assert str(caught.value) == (
        "layer '1' computes its weight by WeightNorm, which cannot give the pruned weight (a row "
        "of zeros, perhaps): leave it out with exclude=['1'], or make the weight a plain parameter "
        f"first ({advice})"
    )
    assert same(values(model), before)
    assert structure(model) == built
    assert torch.equal(model(torch.ones(8)), expected)


def test_inverse_that_fails_in_the_end() -> None:
    class Bounded(Doubled):
        def right_inverse(self, weight: Tensor) -> Tensor:
            if weight.abs().max() > 5:
                raise ValueError("too large")
            return weight / 2

    model = nn.Sequential(parametrizations.weight_norm(linear()), parametrized(linear(), Bounded()))
    before = values(model)

    def change() -> None:
        model[0].weight.mul_(2)
        model[1].weight.fill_(6)

    with pytest.raises(UserError, match="'1' computes its weight by Bounded, which cannot give"):
        prune_inside(model.eval(), change)
    assert same(values(model), before)


def test_full_memory_is_no_property_of_a_weight() -> None:
    class Hungry(Doubled):
        full = False

        def right_inverse(self, weight: Tensor) -> Tensor:
            if self.full:
                raise torch.OutOfMemoryError
            return weight / 2

    model = parametrized(linear(), Hungry())
    before = values(model)

    def change() -> None:
        model.weight.mul_(2)
        model.parametrizations.weight[0].full = True

    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            prune_inside(model, change)
        assert same(values(model), before)


def test_trial_leaves_no_trace_in_a_parametrization() -> None:
    class Remembering(Doubled):
        calls = 0

        def right_inverse(self, weight: Tensor) -> Tensor:
            self.calls += 1
            self.register_buffer("last", weight.detach().clone())
            return weight / 2

    model = nn.Linear(8, 8).eval()
    parametrize.register_parametrization(model, "weight", Remembering())
    before, built = values(model), structure(model)
    with plain_weights(model) as (computed, _):
        assert computed == []
    assert same(values(model), before)
    assert structure(model) == built


def test_weight_that_is_nan_already_is_left_alone() -> None:
    model = nn.Sequential(parametrizations.weight_norm(linear()), parametrized(linear(), Doubled()))
    with torch.no_grad():
        model[0].parametrizations.weight.original1[2] = 0
    before = values(model[0])
    with plain_weights(model.eval()), torch.no_grad():
        assert model[0].weight.isnan().any()
        model[1].weight.mul_(2)
    assert same(values(model[0]), before)


def test_cached_weights_are_not_out_of_date() -> None:
    model = parametrizations.weight_norm(linear()).eval()
    with parametrize.cached():
        output(model, (torch.ones(8),))
        with plain_weights(model), torch.no_grad():
            model.weight.copy_(pruned(model.weight))
            wanted = model.weight.clone()
            output(model, (torch.ones(8),))
        torch.testing.assert_close(model.weight.detach(), wanted)


def test_model_made_in_inference_mode() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        model = nn.Sequential(
            parametrizations.weight_norm(linear()),
            old_weight_norm(linear()),
            parametrizations.spectral_norm(linear()),
        ).eval()
    before = values(model)
    with plain_weights(model) as (computed, _):
        assert [item.module for item in computed] == [model[2]]
    assert same(values(model), before)
    with plain_weights(model), torch.no_grad():
        for layer in model[:2]:
            layer.weight.copy_(pruned(layer.weight))
        wanted = [layer.weight.clone() for layer in model[:2]]
    for layer, weight in zip(model, wanted, strict=False):
        torch.testing.assert_close(layer.weight.detach(), weight)
        assert torch.equal(layer.weight == 0, weight == 0)


def test_caller_in_inference_mode() -> None:
    model = parametrizations.weight_norm(linear()).eval()
    with torch.inference_mode(), plain_weights(model):
        model.weight.copy_(pruned(model.weight))
        wanted = model.weight.clone()
    torch.testing.assert_close(model.weight.detach(), wanted)
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_hooks_keep_their_order() -> None:
    called = []
    model = linear()
    model.register_forward_pre_hook(lambda *_: called.append("first"))
    old_weight_norm(model)
    model.register_forward_pre_hook(lambda *_: called.append("last"))
    hooks = list(model._forward_pre_hooks.items())
    with plain_weights(model), torch.no_grad():
        output(model, (torch.ones(8),))
        assert called == ["first", "last"]
        model.weight.copy_(pruned(model.weight))
    assert list(model._forward_pre_hooks.items()) == hooks


def test_old_weight_norm_shows_its_tensors_not_the_last_forward_pass() -> None:
    model = old_weight_norm(linear()).eval()
    with torch.no_grad():
        model.weight_g.mul_(3)
    stale = model.weight
    with plain_weights(model):
        plain = model.weight.detach().clone()
    assert model.weight is stale
    output(model, (torch.ones(8),))
    assert torch.equal(model.weight, plain)


def test_gradients_of_the_caller_are_not_switched() -> None:
    model = parametrizations.weight_norm(linear()).eval()
    with plain_weights(model):
        assert torch.is_grad_enabled()
    assert torch.is_grad_enabled()


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(2, 5), min_size=2, max_size=4),
    axis=st.integers(0, 4),
    old=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_weight_norm_of_any_shape(shape: list[int], axis: int, old: bool, seed: int) -> None:
    torch.manual_seed(seed)
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(shape))
    dim: Any = None if axis == 4 else axis % len(shape)
    with warnings.catch_warnings(action="ignore"):
        (old_weight_norm_warning if old else parametrizations.weight_norm)(module, "weight", dim)
    before, built = values(module), structure(module)
    with plain_weights(module) as (computed, _):
        assert computed == []
    assert same(values(module), before)
    assert structure(module) == built
    kept = torch.rand(shape) < 0.5
    kept.view(-1)[0] = True
    for axis_of_kept in range(len(shape)):
        rows = kept.movedim(axis_of_kept, 0)
        rows[:, *[0] * (len(shape) - 1)] = True
    wanted = torch.randn(shape) * kept
    with plain_weights(module), torch.no_grad():
        module.weight.data = wanted.clone()
    assert torch.equal(module.weight == 0, wanted == 0)
    torch.testing.assert_close(module.weight.detach(), wanted, rtol=1e-6, atol=0)
    assert [row[3:] for row in structure(module)] == [row[3:] for row in built]
