import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sparsecnn.errors import UserError
from sparsecnn.pruning.batchnorm import recalibrate_batchnorm


def test_statistics_are_those_of_all_batches_together() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3)).double()
    batches = [torch.randn(n, 3, 6, 6).double() * n + n for n in (2, 5, 9)]
    outputs = torch.cat([model[0](b) for b in batches]).detach()
    assert recalibrate_batchnorm(model, batches) == 1
    torch.testing.assert_close(model[1].running_mean, outputs.mean((0, 2, 3)))
    torch.testing.assert_close(model[1].running_var, outputs.transpose(0, 1).flatten(1).var(1))


def test_later_layers_see_batch_normalised_inputs_and_no_dropout() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)
    )
    batch = torch.randn(64, 4) * 3 + 5
    recalibrate_batchnorm(model, [batch])
    hidden = model[2]((batch - batch.mean(0)) / (batch.var(0, correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(model[3].running_mean, hidden.mean(0).detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model[3].running_var, hidden.var(0).detach(), rtol=1e-3, atol=1e-4)


class WithUnusedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.free = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.free(self.used(x))
        return out


def test_state_is_restored_also_on_error() -> None:
    model = WithUnusedNorm().train()
    model.used.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match="'unused' saw 0 values"):
        recalibrate_batchnorm(model, [torch.randn(8, 4) + 3])
    assert not model.used.training
    assert model.unused.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_only_statistics_change() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate_batchnorm(model, [torch.randn(8, 4) + 3])
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"1.running_mean", "1.running_var"}


def test_nothing_to_do_and_no_batches() -> None:
    assert recalibrate_batchnorm(nn.Linear(2, 2), [torch.randn(3, 2)]) == 0
    for nothing in ([], (x for x in ())):
        with pytest.raises(UserError, match="no batches were given to re-estimate"):
            recalibrate_batchnorm(nn.BatchNorm1d(2), nothing)
    with pytest.raises(UserError, match="every calibration batch is empty"):
        recalibrate_batchnorm(nn.BatchNorm1d(2), [torch.randn(0, 2)])


def test_batches_come_as_people_have_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4), nn.BatchNorm1d(4))
    x, y = torch.randn(16, 4), torch.arange(16)
    before, expected = x.clone(), copy.deepcopy(model)
    recalibrate_batchnorm(expected, [x[:8], x[8:]])
    forms: list[Any] = [
        DataLoader(TensorDataset(x, y), 8),
        DataLoader(TensorDataset(x, y.float()), 8),
        (part for part in x.split(8)),
        [{"input": x[:8]}, {"input": x[8:]}],
        [x[:8], x[8:], x[:0]],
        [x[:8].double(), x[8:].double()],
    ]
    for batches in forms:
        other = copy.deepcopy(model)
        assert recalibrate_batchnorm(other, batches) == 1
        assert torch.equal(other[2].running_mean, expected[2].running_mean)
        assert torch.equal(other[2].running_var, expected[2].running_var)
    batches = [{"image": x[:8], "name": "a"}, {"image": x[8:], "name": "b"}]
    recalibrate_batchnorm(model, batches, lambda model, batch: model(batch["image"]))
    assert torch.equal(model[2].running_mean, expected[2].running_mean)
    assert torch.equal(x, before)


def test_what_the_model_raises_is_a_line() -> None:
    with pytest.raises(UserError, match=r"^batch 2: the model, called with .*\(3, 5\), raised"):
        recalibrate_batchnorm(nn.BatchNorm1d(4), [torch.randn(3, 4), torch.randn(3, 5)])


@pytest.mark.parametrize("form", [lambda x: x, lambda x: (x, torch.arange(len(x)))])
def test_a_batch_with_one_value_per_channel_is_a_line(form: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))
    with pytest.raises(UserError, match=r"a batch of 1 gives .* two images or more"):
        recalibrate_batchnorm(model, [form(torch.randn(n, 3, 8, 8)) for n in (5, 1)])
