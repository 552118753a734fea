"""Checkpoints of a training: verified files, of which the last two are kept."""

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from sparsecnn.artifacts import Manifest, environment, read_tensors, write_tensors
from sparsecnn.errors import UserError

logger = logging.getLogger(__name__)

_KIND = "checkpoint"
_KEPT = 2
_VALUE = "json"


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a training: after `step` steps of the epoch that follows `epoch` whole ones."""

    epoch: int
    step: int
    value: dict[str, Any]
    """Plain JSON."""
    tensors: dict[str, Tensor]

    @property
    def position(self) -> str:
        """The moment in words."""
        within = f" and {self.step} steps of the next" if self.step else ""
        return f"{self.epoch} epoch{'s' if self.epoch != 1 else ''}{within}"


class Checkpoints:
    """The checkpoints of one training, written by a thread while the training goes on.

    Used in a `with` block, whose end waits for the last of them.

    Parameters
    ----------
    folder
        Theirs alone; made when needed.
    identity
        Settings, code, parents, device and threads of the training. A checkpoint whose own differ,
        or that another version of torch wrote, is not loaded: it would end in other bits.
    """

    def __init__(self, folder: Path, identity: Manifest) -> None:
        self._folder = folder
        self._identity = replace(identity, kind=_KIND)
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._pending: Future[None] | None = None
        for leftover in folder.glob(".epoch-*"):  # of a process killed while writing
            leftover.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.shutdown()
        if error is None:
            self.flush()

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy the tensors and write them in the background.

        Raises `UserError` if the one before could not be written.
        """
        self.flush()
        # On the CPU `to` would give the very tensor that the next step changes.
        tensors = {name: t.detach().to("cpu", copy=True) for name, t in checkpoint.tensors.items()}
        self._pending = self._writer.submit(self._write, replace(checkpoint, tensors=tensors))

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that is whole and of this training; warns of each that is not."""
        for path in reversed(self._paths()):
            try:
                tensors, manifest = read_tensors(path, _KIND)
                self._check(path, manifest)
            except UserError as error:
                logger.warning("checkpoint not used: %s", str(error).partition("; delete")[0])
                continue
            epoch, step = (int(part) for part in path.stem.split("-")[1::2])
            value = json.loads(bytes(tensors.pop(_VALUE).tolist()))
            return Checkpoint(epoch, step, value, tensors)
        return None

    def remove(self) -> None:
        """Delete them all, once the training's result is safely written."""
        self.flush()
        shutil.rmtree(self._folder, ignore_errors=True)

    def flush(self) -> None:
        """Wait until all is written; `UserError` if it could not be."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def _write(self, checkpoint: Checkpoint) -> None:
        path = self._folder / f"epoch-{checkpoint.epoch:05}-step-{checkpoint.step:07}.safetensors"
        value = torch.tensor(list(json.dumps(checkpoint.value).encode()), dtype=torch.uint8)
        write_tensors(path, {**checkpoint.tensors, _VALUE: value}, self._identity)
        for old in self._paths()[:-_KEPT]:
            old.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*-step-*.safetensors"))

    def _check(self, path: Path, manifest: Manifest) -> None:
        mine = self._identity
        compared: Mapping[str, tuple[object, object]] = {
            "settings": (manifest.settings, mine.settings),
            "code": (manifest.code, mine.code),
            "data": (manifest.parents, mine.parents),
            "device": (manifest.device, mine.device),
            "number of threads": (manifest.threads, mine.threads),
            "torch version": (manifest.versions["torch"], environment()["torch"]),
        }
        other = [name for name, (theirs, ours) in compared.items() if theirs != ours]
        if other:
            raise UserError(f"{path}: it was made with other {' and '.join(other)}")
