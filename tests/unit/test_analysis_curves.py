import re
from statistics import fmean

import pandas as pd
from study_example import diagnostics, metric, report, results, values_of

from sparsecnn.analysis.curves import curve_of, extremes, is_curve
from sparsecnn.analysis.results import Cell, at_largest_budget, largest_budget
from sparsecnn.report.charts import budgets_chart
from sparsecnn.study.config import budgets

EPOCHS = (1, 2, 3, 5, 7, 10, 15, 20, 30)
REGIMES = {f"epochs_{n}": {"vgg16": n, "resnet18": n} for n in EPOCHS}
LOST = {"dense": 0, "magnitude": 30, "sparsegpt": 2}


def with_given(regimes, seeds=(0, 1, 2)):
    """A study of trainings of vgg16, and of a network that came trained."""
    values = [
        metric(model, n, seed, variant, 80 - lost * (1 + seed / 10) + n / 10, recipe=own["recipe"])
        for own in ({"recipe": "reference", **own} for own in [*regimes.values(), GIVEN])
        for model, n in budgets(own).items()
        for seed in seeds
        for variant, lost in LOST.items()
    ]
    return results(seeds, regimes | {"given": GIVEN}, ("magnitude", "sparsegpt"), values)


GIVEN = {"recipe": "given", "mine": 0}


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


def test_a_given_network_is_no_budget_and_stands_beside_the_curve():
    three = with_given({f"epochs_{n}": {"vgg16": n} for n in (1, 2, 3)})
    assert not is_curve(three)
    assert largest_budget(three) == [Cell("epochs_3", "vgg16"), Cell("given", "mine")]
    found = at_largest_budget(three, three.estimates("drop"))
    assert set(zip(found["regime"], found["model"], strict=True)) == set(largest_budget(three))
    table = with_given({f"epochs_{n}": {"vgg16": n} for n in EPOCHS})
    assert is_curve(table)
    assert table.ends == ("epochs_1", "epochs_30")
    assert extremes(table).regimes == ["epochs_1", "epochs_30", "given"]
    text = report(table, measured=diagnostics(table))
    assert re.search(r"^\| mine +\| +given \|", text, re.M)
    points = pd.DataFrame(budgets_chart(table).to_dict()["datasets"].popitem()[1])
    assert set(points["model"]) == {"vgg16"}


def test_the_report_of_given_networks_alone_speaks_of_no_training():
    table = with_given({})
    text = report(table, measured=diagnostics(table))
    assert "**Training.**" not in text
    assert "One training regime" not in text
    assert "- **Budgets.** None: nothing is trained here. Seeds 0, 1, 2.\n" in text
    budgets_chart(table).to_dict()  # which the report does not show


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
