"""What pruning takes of memory, and what it does where there is little."""

import copy
import json
import resource
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paused_models import Branches, Recurrent, forward_threads
from pruning_oracles import call_of
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.models.custom_cnn import custom_cnn
from sparsecnn.pruning import PruningResult, memory, prune
from sparsecnn.pruning.calibration.inputs import CHUNK
from sparsecnn.pruning.calibration.moments import LayerMoments, OutputError
from sparsecnn.pruning.factor import Curvature
from sparsecnn.pruning.layouts import to_matrix
from sparsecnn.pruning.memory import MIB, Budget, Need, available, layer_need
from sparsecnn.pruning.methods.wanda import Wanda
from sparsecnn.pruning.patterns import NM
from sparsecnn.pruning.problem import Problem
from sparsecnn.pruning.settings import read_settings

CPU = torch.device("cpu")
GB = 10**9

# What is free


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 100 GB free, whose control groups are files of a folder."""
    free = SimpleNamespace(available=100 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    set_groups(monkeypatch, "0::/")
    return tmp_path


def set_groups(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Those that the process is in, as /proc/self/cgroup has them."""
    read = memory._read

    def pretended(path: Path) -> str:
        return lines if path == Path("/proc/self/cgroup") else read(path)

    monkeypatch.setattr(memory, "_read", pretended)


def bound_group(folder: Path, version: int, bound: object, used: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    most, now = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        2: ("memory.max", "memory.current"),
    }[version]
    (folder / most).write_text(f"{bound}\n")
    (folder / now).write_text(f"{used}\n")


def test_without_any_bound_all_that_the_machine_has_free_is_available(machine: Path) -> None:
    assert available(CPU) == 100 * GB
    bound_group(machine, 2, "max", 5)
    assert available(CPU) == 100 * GB


@pytest.mark.parametrize("version", [1, 2])
def test_copies_of_files_in_memory_make_room(
    machine: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    set_groups(monkeypatch, "4:memory:/" if version == 1 else "0::/")
    folder = machine / "memory" if version == 1 else machine
    bound_group(folder, version, 8 * GB, 7 * GB)
    kind = "total_inactive_file" if version == 1 else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{kind} {2 * GB}\nother_{kind} 9\n")
    assert available(CPU) == 3 * GB


@pytest.mark.parametrize(
    ("lines", "version", "folder"),
    [
        ("0::/", 2, ""),
        ("0::/jobs/job_7/step_0", 2, "jobs/job_7/step_0"),
        ("0::/jobs/job_7/step_0", 2, ""),  # within a container
        ("12:cpu,cpuacct:/\n4:memory:/slurm/job_7\n0::/", 1, "memory/slurm/job_7"),
        ("4:memory:/docker/0123", 1, "memory"),
    ],
)
def test_a_control_group_leaves_what_it_has_not_used(
    machine: Path, monkeypatch: pytest.MonkeyPatch, lines: str, version: int, folder: str
) -> None:
    set_groups(monkeypatch, lines)
    bound_group(machine / folder, version, 8 * GB, 3 * GB)
    assert available(CPU) == 5 * GB
    bound_group(machine / folder, version, 8 * GB, 9 * GB)
    assert available(CPU) == 0


def test_the_least_of_nested_groups_counts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_groups(monkeypatch, "0::/jobs/job_7/step_0")
    bound_group(machine / "jobs/job_7/step_0", 2, "max", GB)
    bound_group(machine / "jobs/job_7", 2, 8 * GB, 3 * GB)
    bound_group(machine / "jobs", 2, 64 * GB, 60 * GB)
    assert available(CPU) == 4 * GB


@pytest.mark.parametrize("bound", [2**63 - 4096, 2**64 - 1, 10**30])
def test_a_huge_number_is_no_bound(
    machine: Path, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    set_groups(monkeypatch, "4:memory:/")
    bound_group(machine / "memory", 1, bound, 3 * GB)
    assert available(CPU) == 100 * GB


def test_a_limit_of_the_address_space_counts(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda _: (taken + 2 * GB, resource.RLIM_INFINITY))
    assert available(CPU) == pytest.approx(2 * GB, abs=GB // 10)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (taken // 2, resource.RLIM_INFINITY))
    assert available(CPU) == 0


def test_of_a_gpu_what_is_free_and_what_torch_keeps_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2 * GB)
    assert available(torch.device("cuda", 0)) == 10 * GB


# What there is to be shared out


def budget(total: int, *, given: bool = False, **needs: tuple[int, int]) -> Budget:
    return Budget(total, {name: Need(*need) for name, need in needs.items()}, given)


def test_layers_are_gathered_for_together_as_many_as_fit() -> None:
    def groups(total: int) -> list[list[str]]:
        needs = {"a": (10, 30), "b": (10, 40), "c": (20, 25), "d": (5, 60)}
        return budget(total * GB, **{k: (g * GB, s * GB) for k, (g, s) in needs.items()}).groups()

    assert groups(100) == [["a", "b", "c", "d"]]  # 45 gathered, and 55 besides to solve for d
    assert groups(99) == [["a", "b", "c"], ["d"]]
    assert groups(69) == [["a", "b"], ["c"], ["d"]]
    assert groups(60) == [["a", "b"], ["c"], ["d"]]
    assert groups(1) == [["a"], ["b"], ["c"], ["d"]]
    assert budget(GB).groups() == []


def test_a_chunk_is_an_eighth_of_what_the_caller_gives_at_most() -> None:
    assert budget(800 * MIB, given=True).chunk == 100 * MIB
    assert budget(800 * GB, given=True).chunk == CHUNK
    # What is free differs from day to day, and sums with the chunk.
    assert budget(800 * MIB).chunk == CHUNK


def test_what_a_layer_leaves_of_the_total_is_for_activations() -> None:
    left = budget(800 * MIB, given=True, small=(MIB, 2 * MIB), large=(MIB, 600 * MIB)).left()
    assert left == {"small": 800 * MIB - (MIB + 3 * 100 * MIB), "large": 200 * MIB}


def test_a_layer_that_does_not_fit_is_named_with_what_to_do() -> None:
    needs = {"small": (GB, 2 * GB), "head.fc": (10 * GB, 22 * GB)}
    columns = {"small": 100, "head.fc": 50_000}
    budget(22 * GB, given=True, **needs).check(columns)
    budget(1).check({})
    with pytest.raises(UserError) as error:
        budget(4000 * MIB, given=True, **needs).check(columns)
    assert str(error.value) == (
        "layer 'head.fc': a Hessian of its 50,000 inputs and what solves it take about 22.0 GB, "
        "more than memory_mb=4000: set memory_mb to 20981 or more, leave the layer out "
        "(exclude=['head.fc']), or take a method that needs no Hessian (magnitude or wanda without "
        "refit)"
    )
    with pytest.raises(UserError, match=r"than 12\.0 GB, three quarters of what is free here: "):
        budget(12 * GB, **needs).check(columns)
    budget(20981 * MIB, given=True, **needs).check(columns)


def test_the_bound_that_is_asked_for_is_enough() -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(600, 8), [torch.randn(20, 600)]
    with pytest.raises(UserError, match="set memory_mb to") as error:
        prune(layer, inputs, memory_mb=1)
    asked = int(str(error.value).partition("set memory_mb to ")[2].split()[0])
    with pytest.raises(UserError, match=f"set memory_mb to {asked} or more"):
        prune(layer, inputs, memory_mb=asked - 1)
    prune(layer, inputs, memory_mb=asked)


# What getrusage says begins with what the process that started this one had.
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""

CHILD = (
    PEAK
    + """
import json, sys
import psutil, torch
from torch import nn
from sparsecnn.pruning import prune
columns, rows, options = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
layer, batch = nn.Linear(columns, rows), torch.randn(64, columns)
prune(nn.Linear(16, 8), [torch.randn(8, 16)], **options)  # what is loaded when first used
base = psutil.Process().memory_info().rss + layer.weight.nbytes  # a copy of it is made
prune(layer, [batch], **options)
print(peak() - base)
"""
)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")


def in_a_child(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


PUBLISHED = {"calibration": "independent", "refit": False}


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "rows", "options"),
    [
        *(
            (64, 300_000, options)
            for options in (
                {"method": "magnitude"},
                {"method": "random"},
                {"method": "wanda"},
                {"method": "wanda", "layout": "flattened"},
                {"method": "wanda", "bias_correction": True},
                {"method": "magnitude", "refit": True},
                {"method": "sparsegpt"},
                {"method": "sparsegpt", "pattern": "50%"},
                {"method": "sparsegpt", **PUBLISHED},
                {"method": "static_obs"},
                {"method": "admm"},
            )
        ),
        *(
            (4800, 16, options)
            for options in (
                {"method": "magnitude", "refit": True},
                {"method": "sparsegpt"},
                {"method": "sparsegpt", "layout": "flattened"},
                {"method": "sparsegpt", "column_order": "importance"},
                {"method": "sparsegpt", "precision": "float64"},
                {"method": "sparsegpt", **PUBLISHED},
                {"method": "static_obs"},
                {"method": "admm"},
            )
        ),
        (1200, 64, {"method": "exact_obs", "workspace_mb": 100}),
    ],
    ids=str,
)
def test_a_layer_takes_what_is_said_beforehand(
    columns: int, rows: int, options: dict[str, Any]
) -> None:
    need = layer_need(read_settings(**options), torch.Size([rows, columns]), 1)
    taken = int(in_a_child(CHILD, columns, rows, json.dumps(options)))
    assert 0.6 * need.solving <= taken <= 1.15 * need.solving


# What methods without a Hessian are told and measured by


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Conv2d | nn.Linear, Tensor]:
    torch.manual_seed(draw(st.integers(0, 1000)))
    if draw(st.booleans()):
        return nn.Linear(12, 5).double(), torch.randn(7, 12, dtype=torch.float64)
    groups = draw(st.sampled_from([1, 2]))
    layer = nn.Conv2d(groups * 4, groups * 3, (3, 2), (1, 2), 1, groups=groups)
    return layer.double(), torch.randn(3, groups * 4, 7, 6, dtype=torch.float64)


@settings(deadline=None, max_examples=25)
@given(layers())
def test_the_output_error_is_that_of_the_outputs(
    case: tuple[nn.Conv2d | nn.Linear, Tensor],
) -> None:
    layer, inputs = case
    call = call_of(layer, inputs)
    pruned = layer.weight.detach() * (torch.rand_like(layer.weight) < 0.5)
    error = OutputError("layer", layer.weight.detach(), pruned)
    for _ in range(2):
        error.add(call)
    changed = copy.deepcopy(layer)
    with torch.no_grad():
        layer.bias.zero_()  # type: ignore[union-attr]
        changed.bias.zero_()  # type: ignore[union-attr]
        changed.weight.copy_(pruned)
        outputs = layer(inputs)
        difference = outputs - changed(inputs)
    assert error.relative() == pytest.approx(
        float(difference.square().sum() / outputs.square().sum())
    )
    samples = len(inputs) if isinstance(layer, nn.Linear) else outputs[:, 0].numel()
    assert error.count == 2 * samples


def test_an_output_of_zeros_has_no_error() -> None:
    layer = nn.Linear(4, 2)
    error = OutputError("layer", layer.weight.detach(), layer.weight.detach() * 0)
    error.add(call_of(layer, torch.zeros(3, 4)))
    assert error.relative() == 0


@settings(deadline=None, max_examples=25)
@given(layers(), st.sampled_from(["channels", "flattened"]))
def test_wanda_takes_the_same_mask_from_the_diagonal_as_from_the_whole_hessian(
    case: tuple[nn.Conv2d | nn.Linear, Tensor], layout: str
) -> None:
    layer, inputs = case
    weight, groups = layer.weight.detach(), getattr(layer, "groups", 1)
    whole = LayerMoments("layer", weight)
    part = LayerMoments("layer", weight, diagonal_only=True, chunk=200)
    for moments in (whole, part):
        for image in inputs:
            moments.add(call_of(layer, image[None]))
    hessian, diagonal = whole.hessian(layout), part.diagonal(layout)
    torch.testing.assert_close(diagonal, hessian.diagonal(dim1=-2, dim2=-1))
    matrix = to_matrix(weight, groups, layout)
    shared = {"pattern": NM(2, 4), "prunable": matrix.shape[-1]}
    one = Wanda().solve(Problem(matrix, Curvature(hessian, 0.01), **shared))
    other = Wanda().solve(Problem(matrix, None, own_diagonal=diagonal, **shared))
    assert torch.equal(one.mask, other.mask)
    assert whole.count == part.count


@pytest.mark.parametrize("layout", ["channels", "flattened"])
@pytest.mark.parametrize("calibration", ["independent", "sequential"])
@pytest.mark.parametrize("method", ["magnitude", "wanda"])
def test_errors_and_masks_are_those_of_the_hessian(
    monkeypatch: pytest.MonkeyPatch, method: str, calibration: str, layout: str
) -> None:
    model, batches = Grouped(), images()
    options = {"method": method, "calibration": calibration, "layout": layout}
    plain = prune(copy.deepcopy(model), batches, **options)
    monkeypatch.setattr("sparsecnn.pruning.settings.Settings.needs", "hessian")
    whole = prune(copy.deepcopy(model), batches, **options)
    assert plain.masks.keys() == whole.masks.keys()
    for name, mask in plain.masks.items():
        assert torch.equal(mask, whole.masks[name])
    for one, other in zip(plain.layers, whole.layers, strict=True):
        assert one.samples == other.samples
        assert one.relative_error == pytest.approx(other.relative_error, rel=1e-4)


# Networks with little memory


class Counted(nn.Module):
    passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.run(x)

    def run(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Chain(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(24, 24) for _ in range(4)))

    def run(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x


class Grouped(Counted):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(4, 8, 3)
        self.grouped = nn.Conv2d(8, 16, 3, groups=2, stride=2)
        self.head = nn.Linear(16, 5)

    def run(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.grouped(self.stem(x).relu()).mean((2, 3)))
        return out


def images() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, 4, 9, 9) for n in (3, 5, 2)]


def rows(width: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, width) for n in (30, 50, 20)]


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left for activations, and every layer is gathered for by itself."""
    monkeypatch.setattr(Budget, "left", lambda self: dict.fromkeys(self.needs, 0))
    monkeypatch.setattr(Budget, "groups", lambda self: [[name] for name in self.needs])


def passes_of(
    model: Any, batches: list[Tensor], **options: Any
) -> tuple[float, dict[str, Tensor], PruningResult]:
    """Forward passes of a batch, without that of the survey; weights; and the result."""
    trial = copy.deepcopy(model)
    result = prune(trial, batches, **options)
    assert not forward_threads()
    return (trial.passes - 1) / len(batches), trial.state_dict(), result


SEQUENTIAL: dict[str, Any] = {"calibration": "sequential"}


@pytest.mark.parametrize(
    ("model", "batches", "options", "roomy", "tight"),
    [
        # Of two networks one pass each, or one for each of the layers.
        (Chain, rows(24), {}, 2, 2 * 4),
        (Chain, rows(24), {"target": "own"}, 1, 4),
        (Branches, images(), {}, 2, 2 * 4),
        (Branches, images(), {"include": ["second", "head"]}, 2, 2 * 2),
        # For its last use the layer used twice is gone back for, in both networks, and again to
        # the layer behind it in the one that is pruned.
        (Recurrent, rows(8), {}, 2 + 2 + 1, 2 * 3),
        # Wanda reads the inputs, and once more to be measured; magnitude is only measured.
        (Chain, rows(24), {"method": "magnitude", **SEQUENTIAL}, 1, 4),
        (Chain, rows(24), {"method": "wanda", **SEQUENTIAL}, 1, 2 * 4),
        (Chain, rows(24), PUBLISHED, 1, 4),
        (Grouped, images(), {"method": "wanda"}, 2, 2 * 3),
        (Grouped, images(), {"method": "magnitude"}, 1, 3),
        (Recurrent, rows(8), PUBLISHED, 1, 3),
    ],
)
def test_with_little_memory_passes_are_run_again_and_every_bit_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
    model: type[nn.Module],
    batches: list[Tensor],
    options: dict[str, Any],
    roomy: int,
    tight: int,
) -> None:
    torch.manual_seed(0)
    network = model()
    passes, weights, result = passes_of(network, batches, **options)
    assert passes == roomy
    no_room(monkeypatch)
    passes, others, other = passes_of(network, batches, **options)
    assert passes == tight
    for name, value in weights.items():
        assert torch.equal(value, others[name])
    assert [layer.relative_error for layer in result.layers] == [
        layer.relative_error for layer in other.layers
    ]
    assert result.masks.keys() == other.masks.keys()


def test_the_first_pass_keeps_no_inputs_of_layers() -> None:
    gone = []

    class Forgetful(Chain):
        def run(self, x: Tensor) -> Tensor:
            x = self.layers[0](x)
            memory = weakref.ref(x.untyped_storage())
            x = self.layers[1](x)
            gone.append(memory() is None)
            return x

    prune(Forgetful(), rows(24), include="layers.[01]")
    assert gone[0]


def test_those_batches_are_kept_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    batches = rows(24)
    # Of a row the batch and inputs in both networks, outputs in one, and as much that glibc keeps.
    taken = 24 * 4 * 5 * 2
    room = {"room": 0}
    monkeypatch.setattr(Budget, "left", lambda self: dict.fromkeys(self.needs, room["room"]))
    counts = {}
    for kept in (0, 30, 80, 100):
        room["room"] = taken * kept
        counts[kept] = round(3 * passes_of(Chain(), batches)[0])
    assert counts[100] == 2 * 3
    assert counts[0] == 2 * 3 * 4
    assert counts[0] > counts[30] > counts[80] > counts[100]


def test_the_parts_of_a_given_bound_are_the_same_however_much_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    network, batches = Chain(), rows(24)
    _, weights, _ = passes_of(network, batches)
    monkeypatch.setattr("sparsecnn.pruning.memory.available", lambda device: 2 * 3 * CHUNK)
    _, others, _ = passes_of(network, batches)
    for name, value in weights.items():
        assert torch.equal(value, others[name])


# A network with a layer of 73,728 inputs

WIDE = (
    PEAK
    + """
import sys
import psutil, torch
from sparsecnn.models.custom_cnn import custom_cnn
from sparsecnn.pruning import prune
torch.manual_seed(0)
model = custom_cnn(10, 1.0, 96)
batch = torch.randn(4, 3, 96, 96)
base = psutil.Process().memory_info().rss
result = prune(model, [batch], method=sys.argv[1])
print(len(result.masks), all(layer.relative_error is not None for layer in result.layers[1:]))
print((peak() - base) / 1e9)
"""
)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("method", ["magnitude", "random", "wanda"])
def test_a_wide_layer_is_pruned_in_little_memory_by_what_needs_no_hessian(method: str) -> None:
    """Its Hessian would take 21.7 GB, its weight takes 75 MB."""
    pruned, taken = in_a_child(WIDE, method).splitlines()
    assert pruned == "5 True"
    assert float(taken) < 0.9


def test_a_wide_layer_is_refused_in_one_line_or_left_out() -> None:
    torch.manual_seed(0)
    model, batches = custom_cnn(10, 1.0, 96), [torch.randn(4, 3, 96, 96)]
    with pytest.raises(UserError) as error:
        prune(model, batches, memory_mb=2000, method="sparsegpt")
    assert str(error.value) == (
        "layer 'classifier.1': a Hessian of its 73,728 inputs and what solves it take about 55.8 "
        "GB, more than memory_mb=2000: set memory_mb to 53208 or more, leave the layer out "
        "(exclude=['classifier.1']), or take a method that needs no Hessian (magnitude or wanda "
        "without refit)"
    )
    result = prune(model, batches, memory_mb=2000, exclude=["classifier.1"])
    assert "classifier.1" not in result.masks
    assert len(result.masks) == 4
