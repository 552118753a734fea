"""Slow, obvious float64 versions of what the pruning package computes."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


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
