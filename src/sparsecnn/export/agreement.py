"""Whether an ONNX file computes what its network computes, by ONNX Runtime on the CPU."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsecnn.data.augmentation import normalize
from sparsecnn.data.dataset import Normalization
from sparsecnn.errors import UserError
from sparsecnn.export.graph import INPUT, OUTPUT

TOLERANCE = 1e-4
"""Largest difference of a logit that is allowed, relative to the larger of 1 and its size."""
ROUNDING = 4
"""Where rounding alone takes PyTorch further from exact logits, so many times that is allowed."""
BATCH_SIZE = 500


@dataclass(frozen=True)
class Agreement:
    """What `compare` measures."""

    images: int
    """Number of images."""
    different_top1: int
    """Images whose highest logit is another class's."""
    largest_difference: float
    """Of any logit from PyTorch's, relative to the larger of 1 and its size."""
    tolerance: float
    """Of that difference, what was allowed: `TOLERANCE`, or what rounding makes of it."""


def compare(
    data: bytes,
    network: nn.Module,
    images: Tensor,
    normalization: Normalization,
    *,
    normalizes: bool,
) -> Agreement:
    """Run a network and its ONNX file on the same images.

    Parameters
    ----------
    data
        The ONNX file.
    network
        On the CPU, in eval mode.
    images
        uint8, (N, C, H, W).
    normalizes
        Whether the graph takes pixels in [0, 1] and normalises them itself.

    Both compute in float32, each in an order of its own, and a deep network makes much of that. So
    where a logit differs by more than `TOLERANCE`, those in float64 tell what rounding does.

    Raises `UserError` if a logit differs by more than `TOLERANCE` and by more than `ROUNDING` times
    PyTorch's own error, or is not finite. If none does, a top-1 class can differ only between
    classes that tie within the tolerance.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    largest, allowed, different = 0.0, TOLERANCE, 0
    with torch.no_grad():
        for batch in images.split(BATCH_SIZE):
            inputs = batch.float() / 255 if normalizes else normalize(batch, normalization)
            got = torch.from_numpy(session.run([OUTPUT], {INPUT: inputs.numpy()})[0])
            expected = network(normalize(batch, normalization))
            difference = _difference(got, expected)
            different += int((got.argmax(1) != expected.argmax(1)).sum())
            if not difference <= allowed:  # nor if it is NaN
                rounding = _rounding(network, normalize(batch, normalization), expected)
                allowed = max(allowed, ROUNDING * rounding)
            if not difference <= allowed:
                raise UserError(
                    "the ONNX file does not compute what the network does: of the logits of "
                    f"{len(batch)} images some differ by {difference:.2g} (allowed: {allowed:.2g} "
                    "of the larger of 1 and their size); leave it out of export.variants"
                )
            largest = max(largest, difference)
    return Agreement(len(images), different, largest, allowed)


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest of any logit, relative to the larger of 1 and its size."""
    return float(((one - other).abs() / other.abs().clamp(min=1)).max())


def _rounding(network: nn.Module, inputs: Tensor, logits: Tensor) -> float:
    """How far these float32 logits of a network are from its own in float64; 0 if it has none."""
    try:
        exact = network.double()(inputs.double())
    except RuntimeError:  # it computes in float32, whatever it is given
        return 0.0
    finally:
        network.float()
    return _difference(logits.double(), exact)
