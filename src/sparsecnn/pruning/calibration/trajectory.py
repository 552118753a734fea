"""Forward passes that pause wherever a watched weight is used.

Each pass runs in a thread of its own and hands over control when it reaches such a use, so that
all batches can be brought to the same place, the weight be pruned, and the passes go on from
there. The order is the order of the data, whatever branches the model takes, and the whole
model costs a single forward pass. Only one thread runs at a time.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import copy_context
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.calls import Call, Outcome, Watch
from sparsecnn.pruning.calibration.surroundings import Surroundings

logger = logging.getLogger(__name__)

PATIENCE = 300.0
"""Seconds from one stop to the next before a warning says what may be wrong."""


@dataclass(frozen=True)
class Stop:
    """Where a pass pauses: a use of a weight, before or after it is computed."""

    name: str
    call: Call
    outcome: Outcome | None
    """None before."""


@dataclass(frozen=True)
class Passes:
    """How to run a model on some batches, and where to pause.

    `run` calls it with the batch of a number, in a thread that is in `surroundings`. `names` are
    those of the weights to pause at, by id. `after` pauses after their use, in place of before.
    """

    run: Callable[[int], object]
    surroundings: Surroundings
    names: Mapping[int, str]
    after: bool = False

    def start(self, index: int) -> "Pass":
        """A pass of one batch, which has not begun."""
        return Pass(self, index)

    def stops(self, index: int) -> Generator[Stop, None, None]:
        """All stops of one batch, one after the other."""
        with closing(self.start(index)) as one:
            while (stop := one.advance()) is not None:
                yield stop


class _Abandoned(BaseException):
    """Unwinds a pass that nobody waits for any more."""


class _PausingWatch(Watch):
    """Hands each stop to `pause`, and keeps account of the tensors that are computed."""

    def __init__(
        self, names: Mapping[int, str], pause: Callable[[Stop], None], *, after: bool
    ) -> None:
        super().__init__(names)
        self._pause = pause
        self._after = after
        self._results: dict[int, weakref.ref[Tensor]] = {}

    def before(self, name: str, call: Call) -> None:
        if not self._after:
            self._pause(Stop(name, call, None))

    def after(self, name: str, call: Call, output: Tensor) -> None:
        if self._after:
            self.computed(output)
            self._pause(Stop(name, call, Outcome(output, call.bias)))

    def read(self, name: str, function: str) -> None:
        raise UserError(
            f"layer {name!r}: a batch uses its weight in {function}, which the first did not; "
            "leave the layer out with exclude"
        )

    def computed(self, result: Tensor) -> None:
        self._results[id(result)] = weakref.ref(result)

    def held_bytes(self) -> int:
        """Of the tensors computed that are still there."""
        alive = {key: ref() for key, ref in self._results.items()}
        self._results = {key: self._results[key] for key, one in alive.items() if one is not None}
        storages = {}
        for tensor in alive.values():
            if tensor is not None and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                storages[storage._cdata] = storage.nbytes()
        return sum(storages.values())


class Pass:
    """One forward pass. Advance it from stop to stop; close it where it is."""

    def __init__(self, passes: Passes, index: int) -> None:
        self.stop: Stop | None = None
        """Where it is; None before it begins and when it has ended."""
        self.count = 0
        """Stops it has come to."""
        self._passes, self._index = passes, index
        run = copy_context().run  # or context variables would be at their defaults
        self._thread = threading.Thread(
            target=run, args=(self._run,), name="forward pass", daemon=True
        )
        self._watch = _PausingWatch(passes.names, self._pause, after=passes.after)
        self._resume, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._closed = False

    def advance(self) -> Stop | None:
        """Go on to the next stop; None at the end. Raises what the model raises."""
        if self.count == 0 and not self._thread.is_alive():
            self._thread.start()
        self.stop = None
        torch.clear_autocast_cache()  # of all threads; weights may be others than when it paused
        self._resume.release()
        while not self._paused.acquire(timeout=PATIENCE):
            logger.warning(
                "a batch took %g s without reaching the next layer: if the model holds a lock in "
                "its forward pass, batches wait for each other; use calibration='independent'",
                PATIENCE,
            )
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # holds this frame
        if self.stop is not None:
            self.count += 1
        return self.stop

    def held_bytes(self) -> int:
        """What its activations take where it is."""
        return self._watch.held_bytes()

    def abandon(self) -> None:
        """Let it end by itself, where it is."""
        self.stop = None
        self._closed = True
        self._resume.release()

    def close(self) -> None:
        """End it where it is."""
        self.abandon()
        if self._thread.is_alive():
            self._thread.join()
        del self._watch  # each holds the other, and the pass the model

    def _run(self) -> None:
        self._resume.acquire()
        try:
            if not self._closed:
                with self._passes.surroundings.entered(), self._watch:
                    self._passes.run(self._index)
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self._paused.release()

    def _pause(self, stop: Stop) -> None:
        """Called in the thread of the pass."""
        if not self._closed:  # a model that catches everything goes on
            self.stop = stop
            del stop
            self._paused.release()
            self._resume.acquire()
        if self._closed:
            raise _Abandoned


class Trips:
    """The passes of all batches through one network, brought to a stop of any number.

    One that has been dropped, or is beyond the stop, starts again from its batch.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._under_way: dict[int, Pass] = {}
        self._held: dict[int, int] = {}

    def at(self, index: int, number: int) -> Stop | None:
        """The stop of this number, from 0, of one batch; None if it has fewer."""
        if index in self._under_way and self._under_way[index].count > number + 1:
            self.drop(index)
        one = self._under_way.get(index) or self._passes.start(index)
        self._under_way[index] = one
        while one.count <= number:
            if one.advance() is None:
                self.drop(index)
                return None
        self._held[index] = one.held_bytes()
        return one.stop

    def held_bytes(self) -> int:
        """What the activations of all passes under way take."""
        return sum(self._held.values())

    def drop(self, index: int) -> None:
        """End the pass of this batch where it is."""
        self._held.pop(index, None)
        if one := self._under_way.pop(index, None):
            one.close()

    def abandon(self) -> None:
        """Let all end by themselves."""
        for one in self._under_way.values():
            one.abandon()

    def close(self) -> None:
        """End all."""
        for index in list(self._under_way):
            self.drop(index)


@contextmanager
def ended(*trips: Trips) -> Iterator[None]:
    """On leaving all are closed, none before all may end: one may hold what another waits for."""
    try:
        yield
    finally:
        for one in trips:
            one.abandon()
        for one in trips:
            one.close()
