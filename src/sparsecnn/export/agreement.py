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

    Raises `UserError` if a logit differs by more than `TOLERANCE` or is not finite. If none does, a
    top-1 class can differ only between classes that tie within the tolerance.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    differences, different = [], 0
    with torch.inference_mode():
        for batch in images.split(BATCH_SIZE):
            inputs = batch.float() / 255 if normalizes else normalize(batch, normalization)
            got = torch.from_numpy(session.run([OUTPUT], {INPUT: inputs.numpy()})[0])
            expected = network(normalize(batch, normalization))
            differences.append(((got - expected).abs() / expected.abs().clamp(min=1)).max())
            different += int((got.argmax(1) != expected.argmax(1)).sum())
    largest = float(torch.stack(differences).max())
    if not largest <= TOLERANCE:  # nor if it is NaN
        raise UserError(
            f"the ONNX file does not compute what the network does: logits of {len(images)} images "
            f"differ by up to {largest:.2g} (allowed: {TOLERANCE:.0e} of the larger of 1 and their "
            f"size), and {different} have another top-1 class; leave it out of export.variants"
        )
    return Agreement(len(images), different, largest)
