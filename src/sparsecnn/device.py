"""Choosing the device, and making what it computes repeatable."""

import logging
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparsecnn.errors import UserError, in_a_line
from sparsecnn.gpus import claim_gpu, driver_found

logger = logging.getLogger(__name__)

ALLOWED = ("auto", "cpu", "cuda", "mps")


@contextmanager
def use_device(setting: str, *, deterministic: bool = True) -> Iterator[torch.device]:
    """The device that `setting` names: one of auto, cpu, cuda, mps; for the block to use.

    `auto` takes CUDA, then MPS, then the CPU. Of several GPUs it is the one that the fewest jobs
    of this user's are on; CUDA_VISIBLE_DEVICES says which there are to choose from. Also asks
    torch for deterministic algorithms, unless told otherwise.

    Raises `UserError` if the named device is not there, and where the block runs out of a GPU's
    memory or needs an operation that has no deterministic form there.
    """
    name = _available(setting)
    if deterministic:
        _make_deterministic(name)
    else:
        torch.backends.cudnn.benchmark = True
    if name != "cuda":
        if setting == "auto" and name == "cpu" and torch.version.cuda and driver_found():
            logger.warning(
                "there is an NVIDIA driver, but torch %s finds no GPU (is the driver older than "
                "CUDA %s needs?): on the CPU",
                *(torch.__version__, torch.version.cuda),
            )
        yield torch.device(name)
        return
    gpus = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    with claim_gpu(gpus, Path(tempfile.gettempdir()) / f"sparsecnn-{os.getuid()}") as index:
        logger.info("on GPU %d of %d, %s", index, len(gpus), torch.cuda.get_device_name(index))
        with memory_explained("run fewer jobs at once (--resources gpu=1)"), refusals_explained():
            torch.cuda.set_device(index)  # which takes half a gigabyte of it
            yield torch.device("cuda", index)


@contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Make a `UserError` with this advice of a GPU's running out of memory inside."""
    try:
        yield
    except (RuntimeError, UserError) as error:
        # While it prunes, what the network raises is the cause of a line about the batch.
        cause = error.__cause__ if isinstance(error, UserError) else error
        if not isinstance(cause, RuntimeError) or not _lacks_memory(cause):
            raise
        logger.info("torch says: %s", in_a_line(cause))
        raise UserError(f"the GPU has too little free memory; {advice}") from None


def _lacks_memory(error: RuntimeError) -> bool:
    # The driver, cuDNN and cuBLAS say so in words of their own.
    signs = ("out of memory", "unable to find an engine", "ALLOC_FAILED", "ALLOCATION_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Make a `UserError` of torch's refusing inside what has no deterministic form."""
    try:
        yield
    except RuntimeError as error:
        operation, refused, _ = str(error).partition(" does not have a deterministic")
        if not refused:
            raise
        raise UserError(
            f"{operation}, which the network needs, has no deterministic form on a GPU; set "
            "`training: {deterministic: false}`, which is for diagnostics too, or `device: cpu`"
        ) from None


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 inside: float32 products are float32 products."""
    cudnn: Any = torch.backends.cudnn
    backends = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    saved = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, saved, strict=True):
            backend.fp32_precision = precision


def device_name(device: torch.device) -> str:
    """What to record in a manifest: the GPU's name, or the processor's architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def cpu_threads(device: torch.device) -> int:
    """What to record in a manifest: threads that share a sum on the CPU; 0 for a GPU."""
    return 0 if device.type == "cuda" else torch.get_num_threads()


def precision(setting: str, device: torch.device) -> torch.dtype:
    """The number format that `setting` names: one of auto, float32, bfloat16.

    `auto` takes bfloat16 where the device has instructions for it, float32 elsewhere.
    """
    if setting == "auto":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[setting]


def number_format_name(number_format: torch.dtype) -> str:
    """What to record in a manifest, as `precision` takes it."""
    return str(number_format).removeprefix("torch.")


def _computes_in_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are instructions of the device, not emulated.

    Of CPUs those of the x86 kind alone, by AMX or AVX-512: no other has been measured.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        there = torch.cpu.get_capabilities()
        return any(there.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return False


def _available(setting: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if setting == "auto":
        setting = next(name for name, there in available.items() if there)
    if setting not in available:
        raise UserError(f"device {setting!r}: choose one of {', '.join(ALLOWED)}")
    if not available[setting]:
        raise UserError(f"device: {setting} was asked for but torch finds none; use device: auto")
    return setting


def _make_deterministic(device: str) -> None:
    if device == "mps":
        logger.warning("MPS has no deterministic max-pooling: equal seeds may differ in bits")
        return
    # cuBLAS reads this when its first handle is made; without it torch refuses to be exact.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True), which would import the compiler: 2 s a job.
    torch.set_deterministic_debug_mode("error")
    # Or every new tensor is filled with NaN first: a kernel more for most operations on a GPU.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
