import logging
import os
import sys

import pytest
import torch

from sparsecnn.device import (
    full_precision,
    memory_explained,
    precision,
    refusals_explained,
    use_device,
)
from sparsecnn.errors import UserError
from sparsecnn.pruning.methods import block_pruners


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_gpu_without_memory_is_one_line_with_advice(error, caplog):
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(UserError) as found,
        memory_explained("buy another"),
    ):
        raise error
    assert str(found.value) == "the GPU has too little free memory; buy another"
    assert f"torch says: {error}" in caplog.text


def test_memory_that_a_network_lacks_in_a_batch_is_said_too():
    with pytest.raises(UserError, match=r"^the GPU has too little"), memory_explained(""):
        raise UserError("batch 1: it raised OutOfMemoryError") from torch.OutOfMemoryError()
    with pytest.raises(UserError, match=r"^batch 1"), memory_explained(""):
        raise UserError("batch 1: it raised ValueError") from ValueError("out of memory")
    with pytest.raises(UserError, match=r"^batch 1"), memory_explained(""):
        raise UserError("batch 1: it raised nothing")


def test_an_operation_that_is_refused_is_one_line_with_advice():
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        with pytest.raises(UserError) as found, refusals_explained():
            torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
    finally:
        torch.set_deterministic_debug_mode(before)
    assert str(found.value).startswith("put_, which the network needs, has no deterministic form")
    assert "`training: {deterministic: false}`" in str(found.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(""), refusals_explained():
        raise RuntimeError("shapes cannot be multiplied")


def test_tf32_is_off_inside_and_as_it_was_behind():
    cudnn = torch.backends.cudnn
    backends = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    before = [backend.fp32_precision for backend in backends]
    with full_precision():
        assert [backend.fp32_precision for backend in backends] == ["ieee"] * 3
    assert [backend.fp32_precision for backend in backends] == before


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"avx512_f": True, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"architecture": "aarch64", "bf16": True}, torch.float32),
    ],
)
def test_a_cpu_trains_in_the_format_that_it_has_instructions_for(monkeypatch, there, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: there)
    cpu = torch.device("cpu")
    assert precision("auto", cpu) == expected
    assert precision("float32", cpu) == torch.float32
    assert precision("bfloat16", cpu) == torch.bfloat16
    assert precision("auto", torch.device("mps")) == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU")
@pytest.mark.parametrize(("visible", "warned"), [(None, True), ("", False)])
def test_a_driver_without_a_gpu_for_torch_is_said(tmp_path, monkeypatch, caplog, visible, warned):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with caplog.at_level(logging.WARNING), use_device("auto", deterministic=False) as device:
        assert device.type == "cpu"
    assert ("finds no GPU" in caplog.text) == warned


def test_without_a_working_triton_the_slower_path_is_taken_and_said(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)  # an import of it fails
    block_pruners._triton_works.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not block_pruners._triton_works()
    assert "slower path" in caplog.text
    block_pruners._triton_works.cache_clear()
