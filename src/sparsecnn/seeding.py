"""Independent random streams, one per purpose, all derived from a run's seed."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run, e.g. ``derive_seed(0, "order", epoch)``.

    Streams of different purposes are unrelated, so drawing more from one (a longer training,
    another augmentation) never shifts another.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
