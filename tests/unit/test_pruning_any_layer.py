"""What a layer computes with its weight decides how it is pruned, not what its class is called."""

import copy
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.nn.utils import prune as torch_prune

from sparsecnn.errors import UserError
from sparsecnn.pruning import PruningResult, prune
from sparsecnn.pruning.result import LayerReport

pytestmark = pytest.mark.filterwarnings(
    "ignore:torch.quantize_per_tensor:UserWarning",
    "ignore:The PyTorch API of nested tensors is in prototype:UserWarning",
    "ignore:Using padding='same' with even kernel:UserWarning",
    "ignore:`torch.jit.script` is deprecated:FutureWarning",
)

Build = Callable[[Any], nn.Module]
"""Of a network around a plain layer."""


def row_of(result: PruningResult, name: str, tensor: str = "weight") -> LayerReport:
    return next(row for row in result.layers if (row.layer, row.tensor) == (name, tensor))


def as_a(kind: type, layer: nn.Module, **attributes: object) -> Any:
    """The layer as one of a subclass of its class."""
    layer.__class__ = kind
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


def having(layer: Any, **attributes: object) -> Any:
    return as_a(type(layer), layer, **attributes)


class Of(nn.Module):
    """A function of the layers given."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


# Layers that do more than their class says, and the same written plainly.


def norm() -> nn.BatchNorm2d:
    torch.manual_seed(3)
    made = nn.BatchNorm2d(8)
    for value in (made.running_mean, made.running_var, made.weight, made.bias):
        cast(Tensor, value).data.uniform_(0.3, 2)
    return made


class NormInside(nn.Conv2d):
    norm: nn.Module
    activation: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(super().forward(x)))


class Scaled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class Same(nn.Conv2d):
    """Pads by the size of its input."""

    def forward(self, x: Tensor) -> Tensor:
        high, wide = (
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, k, s in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        )
        x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class PadsFirst(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (2, 0, 1, 1)))


class Flattens(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


class Casts(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias)


class FormOnly(nn.Linear):
    """Looks at the weight's shape, dtype and device, whose values say nothing of it."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight).type_as(self.weight) + self.weight.new_zeros(1)
        x = x + torch.zeros_like(self.weight).sum() + self.weight.shape[0] - self.weight.size(0)
        return super().forward(x)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)


class Autograd(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, Product.apply(x, self.weight, self.bias))


def with_hook(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_hook(lambda _, args, output: output.tanh())
    return conv


def with_pre_hook(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_pre_hook(lambda _, args: (args[0].tanh(),))
    return conv


def patched(conv: nn.Conv2d) -> nn.Conv2d:
    original = conv.forward
    conv.forward = lambda x: original(x.tanh()).tanh()  # type: ignore[method-assign,assignment]
    return conv


def outside(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=1)


def traced(conv: nn.Conv2d) -> nn.Module:
    return torch.fx.symbolic_trace(nn.Sequential(conv, nn.Identity()))


def conv(**settings: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 8, 3, **settings)


def linear(**settings: Any) -> nn.Linear:
    return nn.Linear(16, 8, **settings)


IMAGES, ROWS, SIGNALS = (6, 4, 8, 8), (6, 4, 4), (6, 4, 8)
SAME: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], Build, Build]] = [
    (
        "norm-and-activation-inside",
        lambda: conv(padding=1, bias=False),
        IMAGES,
        lambda c: as_a(NormInside, c, norm=norm(), activation=F.silu),
        lambda c: nn.Sequential(c, norm(), nn.SiLU()),
    ),
    (
        "output-scaled",
        conv,
        IMAGES,
        lambda c: as_a(Scaled, c),
        lambda c: Of(lambda x, c: 3 * c(x), c),
    ),
    (
        "padding-by-input-size",
        lambda: conv(stride=2),
        IMAGES,
        lambda c: as_a(Same, c),
        lambda c: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), c),
    ),
    (
        "pads-first",
        conv,
        IMAGES,
        lambda c: as_a(PadsFirst, c),
        lambda c: nn.Sequential(nn.ZeroPad2d((2, 0, 1, 1)), c),
    ),
    (
        "circular",
        lambda: conv(padding=1, padding_mode="circular"),
        IMAGES,
        lambda c: c,
        lambda c: nn.Sequential(
            nn.CircularPad2d(1), having(c, padding_mode="zeros", padding=(0, 0))
        ),
    ),
    (
        "same-padding-of-an-even-kernel",
        lambda: nn.Conv2d(4, 8, (4, 2), padding="same"),
        IMAGES,
        lambda c: c,
        lambda c: nn.Sequential(nn.ZeroPad2d((0, 1, 1, 2)), having(c, padding="valid")),
    ),
    ("flattens-its-input", linear, ROWS, lambda c: as_a(Flattens, c), lambda c: Of(flat, c)),
    ("called-outside", lambda: conv(padding=1), IMAGES, lambda c: Of(outside, c), lambda c: c),
    (
        "pre-hook",
        conv,
        IMAGES,
        with_pre_hook,
        lambda c: nn.Sequential(nn.Tanh(), c),
    ),
    ("hook", conv, IMAGES, with_hook, lambda c: nn.Sequential(c, nn.Tanh())),
    ("patched", conv, IMAGES, patched, lambda c: nn.Sequential(nn.Tanh(), c, nn.Tanh())),
    ("casts-to-the-same", conv, IMAGES, lambda c: as_a(Casts, c), lambda c: c),
    (
        "form-only",
        linear,
        ROWS,
        lambda c: nn.Sequential(nn.Flatten(), as_a(FormOnly, c)),
        lambda c: nn.Sequential(nn.Flatten(), c),
    ),
    (
        "autograd-function",
        linear,
        ROWS,
        lambda c: nn.Sequential(nn.Flatten(), as_a(Autograd, c)),
        lambda c: nn.Sequential(nn.Flatten(), c),
    ),
    (
        "conv1d",
        lambda: nn.Conv1d(4, 8, 3, padding=1),
        SIGNALS,
        lambda c: c,
        lambda c: nn.Sequential(nn.Unflatten(-1, (1, -1)), as_2d(c), nn.Flatten(-2)),
    ),
    (
        "conv3d",
        lambda: nn.Conv3d(4, 8, (1, 3, 3), padding=(0, 1, 1)),
        (2, 4, 3, 6, 6),
        lambda c: c,
        lambda c: Of(by_slices, as_2d(c)),
    ),
    ("traced", conv, IMAGES, traced, lambda c: c),
]


def flat(x: Tensor, layer: nn.Module) -> Tensor:
    return cast(Tensor, layer(x.flatten(1)))


def as_2d(conv: nn.Conv1d | nn.Conv3d) -> nn.Conv2d:
    """The same for images of height 1 or each slice of a volume."""
    value = conv.weight.unsqueeze(2) if conv.weight.dim() == 3 else conv.weight.squeeze(2)
    padding = (0, 1) if conv.weight.dim() == 3 else (1, 1)
    made = nn.Conv2d(4, 8, cast(Any, tuple(value.shape[2:])), padding=padding)
    made.weight.data, made.bias = value.data.clone(), conv.bias
    return made


def by_slices(x: Tensor, conv: nn.Module) -> Tensor:
    n = len(x)
    return cast(Tensor, conv(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (n, -1)).transpose(1, 2))


def pruned_alike(odd: nn.Module, plain: nn.Module, batches: list[Any], **settings: Any) -> None:
    """Assert that two networks that are the same are pruned to the same."""
    first, second = prune(odd, batches, **settings), prune(plain, batches, **settings)
    assert first.masks
    for (name, mask), other in zip(first.masks.items(), second.masks.values(), strict=True):
        assert torch.equal(mask.flatten(1), other.flatten(1)), name
    for layer, other_layer in zip(
        (row for row in first.layers if row.status == "pruned"),
        (row for row in second.layers if row.status == "pruned"),
        strict=True,
    ):
        assert layer.relative_error == pytest.approx(other_layer.relative_error, rel=1e-3)
        assert layer.samples == other_layer.samples
        weight = odd.get_submodule(layer.layer).get_parameter(layer.tensor)
        assert layer.sparsity == ((weight == 0).sum() / weight.numel()).item()


@pytest.mark.parametrize(
    "settings",
    [
        {"bias_correction": True},
        {"method": "wanda", "pattern": "1:4"},
        {"method": "magnitude", "layout": "flattened"},
    ],
    ids=["sparsegpt", "wanda", "magnitude"],
)
@pytest.mark.parametrize(
    ("layer", "size", "odd", "plain"), [pytest.param(*case, id=name) for name, *case in SAME]
)
def test_layer_is_pruned_as_if_it_were_written_plainly(
    layer: Callable[[], nn.Module],
    size: tuple[int, ...],
    odd: Build,
    plain: Build,
    settings: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    made = layer()
    tail = nn.Sequential(nn.ReLU(), nn.Flatten())
    batches = [torch.randn(size) for _ in range(2)]
    networks = [
        nn.Sequential(build(copy.deepcopy(made)), copy.deepcopy(tail)).eval()
        for build in (odd, plain)
    ]
    before = [network(batches[0]) for network in networks]
    torch.testing.assert_close(*before)
    pruned_alike(*networks, batches, **settings)
    after = [network(batches[0]) for network in networks]
    torch.testing.assert_close(*after)
    assert not torch.allclose(after[0], before[0])


class Attention(nn.Module):
    """What `nn.MultiheadAttention` computes, with layers of its own."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.joint, self.out, self.heads = nn.Linear(size, 3 * size), nn.Linear(size, size), heads

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        by_head = self.joint(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        mask = None if hidden is None else ~hidden[:, None, None]
        out = F.scaled_dot_product_attention(*by_head, mask)
        return cast(Tensor, self.out(out.transpose(1, 2).flatten(2)))


class Encoder(nn.Module):
    """What `nn.TransformerEncoderLayer` computes."""

    def __init__(self, like: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.attention = plain_attention(like.self_attn)
        self.norms = nn.ModuleList([like.norm1, like.norm2])
        self.first, self.second = copy.deepcopy(like.linear1), copy.deepcopy(like.linear2)

    def forward(self, src: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        x = self.norms[0](src + self.attention(src, src_key_padding_mask))
        return cast(Tensor, self.norms[1](x + self.second(self.first(x).relu())))


def plain_attention(like: nn.MultiheadAttention) -> Attention:
    made = Attention(like.embed_dim, like.num_heads)
    with torch.no_grad():
        made.joint.weight.copy_(like.in_proj_weight)
        made.joint.bias.copy_(like.in_proj_bias.uniform_())
        made.out.load_state_dict(like.out_proj.state_dict())
    return made


def attention(**settings: Any) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(8, 2, batch_first=True, **settings)


def test_self_attention_is_pruned_as_if_it_were_written_plainly() -> None:
    torch.manual_seed(0)
    odd = attention().eval()
    plain = plain_attention(odd)
    batches = [torch.randn(3, 5, 8) for _ in range(2)]
    together = [{"query": x, "key": x, "value": x} for x in batches]
    whole = Of(lambda x, layer: layer(x, x, x)[0], odd)
    torch.testing.assert_close(whole(batches[0]), plain(batches[0]))
    pruned_alike(whole, plain, batches, precision="float64")
    torch.testing.assert_close(whole(batches[0]), plain(batches[0]))
    result = prune(attention(), together, method="magnitude")
    assert list(result.masks) == ["in_proj_weight", "out_proj"]


@pytest.mark.parametrize("padded", [False, True])
def test_transformer_is_pruned_as_if_it_were_written_plainly(padded: bool) -> None:
    torch.manual_seed(0)
    odd = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    plain = Encoder(odd).eval()
    batches: list[Any] = [{"src": torch.randn(3, 5, 8)} for _ in range(2)]
    for batch in batches if padded else []:
        batch["src_key_padding_mask"] = torch.arange(5).expand(3, 5) > 2
    torch.testing.assert_close(odd(**batches[0]), plain(**batches[0]))
    assert torch.backends.mha.get_fastpath_enabled()
    pruned_alike(odd, plain, batches, precision="float64")
    assert torch.backends.mha.get_fastpath_enabled()
    torch.testing.assert_close(odd(**batches[0]), plain(**batches[0]))


@pytest.mark.parametrize("nested", [False, True])
def test_transformer_encoder_is_pruned_whole(nested: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested).eval()
    mask = torch.arange(5).expand(3, 5) > 2
    result = prune(model, [{"src": torch.randn(3, 5, 8), "src_key_padding_mask": mask}])
    assert len(result.masks) == 8
    assert result.sparsity == 0.5


@pytest.mark.parametrize(
    ("settings", "pruned"),
    [
        pytest.param({}, ["out_proj"], id="joint"),
        pytest.param(
            {"kdim": 4, "vdim": 12},
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj"],
            id="apart",
        ),
    ],
)
def test_cross_attention(settings: dict[str, Any], pruned: list[str]) -> None:
    torch.manual_seed(0)
    model = attention(**settings)
    before = tensors(model)
    batch = {
        "query": torch.randn(3, 5, 8),
        "key": torch.randn(3, 6, settings.get("kdim", 8)),
        "value": torch.randn(3, 6, settings.get("vdim", 8)),
    }
    result = prune(model, [batch], bias_correction=True)
    assert list(result.masks) == pruned
    only_pruned_has_changed(model, before, result, {"out_proj.bias"})


def test_weight_norm_is_pruned_as_the_weight_it_computes() -> None:
    for normed in (parametrizations.weight_norm, weight_norm_by_hook):
        torch.manual_seed(0)
        made = nn.Conv2d(4, 8, 3)
        odd = nn.Sequential(normed(copy.deepcopy(made)), nn.ReLU(), nn.Flatten())
        plain = nn.Sequential(made, nn.ReLU(), nn.Flatten())
        made.weight.data = odd[0].weight.detach().clone()
        batches = [torch.randn(6, 4, 8, 8) for _ in range(2)]
        first, second = prune(odd, batches), prune(plain, batches)
        odd(batches[0])
        assert torch.equal(first.masks["0"], second.masks["0"])
        assert not odd[0].weight[~first.masks["0"]].any()
        torch.testing.assert_close(odd[0].weight, made.weight)
        assert [(row.layer, row.tensor) for row in first.layers] == [("0", "weight")]


def weight_norm_by_hook(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning):
        return weight_norm(layer)


# Layers whose weight is not simply multiplied with.


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        deviation = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, deviation / self.weight.std(), self.bias)


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x), F.normalize(self.weight))


class ScaledWeight(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 3)


class Quantized(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_tensor_affine(self.weight, 0.1, 0, -128, 127)
        return F.linear(x, weight, self.bias)


class Ternary(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.sign() * (self.weight.abs() > 0.1), self.bias)


class Matmul(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t() + self.bias


class Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.detach(), self.bias)


class Data(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.data, self.bias)


class Numpy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.from_numpy(self.weight.detach().numpy()), self.bias)


class Listed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x) + torch.tensor(self.weight.tolist()).sum()


class Chunked(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.linear(x, part) for part in self.weight.chunk(2)], -1)


class Penalised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.penalty = self.weight.norm()
        return super().forward(x)


class Changing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.9)
        return super().forward(x)


class ChangingData(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.detach().clamp(-0.1, 0.1)
        return super().forward(x)


class Einsum(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ni,oi->no", x, self.weight)


class Functional(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        parts = {"weight": self.weight * 2, "bias": self.bias}
        return cast(Tensor, torch.func.functional_call(nn.Linear(8, 8), parts, (x,)))


class Copied(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, copy.deepcopy(self).weight)


class Mapped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(super().forward)(x)


class MappedWeight(nn.Linear):
    """An ensemble of rows, and the layer as it is."""

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.func.vmap(lambda row: x @ row)(self.weight)
        return cast(Tensor, rows.T + super().forward(x))


class Both(nn.Linear):
    """Backwards, too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(super().forward(x), self.weight.T)


class Held(nn.Linear):
    """Its weight, turned, is kept as what nothing registers."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(super().forward(x), self.turned)


class SecondArgument(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.weight, x).T


class Derivative(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, torch.func.jvp(super().forward, (x,), (x,))[1])


class Compared(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if torch.equal(self.weight, self.weight) else x


def product(x: Tensor, weight: Tensor) -> Tensor:
    """A function that asks for overrides by a way of its own."""
    if torch.overrides.has_torch_function((x, weight)):
        return cast(Tensor, torch.overrides.handle_torch_function(product, (x, weight), x, weight))
    return F.linear(x, weight)


class Overridable(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, product(x, self.weight))


class Compiled(nn.Linear):
    """As it is, and in code that is not Python's."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, super().forward(x) + self.scripted(x, self.weight))


class SparseInputs(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.relu().to_sparse(), self.weight)


class NestedInputs(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        rows = torch.nested.nested_tensor([x[:3], x[3:]])
        return torch.cat(F.linear(rows, self.weight).unbind())


class Last(nn.Module):
    """The last output of a recurrent layer, of a sequence of length 1."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x)[0])


class Tokens(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer((x > 0).long())).flatten(1)[:, :8]


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x.to(torch.complex64)).real)


class Bilinear(nn.Bilinear):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x)


class Whole(nn.Linear):
    """Its weight is of whole numbers."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        del self.weight
        self.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)


class Sparse(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.weight = nn.Parameter(self.weight.detach().to_sparse_coo())

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.weight, x.T).T


class Plain(nn.Module):
    """The weight is an attribute that a hook computes before each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.source = self.layer._parameters.pop("weight")
        self.layer.weight = self.source * 2  # type: ignore[assignment,operator]
        self.layer.register_forward_pre_hook(self.renew)

    def renew(self, layer: Any, args: Any) -> None:
        layer.weight = self.source * 2  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x))


def linear_as(kind: type) -> nn.Module:
    return as_a(kind, nn.Linear(8, 8))


def held() -> nn.Module:
    layer = nn.Linear(8, 8)
    return as_a(Held, layer, turned=layer.weight.T)


def scripted_product(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.t()


def compiled() -> nn.Module:
    return as_a(Compiled, nn.Linear(8, 8), scripted=torch.jit.script(scripted_product))


def masked() -> nn.Module:
    return torch_prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5)


def scripted() -> nn.Module:
    return torch.jit.script(nn.Linear(8, 8))


def dynamic() -> nn.Module:
    layer = torch.ao.nn.quantized.dynamic.Linear(8, 8)
    layer.set_weight_bias(torch.quantize_per_tensor(torch.randn(8, 8), 0.1, 0, torch.qint8), None)
    return cast(nn.Module, layer)


def spectral() -> nn.Module:
    return spectral_norm(nn.Linear(8, 8))


READS = "uses it in"
DENSE: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("weight scaled", lambda: linear_as(ScaledWeight), f"ScaledWeight {READS}"),
    (
        "standardised",
        lambda: on_pixels(as_a(Standardised, nn.Conv2d(8, 8, 1))),
        f"Standardised {READS} .*mean",
    ),
    ("normalised", lambda: linear_as(Cosine), f"Cosine {READS} .*norm"),
    ("fake-quantised", lambda: linear_as(Quantized), f"Quantized {READS} .*fake_quantize"),
    ("ternary", lambda: linear_as(Ternary), f"Ternary {READS} .*sign"),
    ("matmul", lambda: linear_as(Matmul), f"Matmul {READS} .*t"),
    ("detached", lambda: linear_as(Detached), f"Detached {READS} .*detach"),
    ("data", lambda: linear_as(Data), f"Data {READS} .*data"),
    ("numpy", lambda: linear_as(Numpy), f"Numpy {READS} .*detach"),
    ("listed", lambda: linear_as(Listed), "Listed also uses it in Tensor.tolist"),
    ("chunked", lambda: linear_as(Chunked), f"Chunked {READS} .*chunk"),
    ("penalised", lambda: linear_as(Penalised), "Penalised also uses it in .*norm"),
    ("changing", lambda: linear_as(Changing), "the model changes it in its forward pass"),
    ("changing data", lambda: linear_as(ChangingData), "the model changes it in its forward"),
    ("einsum", lambda: linear_as(Einsum), f"Einsum {READS} .*einsum"),
    ("functional_call", lambda: linear_as(Functional), f"Functional {READS} .*mul"),
    ("copied", lambda: linear_as(Copied), f"Copied {READS} .*data"),
    (
        "mapped",
        lambda: linear_as(Mapped),
        f"Mapped {READS}.*linear with inputs that torch.func transforms",
    ),
    (
        "mapped weight",
        lambda: linear_as(MappedWeight),
        "MappedWeight also uses it in .*of a view of it",
    ),
    (
        "derivative",
        lambda: linear_as(Derivative),
        f"Derivative {READS}.*linear with inputs that torch.func transforms",
    ),
    ("both ways", lambda: linear_as(Both), "Both also uses it in Tensor.T"),
    ("held", held, "Held also uses it in nn.functional.linear of a view of it, which would change"),
    ("second argument", lambda: linear_as(SecondArgument), f"SecondArgument {READS}"),
    ("compared", lambda: linear_as(Compared), "Compared also uses it in equal"),
    ("overridable", lambda: linear_as(Overridable), f"Overridable {READS} .*product"),
    ("compiled", compiled, "Compiled also uses it in aten.* in compiled code"),
    ("sparse inputs", lambda: linear_as(SparseInputs), "linear with sparse_coo inputs"),
    ("nested inputs", lambda: linear_as(NestedInputs), "linear with a nested or wrapped Tensor"),
    ("bilinear", lambda: as_a(Bilinear, nn.Bilinear(8, 8, 8)), "Bilinear uses it in .*bilinear"),
    (
        "transposed",
        lambda: on_pixels(nn.ConvTranspose2d(8, 8, 1)),
        "ConvTranspose2d uses it in .*conv_transpose2d",
    ),
    ("embedding", lambda: Tokens(nn.Embedding(2, 1)), "Embedding uses it in embedding"),
    ("bag", lambda: Tokens(nn.EmbeddingBag(2, 8)), "EmbeddingBag uses it in embedding_bag"),
    ("lstm", lambda: Last(nn.LSTM(8, 8)), "LSTM uses it in lstm"),
    ("gru", lambda: Last(nn.GRU(8, 8)), "GRU uses it in gru"),
    ("rnn", lambda: Last(nn.RNN(8, 8)), "RNN uses it in rnn_tanh"),
    ("cell", lambda: Last(nn.LSTMCell(8, 8)), "LSTMCell uses it in lstm_cell"),
    ("positions", Positions, "Positions uses it in Tensor.add"),
    ("complex", Complex, "it is complex64, not a floating-point number"),
    ("integers", Whole, "it is int8, not a floating-point number"),
    ("sparse", Sparse, "it is stored as sparse_coo"),
    ("quantized", dynamic, "it is quantized"),
    ("scripted", scripted, "it is part of a ScriptModule"),
    ("spectral norm", spectral, "computed by SpectralNorm, which cannot give every weight"),
    ("orthogonal", lambda: parametrizations.orthogonal(nn.Linear(8, 8)), "computed by Orthogonal"),
    ("masked", masked, "its weight is masked: call torch.nn.utils.prune.remove first"),
    ("recomputed", Plain, "Plain uses it in Tensor.mul"),
]


def on_pixels(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (8, 1, 1)), layer, nn.Flatten(1))


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors of a model."""
    found = {**model.state_dict(), **dict(model.named_buffers())}
    return {k: value.clone() for k, value in found.items() if isinstance(value, Tensor)}


def same_bits(one: Tensor, other: Tensor) -> bool:
    if one.layout != torch.strided:
        one, other = one.to_dense(), other.to_dense()
    return torch.equal(one, other)


def only_pruned_has_changed(
    model: nn.Module, before: dict[str, Tensor], result: PruningResult, also: set[str] = frozenset()
) -> None:
    pruned = {f"{r.layer}.{r.tensor}".lstrip(".") for r in result.layers if r.status == "pruned"}
    now = tensors(model)
    assert now.keys() == before.keys()
    for name, value in now.items():
        assert same_bits(value, before[name]) != (name in pruned | also), name
    for row in result.layers:
        if row.status == "pruned":
            weight = now[f"{row.layer}.{row.tensor}".lstrip(".")]
            assert row.sparsity == ((weight == 0).sum() / weight.numel()).item() == 0.5


@pytest.mark.parametrize(("build", "reason"), [pytest.param(*case, id=n) for n, *case in DENSE])
def test_weight_that_is_not_simply_multiplied_with_stays_dense(
    build: Callable[[], nn.Module], reason: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), build(), nn.Linear(8, 4)).eval()
    batches = [torch.randn(16, 8) for _ in range(2)]
    before = tensors(model)
    result = prune(model, batches)
    assert list(result.masks) == ["0", "3"]
    by_itself = {"2.weight"} if "changes it" in reason else set()
    only_pruned_has_changed(model, before, result, by_itself)
    dense = [row for row in result.layers if row.status == "dense"]
    assert dense
    for row in dense:
        assert re.search(reason, row.reason), row.reason
    with pytest.raises(UserError, match=rf"include='2.*cannot be pruned: .*{reason}"):
        prune(model, batches, include=[dense[0].layer])
    only_pruned_has_changed(model, before, result, by_itself)


def test_batch_that_uses_a_weight_otherwise_is_refused() -> None:
    class Sometimes(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if len(x) > 8 else x @ self.weight.t()

    model = nn.Sequential(nn.Linear(8, 8), as_a(Sometimes, nn.Linear(8, 8)))
    before = tensors(model)
    for calibration in ("independent", "sequential"):
        with pytest.raises(UserError, match=r"layer '1': a batch uses its weight in Tensor\.t"):
            prune(model, [torch.randn(16, 8), torch.randn(4, 8)], calibration=calibration)
        assert all(torch.equal(value, before[name]) for name, value in tensors(model).items())
