"""Moments of a layer's inputs and wanted outputs, accumulated batch by batch."""

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.float64 import sum_in_float64
from sparsecnn.pruning.calibration.inputs import input_rows
from sparsecnn.pruning.layouts import PrunableLayer, from_channels_order

_BLOCK = 192
"""Columns per block of the upper triangle: small enough that little below it is computed."""


class LayerMoments:
    """All that solving a layer needs to know of the data: add batches, read, drop.

    With x the input rows of the layer (see `input_rows`) and y the outputs it should have
    without its bias, these are the sums of x, x x^T, y, y x^T and y^T y.

    Memory: (groups, columns, columns) and (groups, rows, columns) matrices, and chunks of
    unfolded inputs of at most `memory_mb` MiB, however large the batches are.
    """

    def __init__(
        self,
        name: str,
        layer: PrunableLayer,
        memory_mb: float = 512,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._name = name
        self._layer = layer
        self._max_bytes = int(memory_mb * 2**20)
        self._dtype = dtype
        self._gram: Tensor | None = None
        self._cross: Tensor | None = None
        self._input_sum: Tensor | float = 0.0
        self._output_sum: Tensor | float = 0.0
        self._output_energy = 0.0
        self.count = 0
        """Input rows seen (of one convolution group)."""

    @torch.no_grad()
    def add(self, inputs: Tensor, outputs: Tensor | None = None) -> None:
        """Add what the layer was called with and, if they differ, the outputs it should have.

        Parameters
        ----------
        inputs
            As in `input_rows`.
        outputs
            The outputs to reconstruct, bias included; None stands for the layer's own.
        """
        for rows, wanted in input_rows(self._layer, inputs, outputs, self._max_bytes):
            rows = rows.to(torch.promote_types(rows.dtype, self._dtype))
            if self._gram is None:
                groups, _, columns = rows.shape
                self._gram = rows.new_zeros(groups, columns, columns)
            _add_upper_gram(self._gram, rows)
            self._input_sum = self._input_sum + rows.sum(1)
            self.count += rows.shape[1]
            if wanted is not None:
                self._add_outputs(rows, wanted.to(rows.dtype))

    def _add_outputs(self, rows: Tensor, outputs: Tensor) -> None:
        if self._layer.bias is not None:
            outputs = outputs - self._layer.bias.to(rows.dtype).view(len(rows), 1, -1)
        product = outputs.mT @ rows
        self._cross = product if self._cross is None else self._cross.add_(product)
        self._output_sum = self._output_sum + outputs.sum(1)
        self._output_energy += sum_in_float64(outputs.square())

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
            raise UserError(f"layer {self._name!r} saw no calibration data")
        if not self._gram.diagonal(dim1=-2, dim2=-1).isfinite().all():
            raise UserError(
                f"the inputs of layer {self._name!r} hold NaN or infinite values, or overflow: "
                "check the calibration batches and the weights of the layers before it"
            )
        _mirror_upper(self._gram)
        hessian = self._gram * (2 / self.count)
        order = self._order(layout)
        return hessian if layout == "channels" else hessian[:, order][:, :, order]

    def cross(self, layout: str) -> Tensor | None:
        """2/n sum y x^T, shape (groups, rows, columns); None if outputs were never given."""
        if self._cross is None:
            return None
        return self._cross[:, :, self._order(layout)] * (2 / self.count)

    @property
    def output_energy(self) -> float:
        """2/n sum y^T y over all groups."""
        return self._output_energy * 2 / self.count

    def mean_output_change(self, before: Tensor, after: Tensor, layout: str) -> Tensor:
        """Mean of (wanted output - output of `after`), per output channel.

        Parameters
        ----------
        before, after
            Canonical matrices, (groups, rows, columns), of the layer's weight and the new one.

        Returns
        -------
        Tensor
            Shape (out_channels,).
        """
        assert isinstance(self._input_sum, Tensor)
        mean = self._input_sum[:, self._order(layout), None] / self.count
        if isinstance(self._output_sum, Tensor):
            wanted = self._output_sum.unsqueeze(-1) / self.count
        else:
            wanted = before @ mean
        return (wanted - after @ mean).flatten()

    def _order(self, layout: str) -> Tensor:
        weight = self._layer.weight
        order = from_channels_order(weight[0].numel(), weight.shape[1], layout)
        return order.to(weight.device)


def _mirror_upper(gram: Tensor) -> None:
    """Copy the upper triangle to the lower, block by block: whole triangles pass slowly."""
    for start in range(0, gram.shape[-1], _BLOCK):
        here, rest = slice(start, start + _BLOCK), slice(start + _BLOCK, None)
        block = gram[:, here, here]
        block.copy_(block.triu() + block.triu(1).mT)
        gram[:, rest, here] = gram[:, here, rest].mT


def _add_upper_gram(gram: Tensor, rows: Tensor) -> None:
    """Add rows^T rows to the upper triangle of `gram`; below it anything may be left."""
    for start in range(0, gram.shape[-1], _BLOCK):
        block = slice(start, start + _BLOCK)
        left, right = rows[:, :, block].mT, rows[:, :, start:]
        target = gram[:, block, start:]
        if len(gram) == 1:
            target[0].addmm_(left[0], right[0])
        else:
            target.baddbmm_(left, right)
