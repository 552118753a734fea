"""Forward passes that pause: plain ones, and those that start again."""

import pytest
import torch
from paused_models import Branches, forward_threads
from torch import Tensor, nn

from sparsecnn.pruning.calibration.surroundings import Surroundings
from sparsecnn.pruning.calibration.trajectory import Passes, Trips

ORDER = ["first", "second", "shortcut", "head"]


@pytest.fixture
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, 4, 6, 6) for n in (3, 5)]


def layers_of(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def passes_of(model: nn.Module, batches: list[Tensor], *, after: bool = False) -> Passes:
    names = {id(layer.weight): name for name, layer in layers_of(model).items()}
    return Passes(lambda i: model(batches[i]), Surroundings.here(set()), names, after)


@pytest.mark.parametrize("after", [False, True])
def test_passes_pause_in_data_order_with_the_tensors_of_a_plain_pass(
    batches: list[Tensor], after: bool
) -> None:
    model = Branches()
    expected: list[tuple[str, Tensor]] = []

    def record(name: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            expected.append((name, output if after else args[0]))

        layers_of(model)[name].register_forward_hook(hook)

    for name in layers_of(model):
        record(name)
    fresh = Branches()
    fresh.load_state_dict(model.state_dict())
    for index, batch in enumerate(batches):
        expected.clear()
        model(batch)
        stops = list(passes_of(fresh, batches, after=after).stops(index))
        assert [stop.name for stop in stops] == ORDER
        for stop, (name, tensor) in zip(stops, expected, strict=True):
            assert stop.name == name
            assert (stop.outcome is not None) == after
            torch.testing.assert_close(
                stop.outcome.output if stop.outcome else stop.call.inputs, tensor
            )
    assert not forward_threads()


def test_leaving_early_ends_the_passes(batches: list[Tensor]) -> None:
    model = Branches()
    passes = passes_of(model, batches)
    stops = [passes.stops(index) for index in range(2)]
    for one in stops:
        next(one)
    assert len(forward_threads()) == 2
    for one in stops:
        one.close()
    assert not forward_threads()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_an_error_inside_the_model_is_raised_here(batches: list[Tensor]) -> None:
    model = Branches()
    model.head = nn.Linear(9, 2)
    stops = passes_of(model, batches).stops(0)
    assert [next(stops).name for _ in range(4)] == ORDER
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        next(stops)
    assert not forward_threads()


def test_a_trip_goes_on_where_it_is_and_starts_again_if_it_is_beyond_or_dropped(
    batches: list[Tensor],
) -> None:
    model = Branches()
    trips = Trips(passes_of(model, batches))

    def name_at(number: int) -> str | None:
        stop = trips.at(0, number)
        return stop and stop.name

    names = [name_at(number) for number in (0, 0, 1, 3, 3)]
    assert names == ["first", "first", "second", "head", "head"]
    assert model.passes == 1
    assert name_at(2) == "shortcut"
    assert model.passes == 2
    trips.drop(0)
    assert not forward_threads()
    assert name_at(3) == "head"
    assert model.passes == 3
    trips.drop(1)  # never under way
    trips.close()
    assert not forward_threads()


def test_a_trip_that_has_ended_has_no_stop_and_leaves_nothing(batches: list[Tensor]) -> None:
    model = Branches()
    trips = Trips(passes_of(model, batches))
    assert trips.at(0, 4) is None
    assert trips.held_bytes() == 0
    assert not forward_threads()
    stop = trips.at(0, 3)
    assert stop is not None
    assert stop.name == "head"
    assert model.passes == 2
    trips.close()


def test_a_trip_started_again_sees_the_weights_of_now(batches: list[Tensor]) -> None:
    model = Branches()
    trips = Trips(passes_of(model, batches))
    first, second = (trips.at(0, number) for number in (0, 1))
    assert first is not None
    assert second is not None
    before = second.call.inputs.clone()
    with torch.no_grad():
        model.first.weight.zero_()
    again = trips.at(0, 1)
    assert again is not None
    assert torch.equal(again.call.inputs, before)
    trips.drop(0)
    changed = trips.at(0, 1)
    assert changed is not None
    with torch.no_grad():
        assert torch.equal(changed.call.inputs, model.first(batches[0]).relu())
    trips.close()


def test_what_trips_hold_is_the_activations_that_are_still_needed(batches: list[Tensor]) -> None:
    model = Branches()
    trips = Trips(passes_of(model, batches))
    image = 4 * 6 * 6 * 4
    trips.at(0, 0)
    assert trips.held_bytes() == 0  # the batch was there before
    trips.at(0, 1)
    assert trips.held_bytes() == 3 * 2 * image  # what relu gave of eight channels
    trips.at(1, 1)
    assert trips.held_bytes() == (3 + 5) * 2 * image
    trips.drop(0)
    assert trips.held_bytes() == 5 * 2 * image
    trips.close()
    assert trips.held_bytes() == 0
    after = Trips(passes_of(model, batches, after=True))
    after.at(0, 0)
    assert after.held_bytes() == 3 * 2 * image  # what the layer itself has just given
    after.close()


def test_the_batch_itself_is_not_held_by_the_trip() -> None:
    layer, batch = nn.Linear(4, 4), torch.randn(3, 4)

    def run(_: int) -> None:
        layer(batch.to("cpu").contiguous())  # neither has anything to do

    trips = Trips(Passes(run, Surroundings.here(set()), {id(layer.weight): "layer"}))
    trips.at(0, 0)
    assert trips.held_bytes() == 0
    trips.close()


def test_an_error_in_a_trip_ends_it(batches: list[Tensor]) -> None:
    model = Branches()
    model.head = nn.Linear(9, 2)
    trips = Trips(passes_of(model, batches))
    trips.at(0, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trips.at(0, 4)
    trips.close()
    assert not forward_threads()
