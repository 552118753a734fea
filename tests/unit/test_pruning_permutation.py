"""Channels in another order: the same outputs, on any network, and more that is kept."""

import threading
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn import prune
from sparsecnn.errors import UserError
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning import permute_channels
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.permutation import search
from sparsecnn.pruning.permutation.search import best_order, kept
from sparsecnn.pruning.permutation.streams import Place, Streams
from sparsecnn.pruning.permutation.trace import trace

TWO_OF_FOUR = NM(2, 4)


def awake(model: nn.Module) -> nn.Module:
    """With random batch norms and biases, so that mistaking one for another shows."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm):
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                if value.dim():
                    random = torch.rand(value.shape, generator=generator)
                    value.data.copy_(random + (0.0 if name in ("bias", "running_mean") else 0.5))
    return model.eval()


@torch.no_grad()
def shuffled(model: nn.Module, images: Tensor) -> Streams:
    """Permute every stream at random; the outputs stay the same."""
    before = model(images)
    streams = trace(model, lambda: model(images))
    generator = torch.Generator().manual_seed(0)
    for stream in streams.found:
        stream.permute(torch.randperm(stream.channels, generator=generator))
    after = model(images)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    return streams


def read_by(streams: Streams) -> dict[str, int]:
    """Of each weight, how many of its input channels may change places."""
    found: dict[str, int] = {}
    for stream in streams.found:
        for place in stream.places:
            if place.reads:
                found[place.name] = found.get(place.name, 0) + place.positions.size
    return found


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet18"])
def test_every_layer_but_the_first_of_our_networks_reads_a_stream(name):
    model = awake(build(Architecture(name, 0.25, 10, 32)))
    streams = shuffled(model, torch.randn(2, 3, 32, 32))
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    first = next(iter(weights))
    assert read_by(streams) == {name: len(p[0]) for name, p in weights.items() if name != first}
    assert list(streams.left.values()) == ["it reads an input of the model"]


def test_a_residual_stream_is_one_for_all_that_read_and_write_it():
    model = awake(build(Architecture("resnet18", 0.25, 10, 32)))
    streams = shuffled(model, torch.randn(2, 3, 32, 32))
    last = next(s for s in streams.found if "fc.weight" in {p.name for p in s.places if p.reads})
    assert {p.name for p in last.places if p.reads} == {"blocks.7.conv1.weight", "fc.weight"}
    assert set(last.writers) == {"blocks.6.conv2", "blocks.6.shortcut.0", "blocks.7.conv2"}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("resnet50", 0.99),
        ("densenet121", 0.99),
        ("mobilenet_v3_small", 0.97),
        ("mobilenet_v3_large", 0.97),
        pytest.param("vgg16_bn", 0.99, marks=pytest.mark.slow),
    ],
)
def test_networks_of_torchvision_compute_the_same(name, share):
    torch.manual_seed(0)
    model = awake(torchvision.models.get_model(name))
    found = read_by(shuffled(model, torch.randn(2, 3, 64, 64)))
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    movable = sum(n * weights[name][:, 0].numel() for name, n in found.items())
    assert movable >= share * sum(p.numel() for p in weights.values())


class Net(nn.Module):
    """Layers by name, and how they are computed."""

    def __init__(self, forward: Callable[["Net", Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self._compute = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> Tensor:
        return self._compute(self, images)


def conv(inputs: int, outputs: int, size: int = 3, **settings: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **settings)


def head(net: Net, x: Tensor) -> Tensor:
    return net.c(x).mean((2, 3))


def shuffling(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
    return head(net, functional.relu(net.b(y)))


def split(net: Net, x: Tensor) -> Tensor:
    one, other = net.a(x).chunk(2, 1)
    return head(net, torch.cat([net.b(one), other], 1))


def tied(net: Net, x: Tensor) -> Tensor:
    y = functional.relu(net.a(x))
    return head(net, net.b(functional.relu(net.b(y))))


def tied_crosswise(net: Net, x: Tensor) -> Tensor:
    y, z = net.a(x), net.d(x)
    return head(net, net.b(functional.relu(y)) * torch.sigmoid(net.b(functional.relu(z))))


def squeezed(net: Net, x: Tensor) -> Tensor:
    y = functional.silu(net.norm(net.a(x)))
    scale = net.d(functional.relu(net.b(y.mean((2, 3), keepdim=True))))
    return head(net, y * torch.sigmoid(scale))


def flattened(net: Net, x: Tensor) -> Tensor:
    y = functional.max_pool2d(functional.relu(net.a(x)), 2)
    return net.b(y.flatten(1))


def standardised(net: Net, x: Tensor) -> Tensor:
    weight = net.b.weight - net.b.weight.mean((1, 2, 3), keepdim=True)
    return head(net, functional.conv2d(net.a(x), weight, net.b.bias, padding=1))


def read_twice(net: Net, x: Tensor) -> Tensor:
    return head(net, net.b(net.a(x)) + net.b.weight[:, :, 1, 1].sum())


def by_position(net: Net, x: Tensor) -> Tensor:
    y = net.b(net.a(x))
    return head(net, y * torch.linspace(1, 2, 8).view(8, 1, 1))


def padded(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    return head(net, functional.pad(y, (0, 0, 0, 0, 2, 2)) + net.b(functional.pad(y, (1, 1, 1, 1))))


def concatenated(net: Net, x: Tensor) -> Tensor:
    y = functional.relu(net.a(x))
    z = torch.cat([y, net.b(y)], 1)
    return head(net, torch.cat([z, z], 1))


def added_to_itself(net: Net, x: Tensor) -> Tensor:
    y = net.b(net.a(x))
    return head(net, y + y.roll(3, 1))


def in_place(net: Net, x: Tensor) -> Tensor:
    y = net.a(x)
    y[:, :4] += net.b(y)[:, 4:]
    return head(net, y)


def attended(net: Net, x: Tensor) -> Tensor:
    y = net.a(x).flatten(2)
    z = net.b(net.a(x)).flatten(2)
    return head(net, (y @ z.mT @ z).unflatten(2, x.shape[2:]))


def transposed(net: Net, x: Tensor) -> Tensor:
    y = net.b(net.a(x)).permute(0, 2, 3, 1)
    return net.c(functional.gelu(net.norm(y))).mean((1, 2))


NETS = {
    "channel shuffle": (Net(shuffling, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)), {"c": 8}),
    "split": (Net(split, a=conv(3, 16), b=conv(8, 8), c=conv(16, 5)), {"b": 8, "c": 16}),
    "tied": (Net(tied, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)), {"b": 8, "c": 8}),
    "tied crosswise": (
        Net(tied_crosswise, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5), d=conv(3, 8)),
        {"b": 8, "c": 8},
    ),
    "squeeze and excitation": (
        Net(
            squeezed,
            a=conv(3, 8),
            b=conv(8, 4, 1),
            c=conv(8, 5),
            d=conv(4, 8, 1),
            norm=nn.BatchNorm2d(8),
        ),
        {"b": 8, "c": 8, "d": 4},
    ),
    "flatten": (Net(flattened, a=conv(3, 8), b=nn.Linear(8 * 9, 5)), {"b": 72}),
    "in groups": (
        nn.Sequential(conv(3, 8), conv(8, 8, groups=2), conv(8, 8), conv(8, 5)),
        {"3": 8},
    ),
    "depthwise": (
        nn.Sequential(conv(3, 8), conv(8, 16, groups=8), nn.BatchNorm2d(16), conv(16, 5)),
        {"3": 16},
    ),
    "group norm": (nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), conv(8, 5)), {"2": 8}),
    "prelu": (nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 5)), {"2": 8}),
    "computed weight": (
        Net(standardised, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)),
        {},
    ),
    "weight read besides": (Net(read_twice, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)), {}),
    "by position": (Net(by_position, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)), {"b": 8}),
    "padding": (Net(padded, a=conv(3, 8), b=nn.Conv2d(8, 12, 3), c=conv(12, 5)), {"b": 8, "c": 8}),
    "concatenated": (
        Net(concatenated, a=conv(3, 8), b=conv(8, 4), c=conv(24, 5)),
        {"b": 8, "c": 24},
    ),
    "added to itself": (Net(added_to_itself, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)), {"b": 8}),
    "a part in place": (
        Net(in_place, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)),
        {"b": 4, "c": 4},
    ),
    "attention": (Net(attended, a=conv(3, 8), b=conv(8, 8), c=conv(8, 5)), {}),
    "channels last": (
        Net(transposed, a=conv(3, 8), b=conv(8, 8), c=nn.Linear(8, 5), norm=nn.LayerNorm(8)),
        {"b": 8, "c": 8},
    ),
    "instance norm": (
        nn.Sequential(conv(3, 8), nn.InstanceNorm2d(8), conv(8, 5)),
        {"2": 8},
    ),
    "transposed convolution": (
        nn.Sequential(conv(3, 8), nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU(), conv(8, 5)),
        {"1": 8, "3": 8},
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_what_may_change_places(name):
    model, readers = NETS[name]
    streams = shuffled(awake(model), torch.randn(2, 3, 6, 6))
    assert read_by(streams) == {f"{layer}.weight": size for layer, size in readers.items()}


def partitions(channels: int) -> list[Tensor]:
    """All ways to make two groups of some channels."""
    rest = range(1, channels)
    firsts = [(0, *others) for others in combinations(rest, channels // 2 - 1)]
    return [torch.tensor([*one, *(c for c in range(channels) if c not in one)]) for one in firsts]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_found_for_eight_channels_is_next_to_the_best_of_all(seed):
    generator = torch.Generator().manual_seed(seed)
    importance = torch.rand(8, 20, generator=generator) * torch.rand(8, 1, generator=generator)
    every = [kept(importance, order, TWO_OF_FOUR) for order in partitions(8)]
    assert len(every) == 35
    first = kept(importance, torch.arange(8), TWO_OF_FOUR)
    found = kept(importance, best_order(importance, TWO_OF_FOUR), TWO_OF_FOUR)
    assert first <= found <= max(every) + 1e-5
    assert found - first >= 0.75 * (max(every) - first)


@pytest.mark.parametrize("pattern", [NM(2, 4), NM(1, 4), NM(4, 8), NM(1, 2), NM(3, 4)])
def test_an_order_is_one_that_no_swap_betters_and_the_rest_stays(pattern):
    importance = torch.rand(18, 12, generator=torch.Generator().manual_seed(0))
    order = best_order(importance, pattern)
    assert order.sort().values.tolist() == list(range(18))
    whole = 18 // pattern.group * pattern.group
    assert order[whole:].tolist() == list(range(whole, 18))
    best = kept(importance, order[:whole], pattern)
    for one, other in combinations(range(whole), 2):
        swapped = order[:whole].clone()
        swapped[[one, other]] = swapped[[other, one]]
        assert kept(importance, swapped, pattern) <= best * (1 + 1e-5)


def test_of_many_rows_some_are_looked_at(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    importance = torch.rand(32, 400, generator=generator) * torch.rand(32, 1, generator=generator)
    first = kept(importance, torch.arange(32), TWO_OF_FOUR)
    whole = kept(importance, best_order(importance, TWO_OF_FOUR), TWO_OF_FOUR)
    monkeypatch.setattr(search, "_WORK", 32**2 * 100)
    assert kept(importance, best_order(importance, TWO_OF_FOUR), TWO_OF_FOUR) - first > 0.8 * (
        whole - first
    )


def test_equal_channels_stay_as_they_are():
    assert best_order(torch.ones(16, 5), TWO_OF_FOUR).tolist() == list(range(16))


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [conv(3, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 24), nn.ReLU(), conv(24, 8)]
    return awake(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))


BATCHES = [torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(2)]


def test_permuting_keeps_more_and_leaves_all_else_as_it_was():
    model = small().train()
    hook = model[3].register_forward_hook(lambda *_: None)
    model[3].weight.requires_grad_(False)
    identities = [id(p) for p in (*model.parameters(), *model.buffers())]
    flags = [p.requires_grad for p in model.parameters()]
    hooks = dict(model[3]._forward_hooks), dict(model._forward_hooks)
    before, random, threads = model.eval()(BATCHES[0]), torch.get_rng_state(), threading.enumerate()
    model.train()
    found = permute_channels(model, BATCHES)
    assert torch.equal(torch.get_rng_state(), random)
    assert threading.enumerate() == threads
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert (dict(model[3]._forward_hooks), dict(model._forward_hooks)) == hooks
    assert [id(p) for p in (*model.parameters(), *model.buffers())] == identities
    torch.testing.assert_close(model.eval()(BATCHES[0]), before)
    hook.remove()
    assert [(s.readers, s.writers) for s in found.streams] == [
        (["3"], ["0"]),
        (["5"], ["3"]),
        (["8"], ["5"]),
    ]
    assert all(stream.after > stream.before for stream in found.streams)
    assert found.left == {}


def test_permuting_twice_gains_nothing_more():
    model = small()
    permute_channels(model, BATCHES)
    again = permute_channels(model, BATCHES)
    assert [s.order for s in again.streams] == [list(range(n)) for n in (16, 24, 8)]


def test_pruning_with_permuted_channels():
    plain, permuted, images = small(), small(), BATCHES[0]
    dense = plain(images)
    without = prune(plain, BATCHES, method="wanda")
    result = prune(permuted, BATCHES, method="wanda", permute_channels=True)
    assert without.permutation is None
    assert [s.readers for s in result.permutation.streams] == [["3"], ["5"], ["8"]]
    notes = {layer.layer: layer.notes for layer in result.layers}
    assert "input channels permuted" in notes["3"]
    assert "input channels permuted" not in notes["0"]
    for index in (3, 5, 8):
        weight = permuted[index].weight
        groups = weight.movedim(1, -1).reshape(-1, 4)
        assert (groups.count_nonzero(1) == 2).all()
    assert (permuted(images) - dense).norm() < (plain(images) - dense).norm()


def test_what_is_excluded_decides_nothing():
    found = permute_channels(small(), BATCHES, exclude="5")
    assert [s.readers for s in found.streams] == [["3"], ["8"]]


def test_a_weight_norm_is_permuted_with_its_weight():
    model = small()
    nn.utils.parametrizations.weight_norm(model[3])
    before = model(BATCHES[0])
    found = permute_channels(model, BATCHES)
    assert [s.readers for s in found.streams] == [["3"], ["5"], ["8"]]
    torch.testing.assert_close(model(BATCHES[0]), before)


def test_if_pruning_fails_the_channels_are_put_back():
    model, state = small(), {k: v.clone() for k, v in small().state_dict().items()}
    calls = []

    def forward(model: nn.Module, batch: Tensor) -> Tensor:
        calls.append(batch)
        if len(calls) > 8:
            raise ValueError("no more")
        return model(batch)

    with pytest.raises(UserError, match="no more"):
        prune(model, BATCHES, forward=forward, permute_channels=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("peek", [Tensor.tolist, lambda tensor: tensor.numpy().tolist()])
def test_channels_whose_numbers_are_looked_at_stay(peek):
    def peeking(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        return head(net, net.b(y * (1 + abs(peek(y.mean((0, 2, 3)))[0]))))

    model = Net(peeking, a=conv(3, 16), b=conv(16, 16), c=conv(16, 5))
    assert [s.readers for s in permute_channels(model, BATCHES).streams] == [["c"]]


def test_outputs_that_would_change_are_refused_and_all_is_put_back(monkeypatch):
    permute = Place.permute
    monkeypatch.setattr(Place, "permute", lambda *args: args[0].reads or permute(*args))
    model = small()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UserError, match="outputs of the model change by up to"):
        permute_channels(model, BATCHES)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_parameter_that_is_not_reached_is_refused():
    model = small()
    model.add_module("auxiliary", conv(16, 5))
    with pytest.raises(UserError, match=r"did not reach all parameters.*auxiliary\.weight"):
        permute_channels(model, BATCHES, forward=lambda model, batch: model[:9](batch))


@pytest.mark.parametrize(
    "settings", [{"layout": "flattened"}, {"pattern": "50%"}, {"pattern": "50% per row"}]
)
def test_other_patterns_and_layouts_are_refused(settings):
    with pytest.raises(UserError, match="permute_channels is for N:M patterns"):
        prune(small(), BATCHES, permute_channels=True, **settings)
