"""Show the uses of each weight to what is solved from them: dense, or in the network as pruned."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.moments import Consumer
from sparsecnn.pruning.calibration.survey import Survey
from sparsecnn.pruning.calibration.trajectory import Passes, Stop, Trips, ended
from sparsecnn.pruning.state import TwoStates

_KEPT = 2.0
"""What activations take of memory, in their own size: of what the threads of passes free, glibc
keeps much. Measured with 8 to 64 passes of ResNet-50: 1.4 to 2.1."""

Feed = Callable[[Mapping[str, Consumer]], None]


@dataclass(frozen=True)
class Round:
    """Weights to prune next, all from the same data."""

    names: list[str]
    feed: Feed
    """Shows each consumer, by name of weight, all calls of it; as often as it is called."""


@dataclass(frozen=True)
class Walks:
    """How the network is walked through.

    `before` pauses before the uses of the chosen weights, `after` after them, for what the dense
    network has there. `count` is the number of batches, and `states` puts the dense network in the
    place of the one pruned so far.
    """

    before: Passes
    after: Passes
    count: int
    states: TwoStates


def independent(walks: Walks, groups: Sequence[list[str]]) -> Generator[Round, None, None]:
    """Rounds whose inputs all come from the dense network; a round for each group of names.

    Every feeding costs a forward pass of all batches, one after the other.
    """

    def feed(consumers: Mapping[str, Consumer]) -> None:
        for index in range(walks.count if consumers else 0):
            with walks.states.dense(), closing(walks.before.stops(index)) as stops:
                for stop in stops:
                    if stop.name in consumers:
                        consumers[stop.name].add(stop.call)

    for names in groups:
        yield Round(names, feed)


def sequential(
    walks: Walks, survey: Survey, names: Sequence[str], target: str, bounds: Mapping[str, float]
) -> Generator[Round, None, None]:
    """A round for each weight, whose inputs come from the network as pruned so far.

    All batches are walked through the network together, so that the whole costs one forward pass.
    A weight that is used more than once is pruned after its last use. The passes of those batches
    whose activations would take more than `bounds` says for a weight, in bytes, are dropped and
    begin again from the batch at the next weight.

    Parameters
    ----------
    target
        What a layer shall reconstruct: its ``own`` outputs on the inputs it gets, or the outputs
        it has in the ``dense`` network, which lets it correct the errors of earlier layers (a
        second pass, through the dense network, alongside).
    """
    positions = survey.positions(dict.fromkeys(names))
    pruned, dense = Trips(walks.before), Trips(walks.after)
    with ended(pruned, dense):
        for name in sorted(names, key=lambda name: positions[name][-1]):
            places = positions[name]
            show = partial(_show, name, places, pruned, dense if target == "dense" else None, walks)

            def feed(
                consumers: Mapping[str, Consumer],
                show: Callable[[int, Consumer], None] = show,
                bound: float = bounds[name],
                name: str = name,
            ) -> None:
                _drop_beyond(bound, reversed(range(walks.count)), pruned, dense)
                for index in range(walks.count):
                    show(index, consumers[name])
                    _drop_beyond(bound, [index], pruned, dense)

            yield Round([name], feed)
            if len(places) > 1:  # the passes went through its earlier uses when it was dense
                pruned.close()


def _drop_beyond(bound: float, indices: Iterable[int], *both: Trips) -> None:
    """Drop the passes of these batches, in this order, until all that are left are within it."""
    for index in indices:
        if _KEPT * sum(trips.held_bytes() for trips in both) <= bound:
            return
        for trips in both:
            trips.drop(index)


def _show(
    name: str,
    places: list[int],
    pruned: Trips,
    dense: Trips | None,
    walks: Walks,
    index: int,
    consumer: Consumer,
) -> None:
    """Show all uses of a weight in one batch."""
    for place in places:
        stop = _same_place(pruned.at(index, place), name)
        if dense is None:
            consumer.add(stop.call)
            continue
        with walks.states.dense():
            wanted = _same_place(dense.at(index, place), name)
        consumer.add(stop.call, wanted.outcome)


def _same_place(stop: Stop | None, name: str) -> Stop:
    if stop is None or stop.name != name:
        raise UserError(
            f"one batch reached layer {name!r} while another was elsewhere: such a model "
            "needs calibration 'independent'"
        )
    return stop
