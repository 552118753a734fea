"""How figures and charts show variants, and how far their axes go.

Colours are those of Okabe & Ito (colour-blind safe), black for dense; a variant keeps its colour
and marker in every figure of a study but the ablation, where they tell groups and batch norm apart.
"""

from collections.abc import Collection, Sequence

from sparsecnn.analysis.results import Results
from sparsecnn.analysis.statistics import Estimate
from sparsecnn.study.config import DENSE

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F3F")
MARKERS = ("s", "^", "D", "v", "P", "X", "p")
DROPS = (-10, -3, -1, 0, 0.5, 1, 3, 10, 30, 60)


def appearance(results: Results, variant: str) -> tuple[str, str]:
    """Colour and marker of a variant, the same in all figures of a study."""
    if variant == DENSE:
        return "black", "o"
    index = results.variants.index(variant)
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def whisker(estimate: Estimate, seeds: Sequence[float]) -> tuple[float, float]:
    """The interval; with two seeds, whose t-interval would fill the axis, the seeds themselves."""
    return (min(seeds), max(seeds)) if len(seeds) == 2 else (estimate.low, estimate.high)


def limits(
    whiskers: Sequence[tuple[float, float]], seeds: Collection[Sequence[float]]
) -> tuple[float, float]:
    """Limits that hold every point, and whiskers as far as they leave the points readable."""
    points = [value for values in seeds for value in values]
    low, high = min(points), max(points)
    reach = max(0.5 * (high - low), 10.0)
    bottom = max(min(whisker[0] for whisker in whiskers), low - reach)
    top = min(max(whisker[1] for whisker in whiskers), high + reach)
    margin = 0.04 * (top - bottom)
    return bottom - margin, top + margin
