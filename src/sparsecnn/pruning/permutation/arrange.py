"""Put the channels of a network into an order that costs N:M pruning less."""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.reparametrized import plain_weights
from sparsecnn.pruning.calibration.batches import CalibrationData
from sparsecnn.pruning.calibration.moments import LayerMoments
from sparsecnn.pruning.calibration.surroundings import Surroundings
from sparsecnn.pruning.calibration.survey import survey
from sparsecnn.pruning.calibration.trajectory import Passes
from sparsecnn.pruning.model.weights import find_weights
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.permutation.importance import counted, importance
from sparsecnn.pruning.permutation.search import best_order, kept
from sparsecnn.pruning.permutation.streams import Stream, Streams
from sparsecnn.pruning.permutation.trace import outputs_of, trace
from sparsecnn.pruning.result import Permutation, PermutedStream
from sparsecnn.pruning.selection import Choice
from sparsecnn.pruning.settings import Settings
from sparsecnn.pruning.state import TwoStates, module_by_module

logger = logging.getLogger(__name__)

_NAMED = 3
_SAME = 1e-4
"""How far outputs may be from what they were, relative to the largest. Sums in another order alone
were seen to make 1.4e-5, and no mistake so little."""


@dataclass(frozen=True)
class _Runs:
    """Forward passes of a model, in threads in the caller's surroundings but for autocast."""

    model: nn.Module
    data: CalibrationData
    surroundings: Surroundings

    def streams(self) -> Streams:
        """Those of the model, by its first batch."""
        found: list[Streams] = []
        self._run(lambda: found.append(trace(self.model, lambda: self.data.run(0))))
        return found[0]

    def outputs(self) -> list[Tensor]:
        """What the model gives for its first batch."""
        found: list[Tensor] = []
        self._run(lambda: found.extend(outputs_of(self.model, lambda: self.data.run(0))))
        return [one.detach().clone() for one in found if one.is_floating_point()]

    def diagonals(self, names: Mapping[int, str]) -> dict[int, Tensor]:
        """Those of the Hessians of weights, (columns,), by the ids of these."""
        tensors = {id(one): one for one in self.model.parameters() if id(one) in names}
        moments = {
            names[key]: LayerMoments(names[key], one, diagonal_only=True)
            for key, one in tensors.items()
        }
        passes = Passes(self.data.run, self.surroundings, names)
        for index in range(len(self.data)):
            with closing(passes.stops(index)) as stops:
                for stop in stops:
                    moments[stop.name].add(stop.call)
        return {key: moments[names[key]].diagonal("channels")[0] for key in tensors}

    def _run(self, what: Callable[[], object]) -> None:
        gpus = {p.device for p in self.model.parameters() if p.is_cuda}
        passes = Passes(
            lambda _: what(), replace(self.surroundings, autocast=(), inference=False), {}
        )
        with torch.random.fork_rng(gpus, device_type="cuda"):
            torch.manual_seed(0)  # networks with noise in them give equal outputs twice
            for _ in passes.stops(0):
                pass


@contextmanager
def arranged(
    model: nn.Module,
    data: CalibrationData,
    surroundings: Surroundings,
    settings: Settings,
    choose: Choice,
) -> Iterator[Permutation]:
    """The same network with its channels permuted inside; and afterwards, if nothing is raised.

    Raises
    ------
    UserError
        If a parameter is not reached by the first batch, or outputs are no longer the same.
    """
    before = TwoStates()
    with before:
        before.add(list(_all_tensors(model)))
        assert isinstance(settings.pattern, NM), "these settings are refused with another"
        yield _arrange(_Runs(model, data, surroundings), settings.pattern, choose)


def _all_tensors(model: nn.Module) -> Iterator[Tensor]:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_meta:
            yield tensor


def _arrange(runs: _Runs, pattern: NM, choose: Choice) -> Permutation:
    started = time.perf_counter()
    with plain_weights(runs.model) as (computed, ingredients):
        # Left before channels are permuted: it restores the buffers.
        with module_by_module(runs.model):
            weights = find_weights(runs.model, computed, ingredients)
            seen = survey(runs.model, weights, lambda: runs.data.run(0), runs.surroundings)
            reasons = choose(weights, seen)
            chosen = {id(weights[name].value): name for name, why in reasons.items() if not why}
            streams = runs.streams()
            _require_reached(streams, ingredients)
            diagonals = runs.diagonals(chosen)
            outputs = runs.outputs()
        found = [_permuted(stream, diagonals, chosen, pattern) for stream in streams.found]
        with module_by_module(runs.model):
            _require_same(outputs, runs.outputs())
    result = Permutation([one for one in found if one.readers], {})
    result.left.update(_left(streams, chosen, result))
    result.seconds = time.perf_counter() - started
    logger.info("permuted %d streams of channels in %.1f s", len(result.streams), result.seconds)
    return result


def _permuted(
    stream: Stream, diagonals: Mapping[int, Tensor], names: Mapping[int, str], pattern: NM
) -> PermutedStream:
    """A stream whose channels have been put in order; without readers if it was left alone."""
    readers = [names[id(place.tensor)] for place in counted(stream, diagonals, pattern)]
    order = torch.arange(stream.channels)
    before = after = 0.0
    if readers:
        values = importance(stream, diagonals, pattern)
        before = kept(values, order, pattern)
        order = best_order(values, pattern)
        after = kept(values, order, pattern)
        stream.permute(order)
    return PermutedStream(readers, stream.writers, order.tolist(), before, after)


def _left(streams: Streams, names: Mapping[int, str], result: Permutation) -> dict[str, str]:
    """By name of a weight to be pruned whose inputs keep their order, why they do."""
    done = {name for stream in result.streams for name in stream.readers}
    apart = "none of its groups is made of channels of one stream"
    return {name: streams.left.get(key, apart) for key, name in names.items() if name not in done}


def _require_same(before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """`UserError` unless outputs are what they were, to rounding."""
    if not before:
        raise UserError(
            "permute_channels: neither the model nor forward returns a tensor by which it could be "
            "checked that outputs stay the same"
        )
    for one, other in zip(before, after, strict=True):
        most = max(_SAME, 8 * torch.finfo(one.dtype).eps) * float(one.abs().max())
        if one.shape != other.shape or not torch.allclose(one, other, rtol=0, atol=most):
            raise UserError(
                f"permute_channels: outputs of the model change by up to "
                f"{float((one - other).abs().max()):.2g} of {float(one.abs().max()):.2g}, though "
                "they must not: it does with channels what cannot be seen. Nothing was changed; "
                "prune it without permute_channels"
            )


def _require_reached(streams: Streams, ingredients: Collection[int]) -> None:
    """`UserError` unless it is known of all parameters which channels they have.

    `ingredients` are the ids of those from which weights are computed, which stand for them.
    """
    names = [name for key, name in streams.unreached.items() if key not in ingredients]
    if names:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        raise UserError(
            "permute_channels: the first calibration batch did not reach all parameters, so that "
            f"it cannot be known which channels they read (an auxiliary head?): {shown}"
        )
