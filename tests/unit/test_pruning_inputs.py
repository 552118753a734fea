import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_oracles import call_of, channels_order, unfolded_rows
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.inputs import Sampled, input_rows
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.layouts import prunable_columns, to_matrix, to_weight

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Tensor]:
    groups = draw(st.sampled_from([1, 2, 3]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding: tuple[int, int] | str = draw(
        st.one_of(
            st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(["same", "valid"])
        )
    )
    if padding == "same":
        stride = (1, 1)
    layer = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 2)),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "circular", "replicate"])),
    ).double()
    torch.manual_seed(draw(st.integers(0, 1000)))
    images = torch.randn(
        draw(st.integers(1, 3)),
        layer.in_channels,
        draw(st.integers(5, 8)),
        draw(st.integers(5, 8)),
        dtype=torch.float64,
    )
    return layer, images


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(deadline=None, max_examples=40)
@given(convolutions(), st.sampled_from([1, 3000, 10**9]), st.booleans())
def test_rows_times_weight_is_the_convolution(
    case: tuple[nn.Conv2d, Tensor], max_bytes: int, channels_last: bool
) -> None:
    layer, images = case
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    call = call_of(layer, images)
    rows = torch.cat([rows for rows, _ in input_rows(call, None, max_bytes)], dim=1)
    weight = to_matrix(layer.weight.detach(), layer.groups, "channels")
    out = torch.cat([r @ w.T for r, w in zip(rows, weight, strict=True)], dim=1)
    assert layer.bias is not None
    expected = layer(images).permute(0, 2, 3, 1).reshape(-1, layer.out_channels)
    torch.testing.assert_close(out + layer.bias, expected)


@st.composite
def convolutions_of_any_dimension(draw: st.DrawFn) -> tuple[Convolution, Tensor]:
    dimensions, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2]))
    axes = [st.integers(1, 3)] * dimensions
    padding = draw(st.one_of(st.tuples(*[st.integers(0, 2)] * dimensions), st.just("same")))
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 2)),
        draw(st.tuples(*axes)),
        1 if padding == "same" else draw(st.tuples(*axes)),
        padding,
        draw(st.tuples(*[st.integers(1, 2)] * dimensions)),
        groups,
    ).double()
    torch.manual_seed(draw(st.integers(0, 1000)))
    sizes = draw(st.tuples(*[st.integers(5, 7)] * dimensions))
    images = torch.randn(draw(st.integers(1, 3)), layer.in_channels, *sizes, dtype=torch.float64)
    return layer, images


def picked_rows(layer: Convolution, images: Tensor) -> Tensor:
    """Rows of each group: one kernel for each column, zero but for a one that picks its input."""
    size = layer.weight.shape[1:]
    flat = torch.eye(size.numel(), dtype=torch.float64).view(-1, *size)
    order = channels_order(size[0], size[1:].numel())
    kernels = flat[order].repeat(layer.groups, *[1] * len(size))
    picked = layer._conv_forward(images, kernels, None)
    return picked.movedim(1, -1).unflatten(-1, (layer.groups, -1)).movedim(-2, 0).flatten(1, -2)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(deadline=None, max_examples=60)
@given(convolutions_of_any_dimension(), st.sampled_from([1, 3000, 10**9]), st.booleans())
def test_rows_are_what_a_convolution_sees_in_one_two_and_three_dimensions(
    case: tuple[Convolution, Tensor], max_bytes: int, without_batch: bool
) -> None:
    layer, images = case
    if without_batch:
        images = images[0]
    with torch.no_grad():
        outputs = layer(images)
    parts = list(input_rows(call_of(layer, images), outputs, max_bytes))
    rows = torch.cat([rows for rows, _ in parts], dim=1)
    picked = images[None] if without_batch else images
    assert torch.equal(rows, picked_rows(layer, picked))
    cut_up = torch.cat([part for _, part in parts if part is not None], dim=1)
    weight = to_matrix(layer.weight.detach(), layer.groups, "channels")
    assert layer.bias is not None
    bias = layer.bias.detach().view(layer.groups, 1, -1)
    torch.testing.assert_close(rows @ weight.mT + bias, cut_up)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(deadline=None, max_examples=60)
@given(
    convolutions_of_any_dimension(),
    st.integers(1, 20),
    st.integers(0, 5),
    st.sampled_from([1, 3000, 10**9]),
)
def test_some_positions_of_each_image_are_rows_of_all(
    case: tuple[Convolution, Tensor], positions: int, first: int, max_bytes: int
) -> None:
    layer, images = case
    with torch.no_grad():
        outputs = layer(images)
    call, sampled = call_of(layer, images), Sampled(positions, first)
    every = [torch.cat(parts, 1) for parts in zip(*input_rows(call, outputs, 10**9), strict=True)]
    some = [
        torch.cat(parts, 1)
        for parts in zip(*input_rows(call, outputs, max_bytes, sampled), strict=True)
    ]
    of = outputs[0, 0].numel()
    if positions < of:
        offsets = of * torch.arange(len(images)).unsqueeze(1)
        chosen = (offsets + sampled.indices(len(images), of)).flatten()
        every = [rows[:, chosen] for rows in every]
    for one, other in zip(every, some, strict=True):
        assert torch.equal(one, other)


@given(st.integers(1, 64), st.integers(0, 1000), st.integers(64, 5000))
def test_positions_are_spread_evenly_and_no_image_has_those_of_the_one_before(
    positions: int, first: int, of: int
) -> None:
    chosen = Sampled(positions, first).indices(3, of)
    stretch = of / positions
    starts = torch.arange(positions) * stretch
    assert ((chosen >= starts.floor()) & (chosen <= starts + stretch)).all()
    assert int(chosen.max()) < of
    if stretch >= 8:
        assert not torch.equal(chosen[0], chosen[1])


def test_the_hessian_of_some_positions_is_about_that_of_all() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, padding=1)
    coarse = torch.randn(400, 4, 5, 5)
    images = nn.functional.interpolate(coarse, size=16, mode="bilinear").relu()
    whole, some = (
        LayerMoments("c", layer.weight),
        LayerMoments("c", layer.weight, positions_per_image=16),
    )
    for batch in images.split(150):  # in a batch of any size an image has the same positions
        whole.add(call_of(layer, batch))
        some.add(call_of(layer, batch))
    again = LayerMoments("c", layer.weight, positions_per_image=16)
    again.add(call_of(layer, images))
    assert (whole.count, some.count) == (400 * 256, 400 * 16)
    expected, sampled = whole.hessian("channels"), some.hessian("channels")
    torch.testing.assert_close(sampled, again.hessian("channels"))
    assert torch.linalg.norm(sampled - expected) < 0.04 * torch.linalg.norm(expected)


@settings(deadline=None, max_examples=40)
@given(convolutions(), st.sampled_from(["channels", "flattened"]))
def test_hessian_is_that_of_an_explicit_unfold(case: tuple[nn.Conv2d, Tensor], layout: str) -> None:
    layer, images = case
    moments = LayerMoments("conv", layer.weight, chunk=1000)
    for image in images:
        moments.add(call_of(layer, image.unsqueeze(0)))
    hessian = moments.hessian(layout)
    area = layer.kernel_size[0] * layer.kernel_size[1]
    channels = layer.in_channels // layer.groups
    order = channels_order(channels, area) if layout == "channels" else range(channels * area)
    for measured, rows in zip(hessian, unfolded_rows(layer, images), strict=True):
        ordered = rows[:, list(order)]
        assert moments.count == len(rows)
        torch.testing.assert_close(measured, 2 / len(rows) * ordered.T @ ordered)


@settings(deadline=None, max_examples=20)
@given(convolutions_of_any_dimension(), st.sampled_from(["channels", "flattened"]))
def test_canonical_matrix_round_trip_and_order(
    case: tuple[Convolution, Tensor], layout: str
) -> None:
    weight = case[0].weight.detach()
    matrix = to_matrix(weight, case[0].groups, layout)
    assert torch.equal(to_weight(matrix, weight.shape, layout), weight)
    area = weight.shape[2:].numel()
    flat = weight.flatten(1)
    order = channels_order(weight.shape[1], area) if layout == "channels" else range(flat.shape[1])
    assert torch.equal(matrix.flatten(0, 1), flat[:, list(order)])


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 4, 12)])
def test_linear_inputs_of_any_leading_shape(shape: tuple[int, ...]) -> None:
    layer, inputs = nn.Linear(12, 4), torch.randn(shape)
    moments = LayerMoments("fc", layer.weight, chunk=100)
    moments.add(call_of(layer, inputs))
    rows = inputs.reshape(-1, 12).double()
    expected = 2 / len(rows) * rows.T @ rows
    torch.testing.assert_close(
        moments.hessian("channels")[0].double(), expected, rtol=1e-5, atol=1e-5
    )


def test_hessian_is_the_second_derivative_of_the_squared_output_error() -> None:
    layer = nn.Conv2d(2, 1, 3, stride=2, padding=1, bias=False).double()
    images = torch.randn(3, 2, 7, 6, dtype=torch.float64)
    target = torch.randn_like(layer(images))

    def loss(weight: Tensor) -> Tensor:
        out = nn.functional.conv2d(images, weight.view(1, 2, 3, 3), stride=2, padding=1)
        return (out - target).square().sum() / target.numel()

    expected = torch.autograd.functional.hessian(loss, layer.weight.detach().flatten())
    moments = LayerMoments("conv", layer.weight)
    moments.add(call_of(layer, images))
    torch.testing.assert_close(moments.hessian("flattened")[0], expected)


def test_wide_hessian_built_in_blocks_is_whole_and_symmetric() -> None:
    layer, inputs = nn.Linear(1300, 2), torch.randn(40, 1300)
    moments = LayerMoments("fc", layer.weight)
    moments.add(call_of(layer, inputs[:7]))
    moments.add(call_of(layer, inputs[7:]))
    hessian = moments.hessian("channels")[0]
    torch.testing.assert_close(hessian, 2 / 40 * inputs.T @ inputs, rtol=1e-4, atol=1e-5)
    assert torch.equal(hessian, hessian.T)


def test_chunks_keep_to_the_memory_bound() -> None:
    layer = nn.Conv2d(8, 4, 3, padding=1)
    images, bound = torch.randn(6, 8, 16, 16), 300_000
    chunks = [rows for rows, _ in input_rows(call_of(layer, images), None, bound)]
    assert max(chunk.numel() * 4 for chunk in chunks) <= bound
    assert sum(chunk.shape[1] for chunk in chunks) == 6 * 16 * 16


def test_half_precision_inputs_are_accumulated_in_float32() -> None:
    layer, inputs = nn.Linear(4, 2).bfloat16(), torch.randn(9, 4).bfloat16()
    moments = LayerMoments("fc", layer.weight)
    moments.add(call_of(layer, inputs))
    assert moments.hessian("channels").dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("diagonal_only", [False, True])
def test_inputs_that_are_not_finite_are_refused_by_layer(bad: float, diagonal_only: bool) -> None:
    inputs = torch.randn(5, 4)
    inputs[3, 2] = bad
    layer = nn.Linear(4, 2)
    moments = LayerMoments("head.fc", layer.weight, diagonal_only=diagonal_only)
    moments.add(call_of(layer, inputs))
    with pytest.raises(UserError, match=r"'head\.fc'.*NaN or infinite"):
        moments.diagonal("channels") if diagonal_only else moments.hessian("channels")


def test_layer_without_data_is_an_error() -> None:
    with pytest.raises(UserError, match="'fc' saw no calibration data"):
        LayerMoments("fc", nn.Linear(4, 2).weight).hessian("channels")
    with pytest.raises(UserError, match="'fc' saw no calibration data"):
        LayerMoments("fc", nn.Linear(4, 2).weight, diagonal_only=True).diagonal("channels")


@pytest.mark.parametrize(
    ("layout", "columns", "channels", "expected"),
    [
        ("channels", 72, 8, 72),
        ("channels", 27, 3, 0),
        ("channels", 90, 10, 0),
        ("flattened", 27, 3, 24),
        ("flattened", 72, 8, 72),
        ("flattened", 3, 3, 0),
    ],
)
def test_tail_of_the_group_axis(layout: str, columns: int, channels: int, expected: int) -> None:
    assert prunable_columns(columns, channels, 4, layout) == expected
