"""Ending a long job when asked to, at a moment of its own choosing."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """Note SIGTERM (a scheduler's) and SIGINT (Ctrl-C) instead of ending at once.

    Yields a function that gives the name of the signal that came, or None. A second signal acts
    as if this were not there. Only the main thread can use it.
    """
    came: list[str] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number).name)
        restore()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield lambda: came[0] if came else None
    finally:
        restore()
