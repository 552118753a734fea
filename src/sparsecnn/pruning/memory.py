"""What solving for layers takes of memory, known before it begins, and what there is."""

import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.inputs import CHUNK
from sparsecnn.pruning.leastsquares import worth_factoring
from sparsecnn.pruning.problem import COPIES, MATRICES
from sparsecnn.pruning.settings import Settings

SHARE = 0.75
"""Of the memory that is free, what pruning takes unless it is told a bound."""

MIB = 2**20

_CHUNKS = 3
"""Of a chunk's size at once: windows, rows, the rows of a group."""

_REFIT_COPIES = 19
"""Of the weight's size that there are at once while conjugate gradients refit it."""

_CGROUPS = Path("/sys/fs/cgroup")
_UNBOUNDED = 2**62
"""What version 1 of cgroups says where there is no bound."""


def available(device: torch.device) -> int:
    """Bytes that this process may still take; on a CPU as its cgroup and limits allow."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    bounds = [psutil.virtual_memory().available, *_left_in_cgroups()]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        bounds.append(limit - psutil.Process().memory_info().vms)
    return max(0, int(min(bounds)))


def usable(device: torch.device) -> int:
    """Bytes that pruning takes of these unless it is told a bound."""
    return int(SHARE * available(device))


def _left_in_cgroups() -> Iterator[int]:
    """What the control groups of this process leave of their bounds; schedulers set these."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif controllers == "memory":
            folder = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Within a container the path is that of its host, and the root is the group's own.
        own = folder / path.strip("/")
        for place in (own, *own.parents):
            yield from _left(place, *names)
            if place == folder:
                break


def _left(place: Path, most: str, now: str, reclaimable: str) -> Iterator[int]:
    """What one control group leaves, if it has a bound; copies of files make room when asked."""
    bound, used = _read(place / most).strip(), _read(place / now).strip()
    if bound.isdecimal() and used.isdecimal() and int(bound) < _UNBOUNDED:
        lines = (line.split() for line in _read(place / "memory.stat").splitlines())
        files = sum(int(line[1]) for line in lines if line[0] == reclaimable)
        yield int(bound) - int(used) + files


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@dataclass(frozen=True)
class Need:
    """What one layer takes, in bytes."""

    gathering: int
    """While data is gathered."""
    solving: int
    """While it is solved, that included."""


def hessian_bytes(shape: torch.Size, groups: int, dtype: torch.dtype) -> int:
    """Of a layer with a weight of this shape."""
    return groups * shape[1:].numel() ** 2 * dtype.itemsize


def layer_need(settings: Settings, shape: torch.Size, groups: int) -> Need:
    """What a layer with a weight of this shape takes, as measured with large ones.

    Without a Hessian that is 8 matrices of the weight's size; with one as many as the method names,
    or 19 if the refit is by conjugate gradients, and those of the Hessian's size that the method
    names; exact OBS holds at most `workspace_mb` more.
    """
    columns, weight = shape[1:].numel(), shape.numel() * settings.dtype.itemsize
    hessian = hessian_bytes(shape, groups, settings.dtype)
    if settings.needs != "hessian":
        return Need(8 * weight, 8 * weight)
    matrices = getattr(settings.method, "matrices", MATRICES)
    if settings.layout == "flattened":
        matrices += 1
    copies = getattr(settings.method, "copies", COPIES)
    if settings.refit and not worth_factoring(settings.pattern.most_kept(columns), columns):
        copies = max(copies, _REFIT_COPIES)
    solving = int(matrices * hessian) + copies * weight
    solving += min(getattr(settings.method, "workspace_mb", 0) * MIB, columns * weight)
    return Need(hessian + 2 * weight, solving)


@dataclass(frozen=True)
class Budget:
    """Memory for pruning, in bytes, and what each layer takes of it."""

    total: int
    needs: Mapping[str, Need]
    """By name of layer."""
    given: bool
    """Whether the caller set the total."""

    @property
    def chunk(self) -> int:
        """Bytes of unfolded inputs at a time. What is free decides nothing: sums depend on it."""
        return min(CHUNK, self.total // 8) if self.given else CHUNK

    def check(self, columns: Mapping[str, int]) -> None:
        """Raise `UserError` naming the largest layer if it does not fit.

        `columns` are the inputs of one output of each layer.
        """
        if not self.needs:
            return
        name = max(self.needs, key=self._peak)
        need = self._peak(name)
        if need <= self.total:
            return
        bound = (
            f"memory_mb={self.total // MIB}"
            if self.given
            else f"{self.total / 1e9:,.1f} GB, three quarters of what is free here"
        )
        raise UserError(
            f"layer {name!r}: a Hessian of its {columns[name]:,} inputs and what solves it take "
            f"about {need / 1e9:,.1f} GB, more than {bound}: set memory_mb to {-(-need // MIB)} or "
            f"more, leave the layer out (exclude=[{name!r}]), or take a method that needs no "
            "Hessian (magnitude or wanda without refit)"
        )

    def groups(self) -> list[list[str]]:
        """Layers that are gathered for together, in their order, each as many as fit."""
        groups: list[list[str]] = []
        held = besides = 0
        for name, need in self.needs.items():
            held += need.gathering
            besides = max(besides, self._peak(name) - need.gathering)
            if not groups or held + besides > self.total:
                groups.append([])
                held, besides = need.gathering, self._peak(name) - need.gathering
            groups[-1].append(name)
        return groups

    def left(self) -> dict[str, int]:
        """What activations may take when each layer is pruned, by its name."""
        return {name: self.total - self._peak(name) for name in self.needs}

    def _peak(self, name: str) -> int:
        need = self.needs[name]
        return max(need.solving, need.gathering + _CHUNKS * self.chunk)
