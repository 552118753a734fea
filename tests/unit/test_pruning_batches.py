from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.rnn import pack_sequence
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sparsecnn.errors import UserError
from sparsecnn.pruning.calibration.batches import CalibrationData

X = torch.arange(24.0).reshape(4, 6)
LABELS = torch.tensor([0, 1, 2, 1])
Example = namedtuple("Example", ["image", "label"])


class Recorder(nn.Module):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[Any, ...]] = []

    def keep(self, *values: Any) -> None:
        self.seen.append(values)


class One(Recorder):
    def forward(self, image: Any) -> None:
        self.keep(image)


class OneAndKeyword(Recorder):
    def forward(self, image: Any, *, mask: Any = None) -> None:
        self.keep(image) if mask is None else self.keep(image, mask)


class Optional(Recorder):
    def forward(self, image: Any, mask: Any = None) -> None:
        self.keep(image) if mask is None else self.keep(image, mask)


class Two(Recorder):
    def forward(self, ids: Any, lengths: Any) -> None:
        self.keep(ids, lengths)


class Many(Recorder):
    def forward(self, *inputs: Any) -> None:
        self.keep(*inputs)


class Items(Dataset[Any]):
    """Without __iter__, and without the IndexError that would end Python's own protocol."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Tensor:
        return X + index


class Old:
    def __getitem__(self, index: int) -> Tensor:
        return [X, X + 1, X + 2][index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter([X, X + 1, X + 2])


def same(one: Any, other: Any) -> bool:
    """Equal in form, type, dtype and value."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict | UserDict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def seen(model: Recorder, batches: Any, **options: Any) -> list[tuple[Any, ...]]:
    data = CalibrationData(model, batches, **options)
    for index in range(len(data)):
        data.run(index)
    return model.seen


@pytest.mark.parametrize(
    "batches",
    [
        [X, X + 1, X + 2],
        (X, X + 1, X + 2),
        (X + i for i in range(3)),
        map(torch.add, [X, X, X], range(3)),
        zip([X, X + 1, X + 2], [LABELS] * 3, strict=True),
        Items(),
        Old(),
        Stream(),
        {0: X, 1: X + 1, 2: X + 2}.values(),
        torch.stack([X, X + 1, X + 2]).unbind(),
        DataLoader(torch.cat([X, X + 1, X + 2]), batch_size=4),
        DataLoader(TensorDataset(torch.cat([X, X + 1, X + 2])), batch_size=4),
        DataLoader(TensorDataset(torch.cat([X, X + 1, X + 2]), torch.zeros(12)), batch_size=4),
        DataLoader(Stream(), batch_size=None),
        [X, X[:0], X + 1, (X[:0], LABELS[:0]), X + 2, [], {}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_iterable_is_read(batches: Any) -> None:
    assert same(seen(One(), batches), [(X,), (X + 1,), (X + 2,)])


def test_an_iterable_is_read_once_and_its_own_exception_is_let_through() -> None:
    begun = []

    def broken() -> Iterator[Tensor]:
        begun.append(1)
        yield X
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        CalibrationData(One(), broken())
    assert begun == [1]
    data = CalibrationData(One(), (x for x in [X]))
    for _ in range(3):
        data.run(0)


@pytest.mark.parametrize("one", [X, X[0], {"image": X}, UserDict(image=X)])
def test_one_tensor_or_mapping_is_one_batch(one: Any) -> None:
    assert len(seen(One(), one)) == 1


@pytest.mark.parametrize(
    "batches", [None, 3, 2.5, "images", b"images", True, object(), One, Path()]
)
def test_what_is_no_iterable_is_refused(batches: Any) -> None:
    with pytest.raises(UserError, match=r"given in a list, a DataLoader .*, not as "):
        CalibrationData(One(), batches)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no calibration batches were given: at least one is needed"),
        ((x for x in ()), "no calibration batches"),
        (DataLoader(Stream(), batch_size=4, drop_last=True), "no calibration batches"),
        (X[:0], "every calibration batch is empty"),
        ([X[:0], (X[:0], LABELS[:0]), {"image": X[:0], "scale": 2}, ()], "every .* is empty"),
    ],
)
@pytest.mark.parametrize("forward", [None, lambda model, batch: model(batch)])
def test_no_data(batches: Any, message: str, forward: Any) -> None:
    with pytest.raises(UserError, match=message):
        CalibrationData(One(), batches, forward)


BOXES = [{"boxes": X}, {"boxes": X}]
MASK = torch.tensor([True, False, True, True])


@pytest.mark.parametrize(
    ("model", "batch", "expected"),
    [
        # One input.
        (One, X, (X,)),
        (One, [X], (X,)),
        (One, (X,), (X,)),
        (One, [[X, X]], ([X, X],)),
        (One, ["text"], ("text",)),
        # Mappings.
        (One, {"image": X}, (X,)),
        (One, OrderedDict(image=X), (X,)),
        (One, defaultdict(list, image=X), (X,)),
        (One, UserDict(image=X), (X,)),
        (One, MappingProxyType({"image": X}), (X,)),
        (Two, {"lengths": LABELS, "ids": X}, (X, LABELS)),
        (OneAndKeyword, {"image": X, "mask": MASK}, (X, MASK)),
        # A second that is class labels.
        (Optional, (X, LABELS), (X,)),
        (Optional, [X, LABELS], (X,)),
        (Optional, Example(X, LABELS), (X,)),
        (Optional, (X, LABELS.int()), (X,)),
        (Optional, (X, LABELS.to(torch.uint8)), (X,)),
        (Optional, (X[0], LABELS[0]), (X[0],)),
        (Optional, ([X, X[:2]], LABELS[:2]), ([X, X[:2]],)),
        (Optional, ({"a": X}, LABELS), ({"a": X},)),
        (Many, (X, LABELS), (X,)),
        # A second that is not.
        (Optional, (X, MASK), (X, MASK)),
        (Optional, (X, LABELS.float()), (X, LABELS.float())),
        (Optional, (X, LABELS[:3]), (X, LABELS[:3])),
        (Optional, (X, LABELS[:, None]), (X, LABELS[:, None])),
        (Optional, (X, 3), (X, 3)),
        (Optional, (X, "left"), (X, "left")),
        (Optional, (X, [LABELS, None]), (X, [LABELS, None])),
        (Many, (X, X), (X, X)),
        # A model that requires both, or can take one only.
        (Two, (X, LABELS), (X, LABELS)),
        (Two, Example(X, LABELS), (X, LABELS)),
        (Two, (X, None), (X, None)),
        (One, (X, LABELS), (X,)),
        (One, (X, LABELS.float()), (X,)),
        (One, (X, X), (X,)),
        (One, (X, ["cat", "dog"]), (X,)),
        (One, ((X, X), BOXES), ((X, X),)),
        (One, (X, None), (X,)),
        (OneAndKeyword, (X, X), (X,)),
        # More than a pair.
        (Many, (X, LABELS, LABELS), (X, LABELS, LABELS)),
        (Many, [X, [1, None, ("a", X)]], (X, [1, None, ("a", X)])),
        (Many, (X, Example(X, 2), X.shape), (X, Example(X, 2), X.shape)),
    ],
)
def test_how_a_batch_calls_the_model(
    model: Callable[[], Recorder], batch: Any, expected: tuple[Any, ...]
) -> None:
    assert same(seen(model(), [batch]), [expected])


STYLES: list[Callable[[Tensor], Any]] = [
    lambda x: x,
    lambda x: (x,),
    lambda x: [x],
    lambda x: {"image": x},
    lambda x: UserDict(image=x),
    lambda x: (x, torch.arange(len(x))),
    lambda x: [x, torch.rand(len(x), 2)],
    lambda x: Example(x, "label"),
]


@given(
    st.sampled_from(STYLES),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from([torch.float16, torch.float32, torch.float64]),
    st.booleans(),
)
def test_the_model_sees_the_same_in_every_style(
    style: Callable[[Tensor], Any], shape: list[int], dtype: torch.dtype, channels_last: bool
) -> None:
    x = torch.rand(shape)
    if channels_last and x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    model = One().to(dtype)
    ((got,),) = seen(model, [style(x)])
    assert torch.equal(got, x.to(dtype))
    assert got.stride() == x.to(dtype).stride()


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 3)),
        "cat.png",
        b"cat",
        3,
        None,
        {X},
        Image.new("RGB", (2, 2)),
        object(),
        pack_sequence([X]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_batch_of_another_form_is_refused_by_number_unless_forward_is_given(batch: Any) -> None:
    name = type(batch).__qualname__.removesuffix("Type")
    with pytest.raises(UserError, match=rf"^batch 2 is .*{name}: a batch is .*forward=lambda"):
        CalibrationData(One(), [X, batch])
    model = One()
    (got,) = seen(model, [batch], forward=lambda model, batch: model([batch]))
    assert got[0][0] is batch


class Custom(UserDict[str, Any]):
    pass


@pytest.mark.parametrize(
    "batch",
    [
        X.double(),
        (X, LABELS),
        Example(X, LABELS),
        {"image": X, "label": LABELS, 3: None},
        Custom(image=X),
        [X, (LABELS, {"a": [X.half()]})],
    ],
)
def test_forward_gets_the_batch_as_it_is(batch: Any) -> None:
    model = DataParallel(One())
    got = []
    data = CalibrationData(model, [batch], lambda *given: got.append(given))
    data.run(0)
    ((called, given),) = got
    assert called is model
    assert same(given, batch)


@pytest.mark.parametrize("value", [X, X.double(), X.half(), X.bfloat16()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_floating_tensors_take_the_dtype_of_the_weights(value: Tensor, dtype: torch.dtype) -> None:
    model = Many().to(dtype)
    ((x, (nested, ids), mask, complexes),) = seen(
        model, [(value, [{"x": value}, LABELS], MASK, X * 1j)]
    )
    assert x.dtype == nested["x"].dtype == dtype
    assert (ids.dtype, mask.dtype, complexes.dtype) == (torch.int64, torch.bool, torch.complex64)


def test_dtypes_are_left_alone_where_the_model_has_several_or_none_and_under_autocast() -> None:
    mixed, bare, whole = One(), One(), One()
    mixed.other = nn.Parameter(torch.ones(1, dtype=torch.float16))
    del bare.weight
    for model in (mixed, bare):
        assert same(seen(model, [X.double()]), [(X.double(),)])
    with torch.autocast("cpu", torch.bfloat16):
        assert same(seen(whole, [X.double()]), [(X.double(),)])


def test_buffers_and_integers_have_no_say_in_the_dtype() -> None:
    model = One()
    model.register_buffer("scale", torch.ones(1, dtype=torch.float64))
    model.codes = nn.Parameter(torch.ones(1, dtype=torch.int8), requires_grad=False)
    assert same(seen(model, [X.double()]), [(X,)])


def test_tensors_are_moved_to_the_only_device_of_parameters_and_buffers() -> None:
    model = One().to("meta")
    ((x,),) = seen(model, [{"image": X}])
    assert x.device.type == "meta"
    model.register_buffer("scale", torch.ones(1))
    model.seen.clear()
    ((x,),) = seen(model, [X])
    assert x.device.type == "cpu"


def test_device_is_that_of_the_first_floating_parameter() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    model[0].codes = nn.Parameter(torch.ones(1, dtype=torch.int8), requires_grad=False)
    assert CalibrationData(model, [X]).device == torch.device("meta")
    assert CalibrationData(nn.ReLU(), [X]).device is None


class Spoiling(One):
    """Changes its input in place."""

    def forward(self, image: Any) -> None:
        first = image[0] if isinstance(image, list) else image
        self.keep(first.clone())
        first.neg_()


@pytest.mark.parametrize("style", [*STYLES, lambda x: {"image": [x, (x,)]}, lambda x: [[x, [x]]]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_changed_in_place_are_the_same_in_every_run(
    style: Callable[[Tensor], Any], dtype: torch.dtype
) -> None:
    x, model = X.to(dtype), Spoiling().to(dtype)
    data = CalibrationData(model, [style(x)])
    for _ in range(3):
        data.run(0)
    assert same(model.seen, [(X.to(dtype),)] * 3)
    assert torch.equal(x, X.to(dtype))


def test_inputs_changed_in_place_by_forward_are_the_same_in_every_run() -> None:
    x, model = X.clone(), Spoiling()
    batch = Custom(pairs=[(x, LABELS)])
    data = CalibrationData(model, [batch], lambda model, batch: model(batch["pairs"][0][0]))
    for _ in range(3):
        data.run(0)
    assert same(model.seen, [(X,)] * 3)
    assert torch.equal(x, X)
    assert batch["pairs"][0][0] is x


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("style", [*STYLES, lambda x: MappingProxyType({"image": x})])
def test_inference_tensors_become_normal_ones(style: Callable[[Tensor], Any], inside: bool) -> None:
    with torch.inference_mode():
        batches = [style(X + 1)]
        data = CalibrationData(model := One(), batches) if inside else None
    data = data or CalibrationData(model := One(), batches)
    data.run(0)
    ((x,),) = model.seen
    assert not x.is_inference()
    assert torch.equal(x, X + 1)


def test_the_lists_of_the_caller_may_change_afterwards() -> None:
    batches = [[X, X]]
    data = CalibrationData(model := Many(), batches)
    batches[0].clear()
    data.run(0)
    assert same(model.seen, [(X, X)])


def distributed(model: nn.Module) -> DistributedDataParallel:
    """As a process group would make it."""
    wrapped = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    return wrapped


@pytest.mark.parametrize(
    "wrap", [DataParallel, distributed, lambda model: DataParallel(DataParallel(model))]
)
def test_data_parallel_models_are_called_inside(
    wrap: Callable[[nn.Module], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (DataParallel, DistributedDataParallel):
        monkeypatch.setattr(kind, "forward", None)
    model = One()
    CalibrationData(wrap(model), [(X, X)]).run(0)
    assert same(model.seen, [(X,)])


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        AveragedModel,
        lambda m: torch.compile(DataParallel(m)),
        lambda m: DataParallel(torch.compile(m)),
        lambda m: AveragedModel(DataParallel(m)),
    ],
)
def test_a_wrapped_model_takes_what_the_model_inside_takes(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    for kind, size in ((One, 1), (Two, 2)):
        data = CalibrationData(wrap(kind()), [(X, X if size == 1 else LABELS)])
        assert len(data._calls[0].args) == size


def test_a_forward_without_a_signature_takes_anything() -> None:
    model = One()
    model.forward = type(  # type: ignore[method-assign]
        "Opaque", (), {"__call__": lambda _, *a: model.keep(*a), "__signature__": "none"}
    )()
    assert same(seen(model, [(X, LABELS), (X, X)]), [(X,), (X, X)])


class Failing(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, *_: Any, **__: Any) -> None:
        raise self.error


IMAGES = torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (
            nn.Conv2d(4, 4, 3),
            IMAGES,
            r"the model, called with a float32 tensor of shape \(2, 3, 4, 4\), raised "
            r"RuntimeError: Given groups=1, .*channels instead$",
        ),
        (
            nn.Conv2d(3, 4, 3),
            (IMAGES * 255).to(torch.uint8),
            r"a uint8 .*\(the model's weights are float32: normalise the images first\?\)$",
        ),
        (nn.Linear(2, 2), LABELS, r"an int64 tensor of shape \(4,\), raised RuntimeError: [^(]*$"),
        (
            One(),
            (X, LABELS, "left"),
            r"3 inputs: a float32 tensor .*, an int64 tensor .*, a str, raised TypeError: .*; "
            r"say how the model is called with forward=lambda model, batch: \.\.\.$",
        ),
        (One(), {"image": X, "label": LABELS}, r"keywords image, label, raised .*forward=lambda"),
        (One(), {1: X}, r"keywords 1, raised TypeError: .*forward=lambda"),
        (Two(), X, r"missing 1 required positional argument.*forward=lambda"),
        (nn.ReLU(), [[X, X]], r"called with a list, raised TypeError: .*forward=lambda"),
        (nn.Module(), X, r"raised NotImplementedError: "),
        (Failing(KeyError("mask")), X, r"raised KeyError: 'mask'$"),
        (Failing(ValueError()), X, r"raised ValueError$"),
        (
            Failing(RuntimeError("\nfirst line\nsecond line")),
            X,
            r"raised RuntimeError: first line$",
        ),
        (Failing(torch.OutOfMemoryError("no memory")), X, r"raised OutOfMemoryError: no memory$"),
    ],
)
def test_what_the_model_raises_becomes_one_line(model: nn.Module, batch: Any, message: str) -> None:
    data = CalibrationData(model, [X[:0], batch])
    with pytest.raises(UserError, match=rf"^batch 2: .*{message}") as caught:
        data.run(0)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize("error", [UserError("layer 'a' is odd"), KeyboardInterrupt()])
def test_what_passes_as_it_is(error: BaseException) -> None:
    for forward in (None, lambda model, batch: model(batch)):
        with pytest.raises(type(error)) as caught:
            CalibrationData(Failing(error), [X], forward).run(0)
        assert caught.value is error


def test_what_forward_raises_becomes_one_line() -> None:
    data = CalibrationData(One(), [(X, LABELS)], lambda model, batch: model(*batch))
    with pytest.raises(UserError, match=r"^batch 1: forward, called with a tuple, raised TypeErr"):
        data.run(0)


@pytest.mark.parametrize(
    ("batch", "size"),
    [(X, 4), ((X[:2], LABELS[:2]), 2), ([["a", X[:3]]], 3), ({"image": X[:1]}, 1), (["a"], 1)],
)
def test_size_is_the_length_of_the_first_tensor(batch: Any, size: int) -> None:
    assert CalibrationData(One(), [batch]).size(0) == size


def test_a_tensor_is_empty_only_beside_others_that_are() -> None:
    assert len(seen(Many(), [(X[:0], X, X), (X[:0], X[:0], torch.tensor(2.0))])) == 1
