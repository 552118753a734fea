"""Second moments of a layer's inputs, accumulated batch by batch."""

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.inputs import PrunableLayer, input_rows
from sparsecnn.pruning.layouts import from_channels_order

_BLOCK = 512
"""Columns per block of the upper triangle; below two blocks symmetry saves too little."""


class InputMoments:
    """Sum of x x^T over every input row x that a layer has seen: add batches, read, drop.

    Memory: one (groups, columns, columns) matrix, and chunks of unfolded inputs of at most
    `memory_mb` megabytes, however large the batches are.
    """

    def __init__(
        self,
        name: str,
        layer: PrunableLayer,
        dtype: torch.dtype = torch.float32,
        memory_mb: float = 512,
    ) -> None:
        self._name = name
        self._layer = layer
        self._dtype = dtype
        self._max_bytes = int(memory_mb * 2**20)
        self._gram: Tensor | None = None
        self.count = 0
        """Input rows seen (of one convolution group)."""

    @torch.no_grad()
    def add(self, inputs: Tensor) -> None:
        """Add what the layer was called with; see `input_rows` for shapes."""
        for rows in input_rows(self._layer, inputs, self._max_bytes):
            rows = rows.to(self._dtype)
            if self._gram is None:
                groups, _, columns = rows.shape
                self._gram = rows.new_zeros(groups, columns, columns)
            _add_upper_gram(self._gram, rows)
            self.count += rows.shape[1]

    def hessian(self, layout: str) -> Tensor:
        """Hessian of the mean squared output error with respect to a row of the weight.

        H = 2/n sum x x^T (arXiv 2301.00774, section 3), columns in the order of `layout`.

        Returns
        -------
        Tensor
            Shape (groups, columns, columns), symmetric.

        Raises
        ------
        UserError
            If the layer saw no data, or if an input was NaN or infinite.
        """
        if self._gram is None:
            raise UserError(
                f"layer {self._name!r} saw no calibration data: the model never calls it as a "
                f"module; leave it out with exclude=[{self._name!r}]"
            )
        if not self._gram.diagonal(dim1=-2, dim2=-1).isfinite().all():
            raise UserError(
                f"the inputs of layer {self._name!r} hold NaN or infinite values, or overflow: "
                "check the calibration batches and the weights of the layers before it"
            )
        upper = self._gram.triu() * (2 / self.count)
        hessian = upper + upper.triu(1).mT
        channels = self._layer.weight.shape[1]
        order = from_channels_order(hessian.shape[-1], channels, layout).to(hessian.device)
        return hessian if layout == "channels" else hessian[:, order][:, :, order]


def _add_upper_gram(gram: Tensor, rows: Tensor) -> None:
    """Add rows^T rows to the upper triangle of `gram`; below it anything may be left."""
    columns = gram.shape[-1]
    step = columns if columns < 2 * _BLOCK else _BLOCK
    for start in range(0, columns, step):
        left, right = rows[:, :, start : start + step].mT, rows[:, :, start:]
        target = gram[:, start : start + step, start:]
        if len(gram) == 1:
            target[0].addmm_(left[0], right[0])
        else:
            target.baddbmm_(left, right)
