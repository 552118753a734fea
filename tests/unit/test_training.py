import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.errors import UserError
from sparsecnn.evaluation.accuracy import evaluate
from sparsecnn.models.network import Architecture, build
from sparsecnn.training import replay
from sparsecnn.training.loop import _Feed, train
from sparsecnn.training.recipe import Recipe
from sparsecnn.training.sgd import SGD

CPU = torch.device("cpu")
HALF = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PLAIN = Recipe(batch_size=16, learning_rate=0.05, weight_decay=0.0, crop_padding=1)
STILL = replace(PLAIN, crop_padding=0, horizontal_flip=False)


def colours(n, generator=0):
    """Images whose class is their dominant colour channel, with noise."""
    source = torch.Generator().manual_seed(generator)
    labels = torch.arange(n) % 3
    images = torch.randint(0, 120, (n, 3, 8, 8), generator=source)
    images[torch.arange(n), labels] += 90
    return images.to(torch.uint8), labels


def dataset(n=97):
    train_images, train_labels = colours(n)
    return Dataset(train_images, train_labels, *colours(30, 1), classes=("red", "green", "blue"))


def network(seed=0):
    return build(Architecture("custom_cnn", 0.125, 3, 8), seed)


def weights(model):
    return torch.cat([t.double().flatten() for t in model.state_dict().values()])


def test_training_learns_and_reports(caplog):
    model = network()
    with caplog.at_level(logging.INFO):
        history = train(model, dataset(), HALF, PLAIN, epochs=6, seed=0, device=CPU)
    assert not model.training
    assert [record.epoch for record in history] == list(range(1, 7))
    assert history[-1].loss < 0.5 * history[0].loss
    assert history[-1].train_top1 > 80
    result = evaluate(model, *colours(30, 1), HALF, 3, CPU)
    assert result.top1 > 90
    assert "epoch 6/6: loss" in caplog.text
    assert "images/s, 0:00:00 left" in caplog.text


def test_equal_seeds_give_equal_bits_and_leave_the_generator_alone():
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(runs))
        state = torch.random.get_rng_state()
        model = network()
        train(model, dataset(), HALF, PLAIN, epochs=2, seed=seed, device=CPU)
        assert torch.equal(torch.random.get_rng_state(), state)
        runs.append(weights(model))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own():
    images = torch.arange(97 * 3 * 16, dtype=torch.int64).remainder(251).to(torch.uint8)
    images = images.reshape(97, 3, 4, 4)
    data = Dataset(images, torch.arange(97), images, torch.arange(97), ("a", "b"))
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        feed = _Feed(data, HALF, STILL, seed, CPU)
        chunks = [feed.batch(*images) for images in feed.draws(epoch, 0)]
        assert len(chunks) == len(feed) == 6
        orders.append(torch.cat([labels for _, labels in chunks]))
        # 97 = 6 x 16 + 1: the single image left over is skipped.
        assert len(orders[-1]) == 96
        assert orders[-1].unique().numel() == 96
        inputs = torch.cat([batch for batch, _ in chunks])
        expected = (images[orders[-1]].double() / 255 - 0.5) / 0.25
        assert torch.allclose(inputs.double(), expected, atol=1e-5)
    assert torch.equal(orders[0], orders[3])
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_an_epoch_can_begin_at_any_step():
    feed = _Feed(dataset(50), HALF, PLAIN, 3, CPU)
    whole = [feed.batch(*images) for images in feed.draws(2, 0)]
    assert len(whole) == 4
    for first in range(5):
        rest = [feed.batch(*images) for images in feed.draws(2, first)]
        assert len(rest) == 4 - first
        for (inputs, labels), (again, labels_again) in zip(whole[first:], rest, strict=True):
            assert torch.equal(inputs, again)
            assert torch.equal(labels, labels_again)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_steps_are_sgd_with_momentum_decay_and_smoothing(nesterov, decay_all, smoothing):
    images, labels = colours(8)
    data = Dataset(images, labels, images, labels, ("red", "green", "blue"))
    recipe = replace(
        STILL,
        batch_size=8,
        weight_decay=0.01,
        nesterov=nesterov,
        decay_norm_and_bias=decay_all,
        label_smoothing=smoothing,
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    weight, bias = (p.detach().double().clone() for p in model[1].parameters())
    train(model, data, HALF, recipe, epochs=3, seed=0, device=CPU)

    inputs = ((images.double() / 255 - 0.5) / 0.25).flatten(1)
    targets = torch.eye(3)[labels].double() * (1 - smoothing) + smoothing / 3
    momenta = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for epoch in range(3):
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        logits = inputs @ w.T + b
        (-(targets * logits.log_softmax(1)).sum(1).mean()).backward()
        rate = 0.05 * 0.5 * (1 + math.cos(math.pi * epoch / 3))
        for k, (p, decay) in enumerate(((w, 0.01), (b, 0.01 * decay_all))):
            gradient = p.grad + decay * p.detach()
            momenta[k] = 0.9 * momenta[k] + gradient
            step = gradient + 0.9 * momenta[k] if nesterov else momenta[k]
            if k == 0:
                weight = weight - rate * step
            else:
                bias = bias - rate * step
    torch.testing.assert_close(model[1].weight.double(), weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model[1].bias.double(), bias, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs_bit_for_bit(nesterov, decay_all, momentum):
    recipe = replace(
        PLAIN,
        momentum=momentum,
        nesterov=nesterov and momentum > 0,
        weight_decay=0.01,
        decay_norm_and_bias=decay_all,
    )
    models = [
        build(Architecture("resnet18", 0.125, 3, 8), 0).to(memory_format=torch.channels_last)
        for _ in range(2)
    ]
    named = dict(models[1].named_parameters())
    exempt = [p for name, p in named.items() if p.ndim == 1 and not decay_all]
    theirs = torch.optim.SGD(
        [
            {"params": [p for p in named.values() if not any(p is e for e in exempt)]},
            {"params": exempt, "weight_decay": 0.0},
        ],
        lr=1.0,
        momentum=momentum,
        nesterov=recipe.nesterov,
        weight_decay=0.01,
        fused=True,
    )
    mine = SGD(models[0], recipe)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for rate in (0.1, 0.05, 0.2):
        for model in models:
            model(images).square().sum().backward()
        mine.set_learning_rate(rate)
        mine.step()
        for group in theirs.param_groups:
            group["lr"] = rate
        theirs.step()
        theirs.zero_grad()
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert all(p.grad is None for p in models[0].parameters())


def test_parameters_without_gradient_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = weights(model[1])
    model[0](torch.ones(1, 2)).sum().backward()
    optimizer = SGD(model, PLAIN)
    optimizer.set_learning_rate(0.1)
    optimizer.step()
    assert torch.equal(weights(model[1]), before)


def test_training_does_not_import_the_compiler():
    code = (
        "import sys, test_training as t; t.train(t.network(), t.dataset(20), t.HALF, t.PLAIN, 1, 0,"
        " t.CPU); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_cosine_starts_at_the_rate_and_falls_towards_zero():
    rates = [PLAIN.learning_rate_at(step, 7, 10) for step in range(70)]
    assert rates[0] == PLAIN.learning_rate
    assert all(len(set(rates[start : start + 7])) == 1 for start in range(0, 70, 7))
    assert rates[::7] == sorted(set(rates), reverse=True)
    assert rates[35] == pytest.approx(PLAIN.learning_rate / 2)
    assert PLAIN.learning_rate_at(70, 7, 10) == pytest.approx(0, abs=1e-12)


@given(steps=st.integers(1, 30), epochs=st.integers(1, 10), warmup=st.floats(0, 0.95))
@settings(deadline=None, max_examples=100)
def test_triangle_rises_for_its_share_and_falls_to_zero(steps, epochs, warmup):
    recipe = replace(PLAIN, schedule="triangular", warmup=warmup)
    total = steps * epochs
    rates = [recipe.learning_rate_at(step, steps, epochs) for step in range(total)]
    assert all(0 < rate <= recipe.learning_rate for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert abs(peak + 1 - max(1, warmup * (total + 1))) <= 1
    slope = recipe.learning_rate / (total + 1 - max(1, warmup * (total + 1)))
    assert rates[-1] <= slope * (1 + 1e-9)


def test_divergence_stops_at_once_with_epoch_step_and_what_to_do():
    wild = replace(STILL, learning_rate=1e30)
    with pytest.raises(UserError, match=r"diverged in epoch 1/3, step 2: .*lower learning_rate"):
        train(network(), dataset(), HALF, wild, epochs=3, seed=0, device=CPU)


def test_weights_that_the_last_step_ruins_are_no_result():
    wild = replace(STILL, learning_rate=1e60, batch_size=97)
    with pytest.raises(UserError, match=r"diverged in epoch 1/1, step 1: "):
        train(network(), dataset(), HALF, wild, epochs=1, seed=0, device=CPU)


def test_too_little_memory_names_the_batch_and_the_setting():
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(
        UserError, match=r"memory; lower batch_size in the recipe \(now 16\)"
    ) as error:
        train(Greedy(), dataset(), HALF, PLAIN, epochs=1, seed=0, device=CPU)
    assert "\n" not in str(error.value)


def test_bfloat16_trains_too():
    model = network()
    history = train(
        model, dataset(), HALF, PLAIN, epochs=6, seed=0, device=CPU, precision=torch.bfloat16
    )
    assert history[-1].train_top1 > 80
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_longer_budget_begins_with_the_same_images(monkeypatch):
    seen = []
    monkeypatch.setattr(_Feed, "draws", _recording(_Feed.draws, seen))
    for epochs in (2, 4):
        train(network(), dataset(40), HALF, PLAIN, epochs=epochs, seed=0, device=CPU)
    assert seen[:2] == seen[2:4]
    assert len({tuple(epoch) for epoch in seen[2:]}) == 4


def _recording(draws, seen):
    def record(self, epoch, first):
        seen.append([])
        for images in draws(self, epoch, first):
            seen[-1].append(float(self.batch(*images)[0].double().sum()))
            yield images

    return record


def test_work_is_recorded_once_and_replayed_for_inputs_of_its_shapes(monkeypatch, caplog):
    seen, records = [], []

    def function(values, factors):
        seen.append((values.tolist(), factors.tolist()))
        return (values * factors).sum()

    def recorded(function, *inputs):  # as a graph: fixed inputs, a fixed result
        records.append(inputs)
        result = torch.zeros(())
        return lambda: result.copy_(function(*inputs)), result

    monkeypatch.setattr(replay, "recorded", recorded)
    monkeypatch.setattr(replay, "_beside", lambda function, *inputs: function(*inputs))
    work = replay.Replayed(function)
    sizes = [3, 2, 3, 3, 3, 3, 2, 3]
    given, results = [], []
    with caplog.at_level(logging.INFO):
        for number, size in enumerate(sizes):
            values, factors = torch.arange(size) + 10.0 * number, torch.full((size,), 2.0 + number)
            given.append((values.tolist(), factors.tolist()))
            results.append(float(work(values, factors)))
            values.zero_()  # whose memory it must not be that is read next time
    assert seen == given
    assert results == [sum(v * f for v, f in zip(*each, strict=True)) for each in given]
    assert len(records) == 1
    assert caplog.messages == ["steps of 3 images are replayed from a CUDA graph"]


def test_cuda_graphs_change_nothing_without_a_gpu():
    models = [network(), network()]
    for model, graphs in zip(models, (False, True), strict=True):
        train(model, dataset(), HALF, PLAIN, epochs=1, seed=0, device=CPU, cuda_graphs=graphs)
    assert torch.equal(*map(weights, models))


def test_evaluation_against_a_loop():
    model = network().eval()
    images, labels = colours(50, 7)
    result = evaluate(model, images, labels, HALF, 3, CPU, batch_size=16)
    logits = torch.stack([model((i[None].float() / 255 - 0.5) / 0.25)[0] for i in images]).detach()
    hits = [int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True)]
    losses = [
        math.log(sum(math.exp(v) for v in row)) - row[label]
        for row, label in zip(logits.tolist(), labels, strict=True)
    ]
    assert result.n == 50
    assert result.top1 == pytest.approx(2 * sum(hits))
    assert result.loss == pytest.approx(sum(losses) / 50, abs=1e-5)
    for c in range(3):
        mine = [h for h, label in zip(hits, labels, strict=True) if label == c]
        assert result.per_class[c] == pytest.approx(100 * sum(mine) / len(mine))
    assert result.chance == 2 * max(labels.tolist().count(c) for c in range(3))
