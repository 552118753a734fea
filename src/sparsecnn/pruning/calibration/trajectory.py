"""Forward passes that pause at every chosen layer.

Each pass runs in a thread of its own and hands over control when it reaches a layer, so that
all batches can be brought to the same layer, the layer be pruned, and the passes go on from
there. The order is the order of the data, whatever branches the model takes, and the whole
model costs a single forward pass. Only one thread runs at a time.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Stop = tuple[str, Tensor]
"""Name of a layer, and the tensor that reached it (or left it)."""


class _Abandoned(BaseException):
    """Unwinds a pass that nobody waits for any more."""


class _Pass:
    """One forward pass; iterate to get its stops."""

    def __init__(self, model: nn.Module, batch: Tensor) -> None:
        self.thread = threading.Thread(target=self._run, name="forward pass", daemon=True)
        self._model = model
        self._batch: Tensor | None = batch
        self._resume = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._stop: Stop | None = None
        self._error: BaseException | None = None
        self._abandoned = False

    def __iter__(self) -> Iterator[Stop]:
        self.thread.start()
        while True:
            self._resume.release()
            self._paused.acquire()
            if self._error is not None:
                raise self._error
            if self._stop is None:
                return
            stop, self._stop = self._stop, None
            yield stop

    def _run(self) -> None:
        self._resume.acquire()
        try:
            with torch.no_grad():
                batch, self._batch = self._batch, None
                if batch is not None and batch.is_cuda:
                    torch.cuda.set_device(batch.device)
                    batch.new_zeros(1)  # cuBLAS warns if it is the first to run in a thread
                self._model(batch)
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self._paused.release()

    def pause(self, stop: Stop) -> None:
        """Called by the hooks, in the thread of the pass."""
        self._stop = stop
        del stop
        self._paused.release()
        self._resume.acquire()
        if self._abandoned:
            raise _Abandoned

    def abandon(self) -> None:
        """End the pass where it is."""
        if self.thread.is_alive():
            self._abandoned = True
            self._resume.release()
            self.thread.join()


@contextmanager
def paused_passes(
    model: nn.Module,
    batches: Sequence[Tensor],
    layers: Mapping[str, nn.Module],
    *,
    after: bool = False,
) -> Iterator[Iterator[tuple[Stop, ...]]]:
    """Run the model on all batches at once, pausing whenever all have reached a layer.

    Parameters
    ----------
    layers
        The layers of `model` to pause at, by name.
    after
        Pause after the layer and give its output, in place of before it and its input.

    Yields
    ------
    Iterator
        Per pause, one (name, tensor) for each batch. A name comes as often as its layer is used.
    """
    passes = [_Pass(model, batch) for batch in batches]
    running = {one.thread: one for one in passes}

    def before_hook(name: str) -> Any:
        return lambda _, args, kwargs: pause(name, args[0] if args else kwargs["input"])

    def after_hook(name: str) -> Any:
        return lambda _, __, output: pause(name, output)

    def pause(name: str, tensor: Tensor) -> None:
        running[threading.current_thread()].pause((name, tensor))

    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = (
                layer.register_forward_hook(after_hook(name))
                if after
                else layer.register_forward_pre_hook(before_hook(name), with_kwargs=True)
            )
            stack.callback(handle.remove)
        for one in passes:
            stack.callback(one.abandon)
        yield zip(*(iter(one) for one in passes), strict=True)
