"""A network as an ONNX graph, with its weights in it as they are."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparsecnn.data.dataset import Normalization
from sparsecnn.errors import UserError, in_a_line

if TYPE_CHECKING:
    import onnx_ir

INPUT, OUTPUT = "images", "logits"
_INSIDE = "network."
_LARGEST = 2**31
"""Bytes that a protobuf, and so a single file, can hold."""


class _FromPixels(nn.Module):
    """A network with the normalisation of pixels in [0, 1] before it; None leaves that out."""

    def __init__(self, network: nn.Module, normalization: Normalization | None) -> None:
        super().__init__()
        self.network = network
        self.normalizes = normalization is not None
        self.pixel_mean = _per_channel(normalization.mean if normalization else ())
        self.pixel_std = _per_channel(normalization.std if normalization else ())

    def forward(self, images: Tensor) -> Tensor:
        if self.normalizes:
            images = (images - self.pixel_mean) / self.pixel_std
        logits: Tensor = self.network(images)
        return logits


def _per_channel(values: Sequence[float]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.float32).view(-1, 1, 1))


def to_onnx(
    network: nn.Module,
    image_shape: Sequence[int],
    normalization: Normalization | None,
    properties: Mapping[str, str],
) -> bytes:
    """The file of a network's ONNX graph.

    Its input `images` is float32, (N, C, H, W) with N free: pixels in [0, 1], which the graph
    normalises itself, or, with `normalization` None, what the network takes. Its output `logits` is
    float32, (N, classes). Weights have the names and values that they have in the network:
    constants are folded, but no batch norm is merged into a convolution.

    Parameters
    ----------
    network
        On the CPU, in eval mode.
    image_shape
        (C, H, W).
    properties
        Metadata of the file.

    Raises `UserError` if the network cannot be expressed so.
    """
    from onnxscript import optimizer

    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if size >= _LARGEST:
        raise UserError(
            f"the network has {size / 2**30:.1f} GiB of weights, and an ONNX file holds less than "
            "2 GiB; leave it out of export.variants"
        )
    program = _exported(_FromPixels(network, normalization).eval(), image_shape)
    model = program.model
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    _name_as_in(model, network)
    _drop_traces(model)
    model.producer_name, model.producer_version = "sparsecnn", _own_version()
    model.metadata_props.update(properties)
    data: bytes = program.model_proto.SerializeToString(deterministic=True)
    return data


def _exported(network: nn.Module, image_shape: Sequence[int]) -> torch.onnx.ONNXProgram:
    """The graph as torch makes it; `UserError` if it cannot."""
    # Two images, since torch takes a batch of one for a constant.
    example = torch.zeros(2, *image_shape)
    try:
        traced = torch.export.export(
            network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        program = torch.onnx.export(
            traced, input_names=[INPUT], output_names=[OUTPUT], optimize=False, verbose=False
        )
    except Exception as error:  # of many kinds: whatever the network does that torch cannot follow
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        reason = in_a_line(cause)[:200]
        raise UserError(
            f"torch cannot express the network as ONNX ({reason}); leave it out of export.variants"
        ) from None
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program


def _name_as_in(model: "onnx_ir.Model", network: nn.Module) -> None:
    """Call weights as the network's state dict does."""
    names = set(network.state_dict())
    for node in model.graph:
        for value in node.outputs:
            if value.name in names:  # torch calls results by their operation, such as `mean`
                value.name = f"{value.name}.output"
    for value in list(model.graph.initializers.values()):
        value.name = str(value.name).removeprefix(_INSIDE)


def _drop_traces(model: "onnx_ir.Model") -> None:
    """Leave out where in whose source each node came from: paths of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _own_version() -> str:
    """Empty where the library runs without being installed."""
    try:
        return version("sparsecnn")
    except PackageNotFoundError:
        return ""


def check_file(data: bytes, network: nn.Module) -> dict[str, Any]:
    """What an ONNX file says of itself, after checking it and its weights.

    Keys `opset`, `ir_version`, `producer`, `bytes`. Raises `UserError` unless `data` is valid ONNX
    and each weight in it is, bit for bit, the network's of that name.
    """
    import onnx

    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of protobuf, of the checker, or of shape inference
        raise UserError(f"the file is no valid ONNX ({in_a_line(error)[:200]})") from None
    state = network.state_dict()
    for name, tensor in initializers(data).items():
        if name in state and not torch.equal(tensor, state[name].cpu()):
            raise UserError(f"the weight {name} in the ONNX file is not the network's")
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    producer = f"{model.producer_name} {model.producer_version}".strip()
    about = {"opset": opset, "ir_version": model.ir_version, "producer": producer}
    return {**about, "bytes": len(data)}


def initializers(data: bytes) -> dict[str, Tensor]:
    """The constants in an ONNX file, weights among them, by name."""
    import onnx

    graph = onnx.load_from_string(data).graph
    # Copied, for torch warns of arrays that cannot be written to.
    return {
        one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
        for one in graph.initializer
    }
