"""Where and how `prune` may be called, and that it leaves everything else as it was."""

import _thread
import gc
import logging
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from sparsecnn.errors import UserError
from sparsecnn.models import reparametrized
from sparsecnn.pruning import PruningResult, driver, prune
from sparsecnn.pruning.calibration import trajectory
from sparsecnn.pruning.calibration.surroundings import Surroundings


class Net(nn.Module):
    """Convolutions with a batch norm, an activation in place, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, bias=False)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)
        self.dropout = nn.Dropout(0.5)
        self.calls = 0
        self.at_call: dict[int, Callable[[], object]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        act = self.at_call.get(self.calls, int)
        x = nn.functional.relu(x, inplace=True)
        x = self.norm(self.stem(x)).relu()
        act()
        x = self.body(self.conv(x).relu().mean((2, 3))).relu()
        out: Tensor = self.head(self.dropout(x))
        return out


LAYERS = ["stem", "conv", "body", "head"]


def network(kind: Callable[[], nn.Module] = Net) -> Any:
    torch.manual_seed(0)
    return kind()


def images(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    kind = {"generator": generator, "device": "cpu", "dtype": torch.float32}
    return [torch.randn(4, 4, 6, 6, **kind) for _ in range(count)]


HOOKS = [name for name in vars(nn.Module()) if "_hooks" in name]


def hooks(module: nn.Module) -> dict[str, list[tuple[Any, int]]]:
    found = {name: getattr(module, name, None) or {} for name in HOOKS}
    return {name: [(key, id(hook)) for key, hook in one.items()] for name, one in found.items()}


def about_module(module: nn.Module) -> dict[str, Any]:
    return {
        "id": id(module),
        "class": type(module),
        "training": module.training,
        "attributes": list(vars(module)),
        "tensors": {
            name: id(value)
            for place in (module._parameters, module._buffers)
            for name, value in place.items()
        },
        "hooks": hooks(module),
        "device_ids": getattr(module, "device_ids", None),
    }


def about_tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "place": (tensor.data_ptr(), tensor.untyped_storage().data_ptr(), tensor.storage_offset()),
        "form": (type(tensor), tensor.dtype, tensor.shape, tensor.stride(), tensor.is_inference()),
        "autograd": (tensor.requires_grad, tensor.is_leaf, id(tensor.grad)),
        "hooks": list(tensor._backward_hooks or {}),
    }


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that is to stay as it is, but for the values of weights."""
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    return {
        "modules": {name: about_module(module) for name, module in model.named_modules()},
        "tensors": {name: about_tensor(tensor) for name, tensor in tensors.items()},
    }


def values(model: nn.Module) -> dict[str, Tensor]:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors}


def world() -> dict[str, Any]:
    """What the process and the thread are set to."""
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "cache": torch.is_autocast_cache_enabled(),
        "device": torch.get_default_device(),
        "dtype": torch.get_default_dtype(),
        "fused attention": torch.backends.mha.get_fastpath_enabled(),
        "precision": (
            torch.backends.cuda.matmul.fp32_precision,
            torch.backends.cudnn.conv.fp32_precision,
        ),
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "function modes": _get_current_function_mode_stack(),
        "dispatch modes": _get_current_dispatch_mode_stack(),
        "passes": [one.name for one in threading.enumerate() if one.name == "forward pass"],
        "random": torch.get_rng_state().tolist(),
        "warnings": list(warnings.filters),
        "logging": [(log.level, list(log.handlers)) for log in (logging.root, driver.logger)],
        "compiler": torch._dynamo.eval_frame._stance,
    }


def check(
    model: nn.Module,
    call: Callable[[], PruningResult],
    error: type[BaseException] | None = None,
    message: str | None = None,
) -> PruningResult | None:
    """Call it, and compare all that is to be as it was: if it is to fail, the weights too."""
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    before, old, around = snapshot(model), values(model), world()
    if isinstance(model, Random):
        del around["random"]
    result = None
    if error is None:
        result = call()
        for mask in result.masks.values():
            assert mask.dtype == torch.bool
            assert not mask.is_inference()
    else:
        with pytest.raises(error, match=message):
            call()
    assert {key: value for key, value in world().items() if key in around} == around
    assert snapshot(model) == before
    changed = {names[id(weight)] for weight in pruned_weights(model, result)}
    for name, value in values(model).items():
        assert torch.equal(value, old[name]) == (name not in changed), name
    return result


def pruned_weights(model: nn.Module, result: PruningResult | None) -> list[Tensor]:
    if result is None:
        return []
    rows = [row for row in result.layers if row.status == "pruned"]
    return [getattr(model.get_submodule(row.layer), row.tensor) for row in rows]


def assert_same_result(model: nn.Module, result: PruningResult, **settings: Any) -> None:
    """The same as without anything around it."""
    plain = network()
    expected = prune(plain, images(), **settings)
    assert list(result.masks) == list(expected.masks)
    for mask, other in zip(result.masks.values(), expected.masks.values(), strict=True):
        assert torch.equal(mask, other)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


# Ways of calling it.


@contextmanager
def nested_autocast() -> Iterator[None]:
    half, brain = torch.float16, torch.bfloat16
    with torch.autocast("cpu", half), torch.autocast("cpu"), torch.autocast("cpu", brain):
        yield


@contextmanager
def restored(change: Callable[[Any], object], new: Any, old: Any) -> Iterator[None]:
    change(new)
    try:
        yield
    finally:
        change(old)


class UserFunctionMode(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


class UserDispatchMode(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def anomalies() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autograd.detect_anomaly():
            yield


CONTEXTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "none": nullcontext,
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "grad off": lambda: restored(torch.set_grad_enabled, False, True),
    "device": lambda: torch.device("meta"),
    "default device": lambda: restored(torch.set_default_device, "meta", None),
    "default dtype": lambda: restored(torch.set_default_dtype, torch.float64, torch.float32),
    "half by default": lambda: restored(torch.set_default_dtype, torch.float16, torch.float32),
    "deterministic": lambda: restored(torch.use_deterministic_algorithms, True, False),
    "function mode": UserFunctionMode,
    "dispatch mode": UserDispatchMode,
    "anomalies": anomalies,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast without cache": lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
    "nested autocast": nested_autocast,
    "stance": lambda: torch.compiler.set_stance("fail_on_recompile"),
}


def stopped() -> None:
    raise KeyboardInterrupt("stopped")


def broken() -> None:
    raise RuntimeError("broken")


def spoiled(model: Net, batches: list[Tensor], patch: pytest.MonkeyPatch) -> None:
    batches[1][0, 0, 0, 0] = float("nan")


def at_call(number: int, act: Callable[[], object]) -> Callable[..., None]:
    def arrange(model: Net, batches: list[Tensor], patch: pytest.MonkeyPatch) -> None:
        model.at_call[number] = act

    return arrange


def while_solving(model: Net, batches: list[Tensor], patch: pytest.MonkeyPatch) -> None:
    solve, solved = driver.solve_layer, []

    def failing(*args: Any) -> Any:
        solved.append(1)
        return broken() if len(solved) == 3 else solve(*args)

    patch.setattr(driver, "solve_layer", failing)


def while_writing(model: Net, batches: list[Tensor], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reparametrized, "_write_back", lambda _: broken())


# Of the calls the first is the survey's, the second that of the first batch, the third that of the
# same batch through the dense network.
FAILURES: dict[str, tuple[Callable[..., None], type[BaseException], str | None]] = {
    "NaN": (spoiled, UserError, "'stem' hold NaN"),
    "survey": (at_call(1, broken), UserError, "batch 1: .*RuntimeError: broken"),
    "pruned pass": (at_call(2, broken), UserError, "batch 1: .*RuntimeError: broken"),
    "dense pass": (at_call(3, broken), UserError, "batch 1: .*RuntimeError: broken"),
    "second batch": (at_call(4, broken), UserError, "batch 2: .*RuntimeError: broken"),
    "interrupt in survey": (at_call(1, stopped), KeyboardInterrupt, "stopped"),
    "interrupt in a pass": (at_call(4, stopped), KeyboardInterrupt, "stopped"),
    "control-C in survey": (at_call(1, _thread.interrupt_main), KeyboardInterrupt, None),
    "control-C in a pass": (at_call(4, _thread.interrupt_main), KeyboardInterrupt, None),
    "solver": (while_solving, RuntimeError, "broken"),
    "writing back": (while_writing, RuntimeError, "broken"),
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_surroundings_stay_as_they_are(context: str) -> None:
    model, batches = network(), images()
    with CONTEXTS[context]():
        result = check(model, lambda: prune(model, batches))
    assert result is not None
    assert list(result.masks) == LAYERS
    assert all(torch.equal(one, other) for one, other in zip(batches, images(), strict=True))
    if "autocast" not in context:
        assert_same_result(model, result)


# The other contexts with some failures only, for time.
SOME = ("NaN", "control-C in a pass", "writing back")
COMBINED = [
    (context, failure)
    for context in CONTEXTS
    for failure in (FAILURES if context in ("none", "inference mode", "autocast") else SOME)
]


@pytest.mark.parametrize(("context", "failure"), COMBINED)
def test_surroundings_and_weights_stay_as_they_are_after_a_failure(
    context: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = network(), images()
    arrange, error, message = FAILURES[failure]
    arrange(model, batches, monkeypatch)
    with CONTEXTS[context]():
        check(model, lambda: prune(model, batches), error, message)


def test_casts_kept_from_before_are_not_used_after() -> None:
    model, x = network().eval(), images()[0]
    with nested_autocast():
        dense = model(x.clone())
        prune(model, images())
        pruned = model(x.clone())
    assert not torch.equal(pruned, dense)
    with nested_autocast():
        assert torch.equal(model(x.clone()), pruned)


def test_another_thread_may_prune() -> None:
    model = network()

    def inside() -> PruningResult:
        with torch.autocast("cpu", torch.bfloat16):
            result = check(model, lambda: prune(model, images()))
        assert result is not None
        return result

    with ThreadPoolExecutor(1) as pool:
        assert list(pool.submit(inside).result().masks) == LAYERS


def test_threads_that_prune_at_once_get_what_they_would_alone() -> None:
    models, around = [network() for _ in range(4)], world()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda model: prune(model, images()), models))
    assert world() == around
    for model, result in zip(models, results, strict=True):
        assert_same_result(model, result)


def test_forward_passes_see_what_the_caller_set() -> None:
    seen = []
    variable = ContextVar("variable", default=0)
    token = variable.set(1)

    def look() -> None:
        seen.append(
            (
                torch.is_autocast_enabled("cpu"),
                torch.get_autocast_dtype("cpu"),
                torch.get_default_device().type,
                torch.is_inference_mode_enabled(),
                torch.is_grad_enabled(),
                variable.get(),
            )
        )

    model = network()
    model.at_call = dict.fromkeys(range(1, 8), look)
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"), torch.inference_mode():
        prune(model, images())
    variable.reset(token)
    assert seen == [(True, torch.bfloat16, "meta", True, False, 1)] * 7


def test_nothing_slows_the_solver_that_the_caller_did_not_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solve, modes = driver.solve_layer, []

    def looked_at(*args: Any) -> Any:
        modes.extend(_get_current_function_mode_stack())
        return solve(*args)

    monkeypatch.setattr(driver, "solve_layer", looked_at)
    prune(network(), images())
    assert not modes


def test_an_interrupt_waits_for_the_pass_that_it_interrupts() -> None:
    model, modes = network(), []

    def act() -> None:
        _thread.interrupt_main()
        time.sleep(0.2)
        modes.append(model.training)

    model.at_call = {1: act}
    check(model, lambda: prune(model, images()), KeyboardInterrupt)
    assert modes == [False]


# Models.


class Plain(nn.Module):
    """Can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.conv(x)).relu().mean((2, 3)))
        return out


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return Plain()


def called_before(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.eval()(images()[0])
    return model.train()


def compiled_in_place() -> nn.Module:
    model = Plain()
    model.compile(backend="eager")
    return model


def compiled_inside() -> nn.Module:
    model = Plain()
    model.norm = torch.compile(model.norm, backend="eager")  # type: ignore[assignment]
    model.conv.compile(backend="eager")
    return model


class CompilingForward(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.tail = torch.compile(lambda x: self.head(x.relu().mean((2, 3))), backend="aot_eager")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.tail(self.norm(self.conv(x)))
        return out


def with_devices(model: nn.Module) -> nn.DataParallel[Any]:
    """As on a machine with two GPUs."""
    parallel = nn.DataParallel(model)
    parallel.device_ids = [0, 1]
    return parallel


class Uncopyable(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.file = sys.stdout
        self.numbers = (number for number in range(9))
        self.function = lambda: self
        self.reference = weakref.ref(self)


class Mixed(Plain):
    """A body in bfloat16 and a head in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()
        self.head.float()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x.bfloat16()))
        out: Tensor = self.head(x.relu().mean((2, 3)).float())
        return out


class OwnAutocast(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class Counting(Plain):
    """Changes buffers: in place, and by putting others in their place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.zeros(4))
        self.register_buffer("cached", None)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.average = 0.9 * self.average + x.mean((0, 2, 3))
        self.cached = x
        return super().forward(x)


class Random(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.1))


class OwnTrain(Plain):
    """Merges in eval mode, as adapters do."""

    def train(self, mode: bool = True) -> "OwnTrain":
        with torch.no_grad():
            self.head.weight.add_(1 if self.training and not mode else 0)
        super().train(mode)
        self.norm.eval()
        return self


class Swallowing(Plain):
    """Goes on whatever is raised."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.norm(self.conv(x))
        except BaseException:
            x = torch.zeros(4, 8, 1, 1)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def frozen() -> nn.Module:
    model = Plain()
    model.conv.requires_grad_(False)
    return model


def channels_last() -> nn.Module:
    return Plain().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def with_gradients() -> nn.Module:
    with torch.inference_mode(False), torch.enable_grad():
        model = Plain()
        model(images()[0]).sum().backward()
    for parameter in model.parameters():
        parameter.register_hook(lambda grad: grad)
        parameter.register_post_accumulate_grad_hook(lambda _: None)
    return model


def with_hooks() -> nn.Module:
    model = Plain()
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: None)
        module.register_forward_pre_hook(lambda *_: None, with_kwargs=True)
        module.register_forward_hook(lambda *_: None, always_call=True)
        module.register_forward_hook(lambda *_: None, with_kwargs=True)
        module.register_full_backward_pre_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
        module.register_state_dict_post_hook(lambda *_: None)
        module.register_load_state_dict_pre_hook(lambda *_: None)
    return model


def one_storage() -> nn.Module:
    """All parameters are views of one tensor."""
    model = Plain()
    flat = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    nn.utils.vector_to_parameters(flat, model.parameters())
    return model


def scripted_inside() -> nn.Module:
    model = Plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.norm = torch.jit.script(model.norm)
    return model


def exported() -> nn.Module:
    return torch.export.export(Plain().eval(), (images()[0],)).module()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "inference": in_inference_mode,
    "compiled": lambda: torch.compile(Plain(), backend="eager"),
    "compiled, called": lambda: called_before(torch.compile(Plain(), backend="eager")),
    "compiled in place": compiled_in_place,
    "compiled in place, called": lambda: called_before(compiled_in_place()),
    "compiled inside": compiled_inside,
    "compiled inside, called": lambda: called_before(compiled_inside()),
    "compiled in forward": CompilingForward,
    "data parallel": lambda: nn.DataParallel(Plain()),
    "data parallel inside": lambda: nn.Sequential(nn.DataParallel(nn.DataParallel(Plain()))),
    "data parallel, devices": lambda: with_devices(nn.Sequential(with_devices(Plain()))),
    "compiled data parallel": lambda: torch.compile(nn.DataParallel(Plain()), backend="eager"),
    "averaged": lambda: AveragedModel(Plain()),
    "not to be copied": Uncopyable,
    "half": lambda: Plain().half(),
    "bfloat16": lambda: Plain().bfloat16(),
    "float64": lambda: Plain().double(),
    "mixed": Mixed,
    "own autocast": OwnAutocast,
    "frozen": frozen,
    "channels last": channels_last,
    "gradients": with_gradients,
    "hooks": with_hooks,
    "one storage": one_storage,
    "eval": lambda: Plain().eval(),
    "own train": OwnTrain,
    "counting": Counting,
    "random": Random,
    "swallowing": Swallowing,
    "scripted inside": scripted_inside,
    "traced symbols": lambda: torch.fx.symbolic_trace(Plain()),
    "exported": exported,
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_stay_as_they_are_but_for_their_weights(kind: str) -> None:
    model = network(MODELS[kind])
    result = check(model, lambda: prune(model, images()))
    assert result is not None
    assert [row.status for row in result.layers] == ["pruned", "pruned"]
    assert [row.layer.split(".")[-1] for row in result.layers] == ["conv", "head"]


@pytest.mark.parametrize("kind", MODELS)
def test_models_stay_as_they_are_after_a_failure(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(MODELS[kind])
    solve, solved = driver.solve_layer, []

    def failing(*args: Any) -> Any:
        solved.append(1)
        return broken() if len(solved) == 2 else solve(*args)

    monkeypatch.setattr(driver, "solve_layer", failing)
    check(model, lambda: prune(model, images()), RuntimeError, "broken")


def outputs(model: nn.Module) -> Tensor:
    for module in model.modules():
        module.training = False
    torch.manual_seed(2)
    out: Tensor = model(images()[0].to(next(model.parameters()).dtype))
    return out.detach()


@pytest.mark.parametrize("kind", [kind for kind in MODELS if "devices" not in kind])
@torch.inference_mode()
def test_models_compute_with_their_pruned_weights(kind: str) -> None:
    model, other = network(MODELS[kind]), network(MODELS[kind])
    dense = outputs(model)
    prune(model, images())
    other.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(outputs(model), outputs(other))
    assert not torch.equal(outputs(model), dense)


@pytest.mark.parametrize("context", CONTEXTS)
def test_pruned_models_can_be_trained_with_their_masks(context: str) -> None:
    model = network()
    with CONTEXTS[context]():
        masks = prune(model, images()).masks
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(images()[0]).square().sum().backward()
    for name, mask in masks.items():
        model.get_submodule(name).weight.grad.mul_(mask)
    optimizer.step()
    for name, mask in masks.items():
        assert not model.get_submodule(name).weight[~mask].any()


def test_distributed_models_are_pruned(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    try:
        for wrap in (DistributedDataParallel, lambda m: nn.Sequential(DistributedDataParallel(m))):
            model = network(lambda wrap=wrap: wrap(Plain()))
            assert check(model, lambda model=model: prune(model, images())) is not None
            model(images()[0]).sum().backward()
    finally:
        torch.distributed.destroy_process_group()


def test_weights_used_in_threads_of_the_model_stay_dense() -> None:
    class Pooled(Plain):
        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                x = pool.submit(self.conv, x).result()
            out: Tensor = self.head(self.norm(x).relu().mean((2, 3)))
            return out

    model = network(Pooled)
    result = check(model, lambda: prune(model, images()))
    assert result is not None
    reasons = {row.layer: row.reason for row in result.layers}
    assert reasons == {"head": "", "conv": "the first calibration batch did not reach it"}


def test_a_model_that_holds_a_lock_needs_independent_calibration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def warned(message: str, *_: object) -> None:
        raise KeyboardInterrupt(message)

    lock = threading.Lock()

    class Locking(Plain):
        def forward(self, x: Tensor) -> Tensor:
            with lock:
                return super().forward(x)

    monkeypatch.setattr(trajectory, "PATIENCE", 1)
    monkeypatch.setattr(trajectory.logger, "warning", warned)
    model = network(Locking)
    check(model, lambda: prune(model, images()), KeyboardInterrupt, "calibration='independent'")
    monkeypatch.undo()
    assert check(model, lambda: prune(model, images(), calibration="independent")) is not None


def test_passes_end_whichever_holds_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, lock = nn.Parameter(torch.ones(4, 4)), threading.Lock()

    def run(_: int) -> None:
        with lock:
            nn.functional.linear(weight, weight)

    monkeypatch.setattr(trajectory, "PATIENCE", 0.1)
    monkeypatch.setattr(trajectory.logger, "warning", lambda *_: stopped())
    passes = trajectory.Passes(run, Surroundings.here(set()), {id(weight): "weight"})
    one, other = trajectory.Trips(passes), trajectory.Trips(passes)

    def walk() -> None:
        with trajectory.ended(one, other):
            other.at(0, 0)
            one.at(0, 0)

    with pytest.raises(KeyboardInterrupt):
        walk()


def test_passes_end_in_models_that_catch_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    class Insistent(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self:
                with suppress(BaseException):
                    x = layer(x)
            return x

    model = Insistent(nn.Conv2d(4, 8, 3), *(nn.Conv2d(8, 8, 1) for _ in range(4)))
    monkeypatch.setattr(driver, "solve_layer", lambda *_: broken())
    check(model, lambda: prune(model, images()), RuntimeError, "broken")


def test_an_own_autocast_keeps_no_dense_casts() -> None:
    class Uncached(Plain):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                return super().forward(x)

    cached, uncached = network(OwnAutocast), network(Uncached)
    prune(cached, images())
    prune(uncached, images())
    assert torch.equal(cached.head.weight, uncached.head.weight)


def test_pruning_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch, sparsecnn;"
        "sparsecnn.prune(torch.nn.Linear(8, 8), [torch.randn(9, 8)]);"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compiled_functions_are_compiled_afterwards() -> None:
    seen = []

    def backend(graph: Any, _: Any) -> Any:
        seen.append(graph)
        return graph

    prune(network(), images())
    torch.compile(lambda x: x + 1, backend=backend)(torch.ones(1))
    assert seen


def test_magnitude_pruning_twice_changes_nothing_more() -> None:
    model = network()
    first = prune(model, images(), method="magnitude")
    once = values(model)
    second = prune(model, images(), method="magnitude")
    assert all(torch.equal(once[name], value) for name, value in values(model).items())
    for one, other in zip(first.masks.values(), second.masks.values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(4).to_sparse(),
        lambda: torch.ones(1).expand(4),
        lambda: torch.full((3,), float("nan")),
        lambda: torch.ones(4).to(torch.float8_e4m3fn),
        lambda: torch.ones(4) * 1j,
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        lambda: torch.ones(3, device="meta"),
        lambda: torch.ones(3, requires_grad=True) * 2,
    ],
)
def test_buffers_may_be_of_any_kind(make: Callable[[], Tensor]) -> None:
    model = Plain()
    model.register_buffer("other", make())
    assert list(prune(model, images()).masks) == ["conv", "head"]


def scripted(make: Callable[[nn.Module], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(Plain().eval())


def partly_meta() -> nn.Module:
    model = Plain()
    model.head.to("meta")
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "the model is a NoneType; it has to be a torch.nn.Module"),
        (lambda: Plain, "the model is a type"),
        (lambda: lambda x: x, "the model is a function"),
        (lambda: torch.compile(lambda x: x), "the model is a function"),
        (lambda: scripted(torch.jit.script), "Module, whose operations .* then script or trace"),
        (
            lambda: scripted(lambda m: torch.jit.trace(m, images()[0])),
            "Module, whose operations .* then script or trace",
        ),
        (lambda: torch.export.export(Plain(), (images()[0],)), "an ExportedProgram, .* export"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), r"'0.weight' has no shape yet .* call the"),
        (lambda: Plain().to("meta"), "'conv.weight' is on the meta device.* load"),
        (partly_meta, "'head.weight' is on the meta device.* load"),
    ],
)
def test_models_that_cannot_be_pruned_are_refused_in_a_line(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prune(make(), images())
    assert "\n" not in str(caught.value)


def test_a_weight_that_cannot_be_written_back_undoes_all() -> None:
    model = Plain()
    parametrizations.weight_norm(model.head)
    with torch.no_grad():
        model.head.parametrizations.weight.original0[0] = 1e-6
    check(
        model,
        lambda: prune(model, images(), method="magnitude", pattern="50%"),
        *(UserError, "'head' computes its weight"),
    )


@pytest.mark.parametrize("failure", ["", "dense pass", "interrupt in a pass"])
def test_nothing_holds_the_model_afterwards(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    held = weakref.ref(model)
    if failure:
        FAILURES[failure][0](model, [], monkeypatch)
    gc.collect()
    gc.disable()
    try:
        with suppress(UserError, KeyboardInterrupt):
            prune(model, images())
        del model
        assert held() is None
    finally:
        gc.enable()
