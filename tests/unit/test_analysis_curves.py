import re
from statistics import fmean

from study_example import diagnostics, metric, report, results, values_of

from sparsecnn.analysis.curves import curve_of, extremes, is_curve
from sparsecnn.analysis.results import Cell

EPOCHS = (1, 2, 3, 5, 7, 10, 15, 20, 30)
REGIMES = {f"epochs_{n}": {"vgg16": n, "resnet18": n} for n in EPOCHS}
LOST = {"dense": 0, "magnitude": 30, "sparsegpt": 2}


def curve(seeds=(0, 1, 2)):
    values = [
        metric(model, n, seed, variant, 80 - 20 / n + seed - lost * (1 + seed / 10) + n / 10)
        for n in EPOCHS
        for model in ("vgg16", "resnet18")
        for seed in seeds
        for variant, lost in LOST.items()
    ]
    return results(seeds, REGIMES, ("magnitude", "sparsegpt"), values)


def test_a_study_of_many_budgets_is_a_curve():
    assert is_curve(curve())
    assert not is_curve(results())
    table = results()
    assert extremes(table) is table
    assert extremes(curve()).regimes == ["epochs_1", "epochs_30"]
    cells = curve_of(curve(), "resnet18")
    assert cells == [Cell(f"epochs_{n}", "resnet18") for n in EPOCHS]


def test_the_report_of_a_curve_shows_it_and_folds_the_long_tables():
    table = curve()
    text = report(table, measured=diagnostics(table))
    assert "figures/budgets.svg" in text
    assert re.search(r"^\| vgg16 +\| +1 \| +2 \| +3 \| +5 \|", text, re.M)
    lost = -fmean(values_of(table, Cell("epochs_30", "vgg16"), "magnitude", "drop"))
    assert re.search(rf"^\| magnitude \(points\) .*{lost:.2f} \|$", text, re.M)
    opened = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert "epochs_15 | vgg16" not in re.sub(" +", " ", opened)
    assert "epochs_15 | vgg16" in re.sub(" +", " ", text)
    assert "epochs_30 | resnet18" in re.sub(" +", " ", opened)  # in the tables of the diagnostics
    assert "\n\n\n" not in text


def test_a_study_of_few_budgets_shows_no_curve():
    assert "figures/budgets.svg" not in report(results())
