import logging
import multiprocessing
import os
import random
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import CPU, HALF, PLAIN, dataset, network, weights

from sparsecnn import artifacts
from sparsecnn.artifacts import Manifest, read_tensors, write_tensors
from sparsecnn.errors import UserError
from sparsecnn.training.checkpoint import Checkpoint, Checkpoints
from sparsecnn.training.interruption import stop_requests
from sparsecnn.training.loop import train

IDENTITY = Manifest(
    "dense", {"seed": 0}, "c0de", parents={"dataset": "d"}, device="cpu (x)", threads=1
)
EPOCHS = 6
TRAIN_PROCESS = multiprocessing.get_context("forkserver")
TRAIN_PROCESS.set_forkserver_preload(["test_training_checkpoint"])


def checkpoint(epoch, step=0, value=1.0):
    return Checkpoint(epoch, step, {"epochs": [epoch, value]}, {"w": torch.full((3,), value)})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept_and_the_last_is_loaded(tmp_path):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder, IDENTITY) as checkpoints:
        assert checkpoints.latest() is None
        for moment in (checkpoint(1), checkpoint(2), checkpoint(2, 7, 0.1), checkpoint(10, 0, 4.0)):
            checkpoints.save(moment)
    assert names(folder) == [
        "epoch-00002-step-0000007.safetensors",
        "epoch-00010-step-0000000.safetensors",
    ]
    with Checkpoints(folder, IDENTITY) as checkpoints:
        found = checkpoints.latest()
        assert (found.epoch, found.step, found.value) == (10, 0, {"epochs": [10, 4.0]})
        assert torch.equal(found.tensors["w"], torch.full((3,), 4.0))
        checkpoints.remove()
    assert not folder.exists()


def test_what_is_saved_is_the_moment_of_the_call(tmp_path):
    weight = torch.zeros(1000)
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        checkpoints.save(Checkpoint(1, 0, {}, {"w": weight}))
        weight.fill_(1)
        checkpoints.flush()
        assert int(checkpoints.latest().tensors["w"].sum()) == 0


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    write_tensors(path, {"w": torch.zeros(3)}, Manifest("dense", {}, "c0de"))


@pytest.mark.parametrize("damage", [truncate, flip, empty, foreign])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(tmp_path, caplog, damage):
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        checkpoints.save(checkpoint(1))
        checkpoints.save(checkpoint(2))
    last = tmp_path / "epoch-00002-step-0000000.safetensors"
    damage(last)
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        assert checkpoints.latest().epoch == 1
    (warning,) = caplog.messages
    assert warning.startswith(f"checkpoint not used: {last}: ")
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(IDENTITY, settings={"seed": 1}), "settings"),
        (replace(IDENTITY, code="c1de"), "code"),
        (replace(IDENTITY, parents={"dataset": "e"}), "data"),
        (replace(IDENTITY, device="a GPU"), "device"),
        (replace(IDENTITY, threads=2), "number of threads"),
        (replace(IDENTITY, code="c1de", device="a GPU"), "code and device"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, caplog, other, what):
    with Checkpoints(tmp_path, other) as checkpoints:
        checkpoints.save(checkpoint(3))
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        assert checkpoints.latest() is None
    assert caplog.messages[0].endswith(f"it was made with other {what}")


def test_a_checkpoint_of_another_torch_is_refused(tmp_path, caplog, monkeypatch):
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        checkpoints.save(checkpoint(3))
    now = artifacts.environment()
    monkeypatch.setattr(
        "sparsecnn.training.checkpoint.environment", lambda: now | {"torch": "99.0"}
    )
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        assert checkpoints.latest() is None
    assert "other torch version" in caplog.text


def trained(checkpoints=None, stop=lambda: None, epochs=EPOCHS):
    model = network()
    history = train(
        model, dataset(), HALF, PLAIN, epochs, 0, CPU, checkpoints=checkpoints, stop=stop
    )
    return model, history


def without_times(history):
    return [replace(record, seconds=0, images_per_second=0) for record in history]


@pytest.mark.parametrize("steps", [1, 6, 7, 20, 35, 36])
def test_a_training_stopped_at_any_step_ends_with_the_same_bits(tmp_path, steps):
    whole, whole_history = trained()
    asked = iter(range(1000))

    def stop():
        return "SIGTERM" if next(asked) == steps - 1 else None

    with (
        pytest.raises(UserError, match=r"stopped by SIGTERM after .* the same command goes on"),
        Checkpoints(tmp_path, IDENTITY) as checkpoints,
    ):
        trained(checkpoints, stop)
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        assert checkpoints.latest().epoch * 6 + checkpoints.latest().step == steps
        resumed, history = trained(checkpoints)
    assert torch.equal(weights(resumed), weights(whole))
    assert without_times(history) == without_times(whole_history)
    assert all(record.seconds > 0 for record in history)


def test_without_checkpoints_a_stop_says_only_that():
    with pytest.raises(UserError, match=r"^stopped by SIGINT$"):
        trained(stop=lambda: "SIGINT")


def test_a_finished_training_whose_result_was_not_written_is_not_repeated(tmp_path, caplog):
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        first, _ = trained(checkpoints)
    with caplog.at_level(logging.INFO), Checkpoints(tmp_path, IDENTITY) as checkpoints:
        second, history = trained(checkpoints)
    assert torch.equal(weights(first), weights(second))
    assert len(history) == EPOCHS
    assert caplog.messages == [f"going on after {EPOCHS} epochs"]


def test_a_disk_that_fills_up_is_one_line_and_no_half_file(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with (
            pytest.raises(
                UserError, match=r"cannot write .*epoch-00001.*: File too large"
            ) as error,
            Checkpoints(tmp_path, IDENTITY) as checkpoints,
        ):
            trained(checkpoints)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []
    with Checkpoints(tmp_path, IDENTITY) as checkpoints:
        trained(checkpoints)


def test_signals_are_noted_and_a_second_one_acts_as_before():
    caught = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    try:
        with stop_requests() as stop:
            assert stop() is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop() == "SIGTERM"
            assert caught == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert caught == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(caught) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


class _KilledWriter:
    """In place of `Path.write_bytes`: writes half of the nth file, then kills its process."""

    def __init__(self, nth):
        self.left = nth

    def __call__(self, path, data):
        self.left -= 1
        if self.left == 0:
            write_bytes(path, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write_bytes(path, data)


write_bytes = Path.write_bytes


def train_process(folder: Path, killed_write: int) -> None:
    """What the script does, with the nth file write deadly."""
    torch.set_num_threads(1)
    logging.disable()
    writer = _KilledWriter(killed_write)
    Path.write_bytes = lambda path, data: writer(path, data)
    artifacts.remove_leftovers(folder / "dense.safetensors")
    with Checkpoints(folder / "checkpoints", IDENTITY) as checkpoints:
        model, _ = trained(checkpoints, epochs=12)
        write_tensors(folder / "dense.safetensors", model.state_dict(), IDENTITY)
        checkpoints.remove()


def run_until_killed(folder, killed_write=0, seconds=None):
    """Start the training; its exit code after being killed, or done."""
    process = TRAIN_PROCESS.Process(target=train_process, args=(folder, killed_write))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def test_a_dozen_kills_end_in_the_same_bits(tmp_path):
    """In an epoch at random moments, in writing a checkpoint, and in the final write."""
    assert run_until_killed(tmp_path / "whole") == 0
    _, whole = read_tensors(tmp_path / "whole/dense.safetensors", "dense")
    folder, moments = tmp_path / "killed", random.Random(0)
    log, killed = [], 0
    while killed < 12:
        done = [path.stem for path in folder.glob("checkpoints/epoch-*")]
        if killed == 11:  # a checkpoint an epoch, then the result
            left = 12 - int(max(done).split("-")[1])
            code, how = run_until_killed(folder, killed_write=left + 1), "in the final write"
        elif killed % 3 == 2:
            code, how = run_until_killed(folder, killed_write=2), "in a checkpoint's write"
        else:
            wait = moments.uniform(0.05, 0.5)
            code, how = run_until_killed(folder, seconds=wait), f"after {wait:.2f} s"
        result = folder / "dense.safetensors"
        assert result.exists() or code != 0
        killed += code == -signal.SIGKILL
        log.append(f"{killed:2} {how:23} from {max(done, default='the beginning')}: {code}")
        if result.exists():  # it was fast, or killed after its last write: begin again
            _, manifest = read_tensors(result, "dense")
            assert manifest.content == whole.content
            result.unlink()
    assert run_until_killed(folder) == 0
    _, manifest = read_tensors(folder / "dense.safetensors", "dense")
    print("\n".join([*log, f"uninterrupted {whole.content}", f"killed        {manifest.content}"]))
    assert manifest.content == whole.content
    assert names(folder) == ["dense.safetensors"]
