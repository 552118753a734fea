"""Studies of many training budgets, which are reported as curves."""

from sparsecnn.study.ablation import shown
from sparsecnn.study.comparisons import accuracy, drop
from sparsecnn.study.metrics import DENSE, Cell, Results
from sparsecnn.study.text import markdown_table, signed

FEW = 3
"""Up to so many budgets each has a panel or a row of its own; more are reported as a curve."""


def is_curve(results: Results) -> bool:
    """Whether the study has too many budgets for a panel each."""
    return len(results.regimes) > FEW


def extremes(results: Results) -> Results:
    """The study itself or, if it is a curve, its first and its last regime alone."""
    if not is_curve(results):
        return results
    ends = (results.regimes[0], results.regimes[-1])
    return Results(tuple(row for row in results.rows if row.regime in ends))


def curve_of(results: Results, model: str) -> list[Cell]:
    """The cells of one network by epochs; where two regimes agree in them, both in turn."""
    cells = [cell for cell in results.cells if cell.model == model]
    return sorted(cells, key=results.epochs)


def curve_table(results: Results) -> str:
    """Accuracy of every dense network, and its change by pruning, by epochs."""
    blocks = []
    for model in results.models:
        cells = curve_of(results, model)
        header = [model, *(f"{results.epochs(cell)}" for cell in cells)]
        rows = [["dense (%)", *(f"{accuracy(results, c, DENSE).value:.2f}" for c in cells)]]
        for variant in shown(results):
            row = [signed(-drop(results, cell, variant).value) for cell in cells]
            rows.append([f"{variant} (points)", *row])
        blocks.append(markdown_table(header, rows))
    return "\n\n".join(blocks)
