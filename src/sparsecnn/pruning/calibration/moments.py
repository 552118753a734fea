"""Moments of a weight's inputs and wanted outputs, accumulated batch by batch."""

from typing import Protocol

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.float64 import sum_in_float64
from sparsecnn.pruning.calibration.calls import Call, Outcome
from sparsecnn.pruning.calibration.inputs import CHUNK, Sampled, input_rows, input_sums
from sparsecnn.pruning.layouts import from_channels_order

_BLOCK = 192
"""Columns per block of the upper triangle: small enough that little below it is computed."""


class Consumer(Protocol):
    """What is shown the uses of one weight."""

    def add(self, call: Call, wanted: Outcome | None = None) -> None:
        """Take in one call, and what the dense network had in its place if that is wanted."""
        ...


class LayerMoments:
    """All that solving for a weight needs to know of the data: add calls, read, drop.

    With x the input rows of the operation (see `input_rows`) and y the outputs it should have
    without its bias, these are the sums of x, x x^T, y, y x^T and y^T y.

    Memory: (groups, columns, columns) and (groups, rows, columns) matrices, and chunks of
    unfolded inputs of at most `chunk` bytes, however large the batches are.
    """

    def __init__(
        self,
        name: str,
        weight: Tensor,
        *,
        chunk: int = CHUNK,
        dtype: torch.dtype = torch.float32,
        diagonal_only: bool = False,
        positions_per_image: int | None = None,
    ) -> None:
        """With `diagonal_only` there is no sum of x x^T but its diagonal, and no wanted output.

        Of each image a convolution is shown at most so many positions.
        """
        self._name = name
        self._shape = weight.shape
        self._max_bytes = chunk
        self._dtype = dtype
        self._diagonal_only = diagonal_only
        self._positions = positions_per_image
        self._images = 0
        self._gram: Tensor | None = None
        self._scaled = False
        self._squares: Tensor | None = None
        self._cross: Tensor | None = None
        self._input_sum: Tensor | float = 0.0
        self._output_sum: Tensor | float = 0.0
        self._output_energy = 0.0
        self.count = 0
        """Input rows seen (of one convolution group)."""

    @torch.no_grad()
    def add(self, call: Call, wanted: Outcome | None = None) -> None:
        """Add one use of the weight, and the outputs it should have if not its own."""
        assert not self._scaled, "the Hessian has been taken"
        if self._diagonal_only:
            total, squares, count = input_sums(call, self._dtype)
            self._input_sum = self._input_sum + total
            self._squares = squares if self._squares is None else self._squares + squares
            self.count += count
            return
        outputs = None if wanted is None else wanted.output
        sampled = None if self._positions is None else Sampled(self._positions, self._images)
        self._images += len(call.inputs)
        for rows, part in input_rows(call, outputs, self._max_bytes, sampled):
            rows = rows.to(torch.promote_types(rows.dtype, self._dtype))
            self._input_sum = self._input_sum + rows.sum(1)
            self.count += rows.shape[1]
            if self._gram is None:
                groups, _, columns = rows.shape
                self._gram = rows.new_zeros(groups, columns, columns)
            _add_upper_gram(self._gram, rows)
            if part is not None and wanted is not None:
                self._add_outputs(rows, part.to(rows.dtype), wanted.bias)

    def _add_outputs(self, rows: Tensor, outputs: Tensor, bias: Tensor | None) -> None:
        if bias is not None:
            outputs = outputs - bias.to(rows.dtype).view(len(rows), 1, -1)
        product = outputs.mT @ rows
        self._cross = product if self._cross is None else self._cross.add_(product)
        self._output_sum = self._output_sum + outputs.sum(1)
        self._output_energy += sum_in_float64(outputs.square())

    def hessian(self, layout: str) -> Tensor:
        """Hessian of the mean squared output error with respect to a row of the weight.

        H = 2/n sum x x^T (arXiv 2301.00774, section 3), columns in the order of `layout`. Nothing
        can be added afterwards.

        Returns
        -------
        Tensor
            Shape (groups, columns, columns), symmetric; not to be changed.

        Raises
        ------
        UserError
            If the layer saw no data, or if an input was NaN or infinite.
        """
        if self._gram is None:
            raise UserError(f"layer {self._name!r} saw no calibration data")
        if not self._scaled:
            require_finite(self._name, self._gram.diagonal(dim1=-2, dim2=-1))
            _mirror_upper(self._gram)
            self._gram.mul_(2 / self.count)
            self._scaled = True
        if layout == "channels":
            return self._gram
        order = self._order(layout)
        return self._gram[:, order.unsqueeze(1), order]

    def diagonal(self, layout: str) -> Tensor:
        """Diagonal of `hessian`, shape (groups, columns); raises as that."""
        if not self._diagonal_only:
            return self.hessian(layout).diagonal(dim1=-2, dim2=-1)
        if self._squares is None:
            raise UserError(f"layer {self._name!r} saw no calibration data")
        require_finite(self._name, self._squares)
        return self._squares[:, self._order(layout)] * (2 / self.count)

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
        assert isinstance(self._input_sum, Tensor)
        order = from_channels_order(self._shape[1:].numel(), self._shape[1], layout)
        return order.to(self._input_sum.device)


class OutputError:
    """||W x - Q x||^2 and ||W x||^2 over all calls, W a weight and Q what takes its place.

    What methods without a Hessian are measured by: no matrix is larger than the outputs.
    """

    def __init__(self, name: str, weight: Tensor, pruned: Tensor) -> None:
        """Both of the weight's shape, in the dtype to compute in."""
        self._name = name
        self._weight, self._change = weight, weight - pruned
        self._error, self._energy = 0.0, 0.0
        self.count = 0
        """Input rows seen (of one convolution group)."""

    @torch.no_grad()
    def add(self, call: Call, wanted: Outcome | None = None) -> None:
        """Add one use of the weight."""
        assert wanted is None, "only the weight's own outputs are compared"
        outputs = call.apply(self._weight)
        self.count += outputs.numel() // len(self._weight)
        self._energy += sum_in_float64(outputs.square())
        self._error += sum_in_float64(call.apply(self._change).square())

    def relative(self) -> float:
        """Their ratio; 0 where the outputs are. Raises `UserError` if an input was not finite."""
        require_finite(self._name, torch.tensor(self._energy))
        return self._error / self._energy if self._energy > 0 else 0.0


def require_finite(name: str, sums: Tensor) -> None:
    """Raise `UserError` if sums over a layer's inputs are NaN or infinite."""
    if not sums.isfinite().all():
        raise UserError(
            f"the inputs of layer {name!r} hold NaN or infinite values, or overflow: "
            "check the calibration batches and the weights of the layers before it"
        )


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
