"""The benchmark of sparse tensor cores, as far as a CPU can run it."""

import importlib.util
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass as pack,
)
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_to_dense_cutlass as unpack,
)

import sparsecnn
from sparsecnn.errors import UserError
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning.layouts import to_matrix

SCRIPT = Path(sparsecnn.__file__).parents[2] / "benchmarks/sparse_speed.py"


def load():
    spec = importlib.util.spec_from_file_location("sparse_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


bench = load()
Layer, Times = bench.Layer, bench.Times
CPU = torch.device("cpu")
SMALL = Layer("convolution", 64, 32, kernel=3, padding=1, side=5)


def linear(inputs, outputs):
    return Layer("linear", inputs, outputs)


def conv(inputs, outputs, side, kernel=3, stride=1):
    return Layer("convolution", inputs, outputs, kernel, stride, kernel // 2, side)


NETWORKS = {
    "custom_cnn": {
        conv(3, 64, 32): 1,
        conv(64, 64, 32): 1,
        conv(64, 128, 16): 1,
        conv(128, 128, 16): 1,
        linear(8192, 256): 1,
        linear(256, 10): 1,
    },
    "vgg16": {
        conv(3, 64, 32): 1,
        conv(64, 64, 32): 1,
        conv(64, 128, 16): 1,
        conv(128, 128, 16): 1,
        conv(128, 256, 8): 1,
        conv(256, 256, 8): 2,
        conv(256, 512, 4): 1,
        conv(512, 512, 4): 2,
        conv(512, 512, 2): 3,
        linear(512, 4096): 1,
        linear(4096, 4096): 1,
        linear(4096, 10): 1,
    },
    "resnet18": {
        conv(3, 64, 32): 1,
        conv(64, 64, 32): 4,
        conv(64, 128, 32, stride=2): 1,
        conv(64, 128, 32, kernel=1, stride=2): 1,
        conv(128, 128, 16): 3,
        conv(128, 256, 16, stride=2): 1,
        conv(128, 256, 16, kernel=1, stride=2): 1,
        conv(256, 256, 8): 3,
        conv(256, 512, 8, stride=2): 1,
        conv(256, 512, 8, kernel=1, stride=2): 1,
        conv(512, 512, 4): 3,
        linear(512, 10): 1,
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layers_of_a_network_are_found_with_their_counts(name):
    assert bench.layers(name, 1.0, 32) == NETWORKS[name]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("width", "image_size"), [(0.25, 32), (0.5, 64)])
def test_the_layers_hold_every_weight_of_the_network(name, width, image_size):
    found = bench.layers(name, width, image_size)
    weights = list(build(Architecture(name, width, 10, image_size)).parameters())
    many = sum(count * layer.outputs * layer.columns for layer, count in found.items())
    assert many == sum(weight.numel() for weight in weights if weight.ndim > 1)
    assert max(layer.side for layer in found) == image_size


@settings(max_examples=50, deadline=None)
@given(
    batch=st.integers(1, 3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 5),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    extra=st.integers(0, 5),
    seed=st.integers(0, 100),
)
def test_a_product_over_unfolded_inputs_is_the_convolution(
    batch, inputs, outputs, kernel, stride, padding, extra, seed
):
    side = max(1, kernel - 2 * padding) + extra
    layer = Layer("convolution", inputs, outputs, kernel, stride, padding, side)
    torch.manual_seed(seed)
    weight, images = bench.example(layer, batch, torch.float64, CPU)
    rows = bench.unfolded(layer, images)
    wanted = functional.conv2d(images.permute(0, 3, 1, 2), weight, None, stride, padding)
    assert rows.shape == (batch * wanted[0, 0].numel(), layer.columns)
    product = (rows @ to_matrix(weight, 1, "channels")[0].T).reshape(batch, *wanted.shape[2:], -1)
    torch.testing.assert_close(product.permute(0, 3, 1, 2), wanted)
    torch.testing.assert_close(bench.dense(layer, weight, images), wanted.permute(0, 2, 3, 1))


def test_only_what_has_to_be_copied_is():
    pointwise = conv(8, 4, side=6, kernel=1)
    for layer in (pointwise, linear(8, 4)):
        _, inputs = bench.example(layer, 3, torch.float32, CPU)
        assert not layer.copies
        assert bench.unfolded(layer, inputs).data_ptr() == inputs.data_ptr()
    assert conv(8, 4, side=6).copies
    assert conv(8, 4, side=6, kernel=1, stride=2).copies


@pytest.mark.parametrize("layer", [SMALL, linear(64, 32), conv(64, 64, 4, kernel=1)])
def test_two_of_every_four_input_channels_are_kept_and_torch_packs_them_whole(layer):
    weight, _ = bench.example(layer, 1, torch.float16, CPU)
    groups = weight.movedim(1, -1).reshape(-1, 4)
    assert ((groups != 0).sum(1) == 2).all()
    matrix = to_matrix(weight, 1, "channels")[0].contiguous()
    assert torch.equal(unpack(*pack(matrix)), matrix)


def test_torch_does_not_pack_groups_along_kernel_positions_whole():
    matrix = bench.example(SMALL, 1, torch.float16, CPU)[0].flatten(1).contiguous()
    assert not torch.equal(unpack(*pack(matrix)), matrix)


def test_three_channels_have_no_groups_and_stay_dense():
    weight, _ = bench.example(conv(3, 64, 8), 1, torch.float32, CPU)
    assert (weight != 0).all()


@pytest.mark.parametrize(
    ("layer", "cusparselt", "cutlass"),
    [
        (linear(64, 32), "", ""),
        (linear(64, 16), "", "32 x 64"),
        (linear(48, 32), "", "32 x 64"),
        (linear(64, 10), "16 x 16", "32 x 64"),
        (conv(8, 32, 8), "16 x 16", "32 x 64"),
        (conv(16, 32, 8), "", "32 x 64"),
        (conv(3, 64, 8), "3 input channels", "3 input channels"),
    ],
)
def test_what_a_backend_does_not_take_is_said_with_the_reason(layer, cusparselt, cutlass):
    for backend, wanted in (("cuSPARSELt", cusparselt), ("CUTLASS", cutlass)):
        for number_format in bench.FORMATS.values():
            reason = bench.refusal(layer, backend, number_format)
            assert bool(reason) == bool(wanted)
            assert wanted in reason


class StandIn:
    """In the place of a backend: dense, so that a CPU multiplies with it."""

    _DTYPE_SHAPE_CONSTRAINTS = MappingProxyType(
        {torch.float32: SimpleNamespace(sparse_min_rows=16, sparse_min_cols=16)}
    )
    factor = 1.0

    @classmethod
    def from_dense(cls, matrix):
        assert matrix.is_contiguous()
        return matrix * cls.factor


class Wrong(StandIn):
    factor = 1.001


def numbered(sides):
    for side in sides:
        side()
    return [float(index + 1) for index in range(len(sides))]


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (SMALL, Times(1.0, 2.0, {"cuSPARSELt": 3.0, "CUTLASS": 4.0})),
        (linear(64, 32), Times(1.0, 0.0, {"cuSPARSELt": 2.0, "CUTLASS": 3.0})),
        (linear(64, 10), Times(1.0, 0.0, {})),
        (conv(3, 32, 8), Times(1.0, 0.0, {})),
    ],
)
def test_each_side_gets_its_own_time(monkeypatch, layer, wanted):
    monkeypatch.setattr(bench, "BACKENDS", {"cuSPARSELt": StandIn, "CUTLASS": StandIn})
    case = bench.example(layer, 2, torch.float32, CPU)
    assert bench.time_layer(case, layer, list(bench.BACKENDS), numbered) == wanted


def test_wrong_results_are_refused_before_they_are_timed(monkeypatch):
    monkeypatch.setattr(bench, "BACKENDS", {"cuSPARSELt": StandIn, "CUTLASS": Wrong})
    case = bench.example(SMALL, 2, torch.float32, CPU)
    with pytest.raises(UserError, match="float32: CUTLASS differs from the dense layer by "):
        bench.time_layer(case, SMALL, list(bench.BACKENDS), pytest.fail)


@pytest.mark.parametrize("number_format", bench.TOLERANCES)
def test_rounding_passes_and_a_weight_in_the_wrong_place_does_not(number_format):
    layer = linear(64, 32)
    weight, inputs = bench.example(layer, 512, number_format, CPU)
    wanted = bench.dense(layer, weight, inputs)
    exact = (inputs.double() @ weight.double().T).to(number_format)
    assert bench.compare(layer, "exact", exact, wanted) <= bench.TOLERANCES[number_format]
    moved = weight.clone()
    moved[0, :4] = weight[0, :4].roll(1)
    with pytest.raises(UserError, match="moved differs"):
        bench.compare(layer, "moved", bench.dense(layer, moved, inputs), wanted)
    with pytest.raises(UserError, match="by nan"):
        bench.compare(layer, "nothing", wanted * float("nan"), wanted)


def test_medians_are_of_all_sides_in_turn_and_time_ends_them():
    seconds = iter([5.0, 1.0, 9.0, 2.0, 7.0, 3.0])
    calls = []
    sides = [partial(calls.append, "a"), partial(calls.append, "b")]
    timed = bench.medians(sides, repeats=3, seconds=60, clock=lambda side: side() or next(seconds))
    assert timed == [7.0, 2.0]
    assert calls == ["a"] * bench.WARM_UP + ["b"] * bench.WARM_UP + ["a", "b"] * 3

    bench.medians(sides, repeats=1000, seconds=0, clock=lambda side: side() or 1.0)
    assert Counter(calls)["a"] == 2 * bench.WARM_UP + 3 + bench.FEWEST


def cells(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_tables_hold_medians_ratios_and_sums_by_count():
    timed = {
        SMALL: Times(6e-6, 4e-6, {"cuSPARSELt": 4e-6, "CUTLASS": 12e-6}),
        linear(64, 32): Times(3e-6, 0.0, {"cuSPARSELt": 2e-6}),
        linear(32, 10): Times(1e-6, 0.0, {}),
    }
    header, _, *rows = cells(bench.layer_table(timed))
    ratios = ["dense / it", "with unfolding"]
    assert header == ["layer", "dense", "unfolding", "cuSPARSELt", *ratios, "CUTLASS", *ratios]
    assert rows == [
        [str(SMALL), "6.0", "4.0", "4.0", "1.50", "0.75", "12.0", "0.50", "0.38"],
        ["linear 64 to 32", "3.0", "-", "2.0", "1.50", "1.50", "-", "-", "-"],
        ["linear 32 to 10", "1.0", "-", "-", "-", "-", "-", "-", "-"],
    ]
    counts = {"net": {SMALL: 3, linear(64, 32): 1, linear(32, 10): 1}}
    _, _, *rows = cells(bench.network_table(counts, timed))
    # Dense 3 x 6 + 3 + 1; cuSPARSELt 3 x 4 + 2 + 1, with unfolding 3 x 8 + 2 + 1, best 18 + 2 + 1.
    assert rows == [
        ["net", "cuSPARSELt", "22.0", "15.0", "1.47", "27.0", "0.81", "21.0", "1.05"],
        ["net", "CUTLASS", "22.0", "40.0", "0.55", "52.0", "0.42", "22.0", "1.00"],
    ]


def test_the_check_runs_on_a_cpu_and_times_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sparse_speed.py", "--check", "--width", "0.125"])
    bench.main()
    printed = capsys.readouterr().out
    header, _, *rows = cells(printed.partition("\n\n")[2].partition("\nfloat16")[0])
    assert header == ["layer", "matrix", *bench.MODELS, "largest difference / RMS"]
    networks = [bench.layers(name, 0.125, 32) for name in bench.MODELS]
    assert len(rows) == len({layer for network in networks for layer in network})
    assert all(float(row[-1]) < 1e-4 for row in rows)
    assert "3x3 3 to 8, 32 px: 3 input channels are not a multiple of 4" in printed
    assert "microseconds" not in printed


class Absent(StandIn):
    @classmethod
    def from_dense(cls, matrix):
        raise RuntimeError("supported only\non other GPUs")


def test_a_measuring_run_prints_each_batch_and_network(monkeypatch, capsys):
    """All of it but the GPU: a CPU, dense stand-ins for the backends, and a clock that counts."""
    monkeypatch.setattr(bench, "BACKENDS", {"cuSPARSELt": StandIn, "CUTLASS": Absent})
    monkeypatch.setattr(bench, "FORMATS", {"float32": torch.float32})
    monkeypatch.setattr(bench, "use_device", lambda *_, **__: nullcontext(CPU))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    seconds = iter(range(1, 10**6))
    monkeypatch.setattr(bench, "medians", partial(bench.medians, clock=lambda _: next(seconds)))
    given = "sparse_speed.py --models custom_cnn resnet18 --width 0.25 --batches 1 2 --seconds 0"
    monkeypatch.setattr(sys, "argv", given.split())
    bench.main()
    printed = capsys.readouterr().out
    assert "float32, cuSPARSELt takes 12 of 15 shapes" in printed
    assert "float32, CUTLASS does not run here: supported only on other GPUs" in printed
    for batch in (1, 2):
        part = printed.partition(f"float32, batch {batch}: microseconds\n\n")[2]
        layers, networks = (cells(text) for text in part.split("\n\n")[:2])
        assert layers[0][:4] == ["layer", "dense", "unfolding", "cuSPARSELt"]
        assert len(layers) == 2 + 15
        assert [row[:2] for row in networks[2:]] == [
            ["custom_cnn", "cuSPARSELt"],
            ["resnet18", "cuSPARSELt"],
        ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_and_without_check_it_says_so_in_a_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sparse_speed.py", "--models", "custom_cnn"])
    with pytest.raises(SystemExit, match="error: device: cuda was asked for but torch finds none"):
        bench.main()
