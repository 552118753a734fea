"""Sharing the GPUs of one machine among jobs that know nothing of each other."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout


def driver_found() -> bool:
    """Whether NVIDIA's driver is here, and CUDA_VISIBLE_DEVICES does not hide every GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return shutil.which("nvidia-smi") is not None and not hidden


@contextmanager
def claim_gpu(gpus: Sequence[str], folder: Path) -> Iterator[int]:
    """Claim the GPU that holds the fewest claims, for as long as the block runs.

    How many jobs run at once is the scheduler's to say; this spreads them. A claim is a locked
    file, which the operating system unlocks however its process ends.

    Parameters
    ----------
    gpus
        A name for each GPU that this process could use, the same in every process.
    folder
        Of the lock files; made when needed.

    Yields
    ------
    The GPU's index in `gpus`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # One claim at a time, or two jobs would count the same and choose the same.
    with FileLock(folder / "claims.lock"):
        slots = [_free_slot(folder, gpu) for gpu in gpus]
        loads = [load for load, _ in slots]
        chosen = loads.index(min(loads))
        claim = slots[chosen][1]
        for _, slot in slots:
            if slot is not claim:
                slot.release()
    try:
        yield chosen
    finally:
        claim.release()


def _free_slot(folder: Path, gpu: str) -> tuple[int, FileLock]:
    """How many claims a GPU holds, and a lock for one more, held."""
    claims = 0
    free: FileLock | None = None
    for slot in count():
        path = folder / f"{gpu}.{slot}.lock"
        if free and not path.exists():
            break
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            claims += 1
            continue
        if free:
            lock.release()
        free = free or lock
    assert free
    return claims, free
