"""Slow, obvious float64 versions of what the pruning package computes."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsecnn.pruning.calibration.calls import Call, Watch


class Recorded(Watch):
    """The calls of one layer's weight, in order, and what each gave."""

    def __init__(self, layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        super().__init__({id(layer.weight): "weight"})
        self.calls: list[Call] = []
        self.outputs: list[Tensor] = []

    def after(self, name: str, call: Call, output: Tensor) -> None:
        self.calls.append(call)
        self.outputs.append(output)


def call_of(layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor) -> Call:
    """What the layer's forward pass computes with its weight."""
    with torch.no_grad(), Recorded(layer) as seen:
        layer(inputs)
    (call,) = seen.calls
    return call


def unfolded_rows(layer: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """Rows of each group by F.unfold, columns in the order of the flattened weight."""
    if layer.padding == "same":
        (dy, dx), (kh, kw) = layer.dilation, layer.kernel_size
        ty, tx = dy * (kh - 1), dx * (kw - 1)
        sides = [tx // 2, tx - tx // 2, ty // 2, ty - ty // 2]
    else:
        py, px = (0, 0) if layer.padding == "valid" else layer.padding
        sides = [px, px, py, py]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(images.double(), sides, mode=mode)
    rows = []
    for group in padded.chunk(layer.groups, dim=1):
        columns = functional.unfold(
            group, layer.kernel_size, dilation=layer.dilation, stride=layer.stride
        )
        rows.append(columns.transpose(1, 2).reshape(-1, columns.shape[1]))
    return rows


def channels_order(channels: int, area: int) -> list[int]:
    """Flattened index of each column of layout `channels`."""
    return [c * area + k for k in range(area) for c in range(channels)]


def textbook_sparsegpt(
    weight: Tensor, hessian: Tensor, kept: int, group: int, prunable: int, damping: float
) -> tuple[Tensor, Tensor]:
    """SparseGPT on one matrix as published: a loop over columns, one rank-1 update each."""
    weight, hessian = weight.double().clone(), hessian.double().clone()
    dead = hessian.diagonal() == 0
    mean = hessian.diagonal()[~dead].mean()
    hessian[dead, dead] = mean
    weight[:, dead] = 0
    hessian += damping * mean * torch.eye(len(hessian), dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    mask = torch.ones_like(weight, dtype=torch.bool)
    for j in range(weight.shape[1]):
        if j % group == 0 and j + group <= prunable:
            scores = weight[:, j : j + group] ** 2 / upper.diagonal()[j : j + group] ** 2
            for row in range(len(weight)):
                order = sorted(range(group), key=lambda i: (-scores[row, i].item(), i))
                mask[row, [j + i for i in order[kept:]]] = False
        final = torch.where(mask[:, j], weight[:, j], 0)
        error = (weight[:, j] - final) / upper[j, j]
        weight[:, j] = final
        weight[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return weight, mask


def group_masks(kept: int, group: int) -> Tensor:
    """Every mask of one group, bool (masks, group)."""
    masks = [
        [i in chosen for i in range(group)] for chosen in itertools.combinations(range(group), kept)
    ]
    return torch.tensor(masks)


def joint_sparsegpt(
    weight: Tensor, hessian: Tensor, kept: int, group: int, prunable: int, damping: float
) -> Tensor:
    """Per group and row try every mask, with the best values of all columns not yet fixed."""
    columns = weight.shape[1]
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(columns)
    result = weight.clone()
    for row in range(len(weight)):
        deviation = torch.zeros(columns, dtype=torch.float64)
        for start in range(0, prunable, group):
            trials = []
            for mask in group_masks(kept, group):
                removed = [start + i for i in range(group) if not mask[i]]
                free = [start + i for i in range(group) if mask[i]]
                free += list(range(start + group, columns))
                trial = deviation.clone()
                trial[removed] = weight[row, removed]
                fixed = list(range(start)) + removed
                right = damped[free][:, fixed] @ trial[fixed]
                trial[free] = -torch.linalg.solve(damped[free][:, free], right)
                trials.append((float(trial @ damped @ trial), trial))
            deviation = min(trials, key=lambda t: t[0])[1]
        result[row] = weight[row] - deviation
    return result


def greedy_obs(
    weight: Tensor, hessian: Tensor, kept: int, group: int, prunable: int, damping: float
) -> Tensor:
    """Remove one weight at a time, each time inverting the Hessian of the free weights anew."""
    columns = weight.shape[1]
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(columns)
    result = weight.clone()
    for row in result:
        free = list(range(columns))
        while True:
            held = [sum(i // group == j // group for i in free) for j in free]
            open_ = [k for k, j in enumerate(free) if j < prunable and held[k] > kept]
            if not open_:
                break
            inverse = torch.linalg.inv(damped[free][:, free])
            best = min(open_, key=lambda k: float(row[free[k]] ** 2 / inverse[k, k]))
            row[free] -= row[free[best]] / inverse[best, best] * inverse[best]
            row[free.pop(best)] = 0
    return result


def static_obs(
    weight: Tensor, hessian: Tensor, kept: int, group: int, prunable: int, damping: float
) -> Tensor:
    """The reference study's update: rows of one inverse for every column."""
    columns = weight.shape[1]
    inverse = torch.linalg.inv(hessian + damping * hessian.diagonal().mean() * torch.eye(columns))
    result = weight.clone()
    for row in result:
        for start in range(0, prunable, group):
            scores = row[start : start + group] ** 2 / inverse.diagonal()[start : start + group]
            removed = scores.argsort()[: group - kept].tolist()
            for j in sorted(removed):
                row[start + j + 1 :] -= (row[start + j] / inverse[start + j, start + j]) * inverse[
                    start + j, start + j + 1 :
                ]
                row[start + j] = 0
            row[[start + j for j in removed]] = 0
    return result


@torch.no_grad()
def reference_protocol(model: nn.Module, images: Tensor, ridge: float) -> None:
    """What the reference study calls SparseGPT, on a whole network in place, at 2:4.

    Every convolution and linear layer in the order of its modules; the inputs are those that the
    network as pruned so far gives it; the whole of an output's weight is cut into groups of four,
    and what is left over stays dense.
    """
    for layer in model.modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        inputs: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, given, kept=inputs: kept.append(given[0]))
        model(images)
        hook.remove()
        rows = (
            inputs[0] if isinstance(layer, nn.Linear) else unfolded_rows(layer, inputs[0])[0]
        ).double()
        hessian = rows.T @ rows / len(rows)
        added = 0.01 * hessian.diagonal().mean() + ridge
        inverse = torch.linalg.inv(hessian + added * torch.eye(len(hessian), dtype=torch.float64))
        matrix = layer.weight.double().flatten(1).clone()
        for start in range(0, matrix.shape[1] - 3, 4):
            scores = matrix[:, start : start + 4] ** 2 / inverse.diagonal()[start : start + 4]
            removed = scores.argsort(dim=1)[:, :2]
            for j in range(4):
                gone = (removed == j).any(1)
                change = torch.where(gone, matrix[:, start + j], 0) / inverse[start + j, start + j]
                matrix[:, start + j + 1 :] -= torch.outer(
                    change, inverse[start + j, start + j + 1 :]
                )
                matrix[gone, start + j] = 0
        layer.weight.copy_(matrix.view_as(layer.weight))
