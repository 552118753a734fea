"""The reference study's five claims as declared tests.

They are of the regimes that train alike (`Results.ends`): recipes are not compared.

A claim says which comparisons it expects to be positive; one rule, the same for all, turns the
interval of their mean into a verdict (`sparsecnn.analysis.judging`). A study adds claims of its own
in its configuration (`sparsecnn.analysis.declared`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsecnn.analysis.comparisons import (
    Comparison,
    drop_terms,
    gain_terms,
    mean_terms,
    versus,
    weigh,
)
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.analysis.statistics import Estimate

ARCHITECTURE: Mapping[str, str] = {
    "custom_cnn": "serial",
    "vgg16": "serial",
    "resnet18": "residual",
}
"""Kind of each network that claims 4 and 5 speak of."""


class English(str):
    """A text in English, which `make messages` takes into the report's catalogues."""


class NotTestableError(Exception):
    """The study lacks what a claim speaks of: its kind, and the names that tell which."""

    def __init__(self, kind: str, **names: str) -> None:
        super().__init__(f"{kind} {names}")
        self.missing = {"kind": kind, **names}


@dataclass(frozen=True)
class Claim:
    """One claim and how it is tested."""

    number: int
    title: str
    statement: str
    """What is claimed, with the reference's own numbers if it is the reference's."""
    quantity: str | None
    """What is compared, in points; positive supports the claim. A noun phrase; None where `sides`
    say it. Its mean over the comparisons decides."""
    comparisons: Callable[..., list[Comparison]]
    """What to compare; raises `NotTestableError` if the study lacks it.

    The reference study's take a variant, `solver`, to put in the place of SparseGPT's.
    """
    every_case: bool = False
    """Whether each comparison is claimed to be positive, and not their mean alone."""
    margin: float | None = None
    """What would matter, in points; None for the study's own."""
    source: str = "reference"
    """Who claims it: the ``reference`` study, or this ``study``."""
    sides: Mapping[str, Any] = field(default_factory=dict)
    """Of a claim of this study's own, what its configuration compares: `more` and `than`."""
    explains: int | None = None
    """Of a cause offered for what another claim, tested earlier, says: the number of that claim.

    Accuracies cannot confirm it; they refute it where there is nothing to explain. Diagnostics test
    it on its comparisons, each drop replaced by the quadratic model's error.
    """


def sparsegpt_against_magnitude(results: Results, solver: str | None = None) -> list[Comparison]:
    """Claim 1: in every cell, SparseGPT minus magnitude pruning."""
    sparsegpt, magnitude = solver or judged(results), _variant(results, "magnitude")
    return [versus([(1, cell, sparsegpt)], [(1, cell, magnitude)]) for cell in results.cells]


def drop_shrinks_with_training(results: Results, solver: str | None = None) -> list[Comparison]:
    """Claim 2: for each network, SparseGPT's drop at the least minus at the most training."""
    variant = solver or judged(results)
    least, most = _extreme_regimes(results)
    trained_longer = [
        model
        for model in results.models
        if {Cell(least, model), Cell(most, model)} <= set(results.cells)
        and results.epochs(Cell(least, model)) < results.epochs(Cell(most, model))
    ]
    if not trained_longer:
        raise NotTestableError("longer training", least=least, most=most)
    return [
        versus(drop_terms(Cell(least, model), variant), drop_terms(Cell(most, model), variant))
        for model in trained_longer
    ]


def change_by_training(results: Results, variant: str) -> Estimate | None:
    """The drop under a variant at the most minus at the least training, averaged over networks.

    None where none is trained longer.
    """
    try:
        comparisons = drop_shrinks_with_training(results, variant)
    except NotTestableError:
        return None
    shrinks = mean_terms(comparisons)
    return weigh(results, [(-weight, cell, name) for weight, cell, name in shrinks])


def residual_loses_more(results: Results, solver: str | None = None) -> list[Comparison]:
    """Claim 4: at the most training, a residual network's drop minus a serial one's."""
    variant = solver or judged(results)
    return [
        versus(drop_terms(residual, variant), drop_terms(serial, variant))
        for residual, serial in _residual_and_serial(results)
    ]


def serial_gains_more(results: Results, solver: str | None = None) -> list[Comparison]:
    """Claim 5: at the most training, a serial network's gain over magnitude minus a residual's."""
    sparsegpt, magnitude = solver or judged(results), _variant(results, "magnitude")
    return [
        versus(gain_terms(serial, sparsegpt, magnitude), gain_terms(residual, sparsegpt, magnitude))
        for residual, serial in _residual_and_serial(results)
    ]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        1,
        English("SparseGPT beats magnitude pruning"),
        English(
            "SparseGPT beats magnitude pruning for every network and training budget, "
            "by up to 37 points (VGG-16, fully trained)."
        ),
        English("the accuracy of SparseGPT minus that of magnitude pruning"),
        sparsegpt_against_magnitude,
        every_case=True,
    ),
    Claim(
        2,
        English("Better-trained networks lose less"),
        English(
            "From the shorter to the longer training the accuracy after SparseGPT rises by more "
            "than the baseline does (VGG-16 +30 against +5 points, Custom CNN +21 against +15)."
        ),
        English("the drop under SparseGPT at the shortest training minus that at the longest"),
        drop_shrinks_with_training,
    ),
    Claim(
        3,
        English("The cause is curvature"),
        English(
            "Away from a local minimum the curvature is unreliable and SparseGPT's quadratic model "
            "errs; at a minimum it is accurate and the compensation works."
        ),
        English(
            "the error of the quadratic model of the loss under SparseGPT, in %, at the "
            "shortest training minus that at the longest"
        ),
        drop_shrinks_with_training,
        margin=10,
        explains=2,
    ),
    Claim(
        4,
        English("Residual networks recover poorly"),
        English(
            "Even fully trained, ResNet-18 keeps only 42.6 % accuracy: skip connections defeat "
            "layer-wise reconstruction."
        ),
        English(
            "the drop under SparseGPT, at the longest training, of a residual network minus that "
            "of a serial one"
        ),
        residual_loses_more,
    ),
    Claim(
        5,
        English("Serial networks gain most"),
        English(
            "SparseGPT's gain over magnitude pruning is largest in well-trained serial networks "
            "(VGG-16, Custom CNN)."
        ),
        English(
            "the gain of SparseGPT over magnitude pruning, at the longest training, of a serial "
            "network minus that of a residual one"
        ),
        serial_gains_more,
    ),
)


def judged(results: Results) -> str:
    """The variant that the claims take for SparseGPT; `NotTestableError` if there is none."""
    return _variant(results, "sparsegpt")


def _variant(results: Results, method: str) -> str:
    variant = results.variant_of(method)
    if variant is None:
        raise NotTestableError("variant", method=method)
    return variant


def _extreme_regimes(results: Results) -> tuple[str, str]:
    least, most = results.ends
    if least == most:
        raise NotTestableError("second regime")
    return least, most


def _residual_and_serial(results: Results) -> list[tuple[Cell, Cell]]:
    most = results.ends[1]
    kinds = {cell: ARCHITECTURE.get(cell.model) for cell in results.cells if cell.regime == most}
    residual = [cell for cell, kind in kinds.items() if kind == "residual"]
    serial = [cell for cell, kind in kinds.items() if kind == "serial"]
    for kind, found in (("residual", residual), ("serial", serial)):
        if not found:
            raise NotTestableError(f"{kind} network", regime=most)
    return [(one, other) for one in residual for other in serial]
