"""Studies of many training budgets, which are reported as curves."""

from sparsecnn.analysis.results import Cell, Results, results_of
from sparsecnn.study.config import GIVEN

FEW = 3
"""Up to so many budgets each has a panel or a row of its own; more are reported as a curve."""


def is_curve(results: Results) -> bool:
    """Whether the study has too many budgets for a panel each."""
    return len(results.trained_regimes) > FEW


def extremes(results: Results) -> Results:
    """The study itself or, if it is a curve, its least and its most trained regime alone.

    With them what networks are given.
    """
    if not is_curve(results):
        return results
    shown = [*results.ends, GIVEN]
    return results_of(results.frame[results.frame["regime"].isin(shown)])


def curve_of(results: Results, model: str) -> list[Cell]:
    """The cells of one network by epochs; where two regimes agree in them, both in turn."""
    cells = [cell for cell in results.cells if cell.model == model]
    return sorted(cells, key=results.epochs)
