import logging
import math

import pytest
import torch
from torch import nn

from sparsecnn.data.dataset import Dataset, Normalization
from sparsecnn.errors import UserError
from sparsecnn.evaluation.accuracy import evaluate
from sparsecnn.models.network import Architecture, build
from sparsecnn.training.loop import _batches, train
from sparsecnn.training.recipe import Recipe

CPU = torch.device("cpu")
HALF = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PLAIN = Recipe(
    batch_size=16,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.0,
    crop_padding=1,
    horizontal_flip=True,
)


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
    still = Recipe(16, 0.1, 0.9, 0.0, crop_padding=0, horizontal_flip=False)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        chunks = list(_batches(images, torch.arange(97), HALF, still, seed, epoch))
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


def test_one_step_is_sgd_with_momentum_and_decay():
    images, labels = colours(8)
    data = Dataset(images, labels, images, labels, ("red", "green", "blue"))
    recipe = Recipe(8, 0.1, 0.9, 0.01, crop_padding=0, horizontal_flip=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    before = model[1].weight.detach().double().clone()
    bias = model[1].bias.detach().double().clone()
    train(model, data, HALF, recipe, epochs=1, seed=0, device=CPU)
    inputs = ((images.double() / 255 - 0.5) / 0.25).flatten(1)
    w = before.clone().requires_grad_()
    nn.functional.cross_entropy(inputs @ w.T + bias, labels).backward()
    expected = before - 0.1 * (w.grad + 0.01 * before)
    assert torch.allclose(model[1].weight.detach().double(), expected, atol=1e-6)


def test_cosine_starts_at_the_rate_and_falls_towards_zero():
    rates = [PLAIN.learning_rate_at(e, 10) for e in range(10)]
    assert rates[0] == PLAIN.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert rates[5] == pytest.approx(PLAIN.learning_rate / 2)
    assert PLAIN.learning_rate_at(10, 10) == pytest.approx(0, abs=1e-12)


def test_divergence_stops_with_a_line_that_says_what_to_do():
    wild = Recipe(16, 1e30, 0.9, 0.0, crop_padding=0, horizontal_flip=False)
    with pytest.raises(UserError, match=r"diverged in epoch 1/3 .*lower training.learning_rate"):
        train(network(), dataset(), HALF, wild, epochs=3, seed=0, device=CPU)


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
