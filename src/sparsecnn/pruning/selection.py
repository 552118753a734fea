"""Which layers of a model are pruned, and why the others are not."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sparsecnn.errors import UserError
from sparsecnn.pruning.layouts import PrunableLayer, prunable_columns
from sparsecnn.pruning.patterns import Pattern
from sparsecnn.pruning.state import evaluating

COVERAGES = ("all", "skip_first_last", "hardware")


def find_layers(model: nn.Module, exclude: Sequence[str]) -> dict[str, PrunableLayer]:
    """Every Conv2d and Linear by dotted name, in module order.

    Raises `UserError` if there is none, or if one is not excluded by name that is a convolution of
    another kind (transposed, 1-D, 3-D), shares its weight with another, or computes it from other
    tensors (weight normalisation and other parametrizations), so that zeros would not stay.
    """
    layers: dict[str, PrunableLayer] = {}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module._parameters.get("weight") is None:
                if not _matches(name, exclude):
                    raise UserError(
                        f"layer {name!r} computes its weight from other tensors (as weight_norm "
                        "does), so pruned weights would not stay: make it a plain parameter first "
                        "(torch.nn.utils.parametrize.remove_parametrizations), or leave the layer "
                        f"out with exclude=[{name!r}]"
                    )
                layers[name] = module
                continue
            first = owners.setdefault(id(module.weight), name)
            if first != name and not _matches(name, exclude):
                raise UserError(
                    f"layers {first!r} and {name!r} share one weight, so they cannot be pruned "
                    f"apart: leave both out with exclude=[{first!r}, {name!r}]"
                )
            layers[name] = module
        elif isinstance(module, _ConvNd) and not _matches(name, exclude):
            raise UserError(
                f"layer {name!r} is a {type(module).__name__}, which cannot be pruned (only "
                f"Conv2d and Linear can): leave it out with exclude=[{name!r}]"
            )
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name, _ in model.named_modules()):
            raise UserError(
                f"exclude={pattern!r} matches no module: the layers are {', '.join(layers)}"
            )
    if not layers:
        raise UserError("the model has no Conv2d or Linear layer to prune")
    return layers


def count_uses(model: nn.Module, batch: Tensor, layers: dict[str, PrunableLayer]) -> dict[str, int]:
    """How often a forward pass uses each layer, in the order in which data reaches them.

    Layers that it never reaches come last, with 0.
    """
    uses: dict[str, int] = {}

    def count(name: str) -> None:
        uses[name] = uses.get(name, 0) + 1

    handles = [
        layer.register_forward_pre_hook(lambda *_, name=name: count(name))
        for name, layer in layers.items()
    ]
    try:
        with evaluating(model):
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return uses | {name: 0 for name in layers if name not in uses}


def reasons_to_stay_dense(
    layers: dict[str, PrunableLayer],
    *,
    pattern: Pattern,
    layout: str,
    coverage: str,
    include: Sequence[str],
    exclude: Sequence[str],
) -> dict[str, str]:
    """For each layer (given in data order) why it stays dense; empty text if it is pruned."""
    _check_names(layers, coverage, include, exclude)
    names = list(layers)
    reasons = {}
    for name, layer in layers.items():
        if _matches(name, exclude) or (include and not _matches(name, include)):
            reasons[name] = "excluded by name"
        elif coverage == "skip_first_last" and name in (names[0], names[-1]):
            reasons[name] = "first layer" if name == names[0] else "last layer"
        else:
            reasons[name] = _misfit(layer, pattern, layout)
            if coverage == "hardware" and not reasons[name]:
                reasons[name] = _hardware_misfit(layer)
    return reasons


def _hardware_misfit(layer: PrunableLayer) -> str:
    """Shapes that sparse tensor cores take: rows in multiples of 8, channels of 16."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    rows, channels = layer.weight.shape[0] // groups, layer.weight.shape[1]
    if rows % 8 == 0 and channels % 16 == 0:
        return ""
    return (
        f"sparse tensor cores take output channels in multiples of 8 and input channels of 16, "
        f"not {rows} and {channels} per group"
    )


def _misfit(layer: PrunableLayer, pattern: Pattern, layout: str) -> str:
    channels, columns = layer.weight.shape[1], layer.weight[0].numel()
    if prunable_columns(columns, channels, pattern.group, layout):
        return ""
    if layout == "channels":
        return f"{channels} input channels per group are not a multiple of {pattern.group}"
    return f"{columns} weights per output channel are fewer than {pattern.group}"


def _check_names(
    layers: dict[str, PrunableLayer],
    coverage: str,
    include: Sequence[str],
    exclude: Sequence[str],
) -> None:
    if coverage not in COVERAGES:
        raise UserError(f"unknown coverage {coverage!r}: choose one of {', '.join(COVERAGES)}")
    for wanted in include:
        if not any(fnmatchcase(name, wanted) for name in layers):
            raise UserError(
                f"include={wanted!r} matches no layer: the layers are {', '.join(layers)}"
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
