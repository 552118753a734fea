import importlib.util
import re
import subprocess
import sys
from dataclasses import asdict
from statistics import fmean, stdev

import pandas as pd
import pytest
from jinja2 import UndefinedError
from scipy import stats
from study_example import (
    BUDGETS,
    CATALOGUES,
    FIGURES,
    GOLDEN,
    REFERENCE,
    ROOT,
    SPARSEGPT,
    VARIANTS,
    diagnostics,
    metrics,
    published_results,
    report,
    results,
    summary_of_dataset,
    values_of,
)

from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.results import ADDED, Cell, results_of
from sparsecnn.analysis.tables import write_csv
from sparsecnn.artifacts import Manifest, Origin, read_json, write_json, write_table
from sparsecnn.report.markdown import left_dense, render
from sparsecnn.report.tables import headline
from sparsecnn.report.text import ABSENT, signed, table
from sparsecnn.study.lineage import Lineage
from sparsecnn.training.recipe import Recipe

A = "under_trained"
SHORT = {"under_trained": {"vgg16": 5}}
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def tables_of(text):
    """Every Markdown table as a list of dicts; a repeated column name gets a prime."""
    tables, lines = [], text.splitlines()
    for i, line in enumerate(lines):
        if re.fullmatch(r"\|[ :|-]+\|", line):
            header = []
            for name in cells_of(lines[i - 1]):
                header.append(name + "'" if name in header else name)
            rows = []
            for row in lines[i + 1 :]:
                if not row.startswith("|"):
                    break
                rows.append(dict(zip(header, cells_of(row), strict=True)))
            tables.append(rows)
    return tables


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_with(text, column):
    return next(rows for rows in tables_of(text) if column in rows[0])


def numbers(cell):
    return [float(number) for number in NUMBER.findall(cell)]


@pytest.mark.parametrize("language", GOLDEN)
def test_the_report_is_the_golden_one(language):
    message = "if this is meant: PYTHONPATH=src python tests/unit/study_example.py, read the diff"
    text = report(results(), measured=diagnostics(results()), language=language)
    assert text == GOLDEN[language].read_text(encoding="utf-8"), message


@pytest.mark.parametrize("table", [results(), published_results()], ids=["three seeds", "one"])
def test_every_number_of_the_tables_is_found_again_in_the_metrics(table):
    text = report(table)
    first, main = tables_of(text)[0], table_with(text, "Baseline")
    full = table_with(text, "95 % interval")
    assert [row["Variant"] for row in first] == table.variants
    for row in first:
        for regime in table.regimes:
            drops = [
                fmean(values_of(table, cell, row["Variant"], "drop"))
                for cell in table.cells
                if cell.regime == regime
            ]
            assert numbers(row[regime]) == pytest.approx([-fmean(drops)], abs=0.00501)
        mean, low, high = numbers(row["All [95 % interval]"])
        every = table.frame.loc[table.frame["variant"] == row["Variant"], "drop"].mean()
        assert low <= mean <= high
        assert mean == pytest.approx(-every, abs=0.00501)
    assert len(main) == len(table.cells)
    assert len(full) == len(table.cells) * (1 + len(table.variants))
    for row in main:
        cell = Cell(row["Regime"], row["Network"])
        assert int(row["Epochs"]) == table.epochs(cell)
        assert numbers(row["Baseline"]) == [round(fmean(values_of(table, cell, "dense")), 2)]
        for variant in table.variants:
            drops = values_of(table, cell, variant, "drop")
            expected = [fmean(values_of(table, cell, variant)), -fmean(drops)]
            assert numbers(row[f"{variant} (drop)"]) == pytest.approx(expected, abs=0.00501)
    for row in full:
        cell, variant = Cell(row["Regime"], row["Network"]), row["Variant"]
        top1 = values_of(table, cell, variant)
        spread = [stdev(top1)] if len(top1) > 1 else []
        assert numbers(row["Top-1 (%)"]) == pytest.approx([fmean(top1), *spread], abs=0.00501)
        low, high = numbers(row["95 % interval"])
        assert low <= fmean(top1) <= high
        assert row["n"] == str(len(top1))
        if variant != "dense":
            low, high = numbers(row["95 % interval'"])
            assert low <= numbers(row["Drop (points)"])[0] <= high


@pytest.mark.parametrize("table", [results(), published_results()], ids=["three seeds", "one"])
def test_every_measure_of_a_pruned_network_is_found_again_in_the_metrics(table):
    rows = table_with(report(table), "KL (nats)")
    assert len(rows) == len(table.cells) * len(table.variants)
    for row in rows:
        cell, variant = Cell(row["Regime"], row["Network"]), row["Variant"]
        pairs = zip(*(values_of(table, cell, v, "loss") for v in (variant, "dense")), strict=True)
        told = {
            "Top-1 (%)": values_of(table, cell, variant),
            "Drop (points)": [-drop for drop in values_of(table, cell, variant, "drop")],
            "Loss increase (nats)": [pruned - dense for pruned, dense in pairs],
            "KL (nats)": values_of(table, cell, variant, "kl"),
            "Agreement (%)": values_of(table, cell, variant, "agreement"),
        }
        assert list(row) == ["Regime", "Network", "Variant", *told]
        for heading, values in told.items():
            spread = [stdev(values)] if len(values) > 1 else []
            accurate = {"Loss increase (nats)": 5.01e-5, "KL (nats)": 5.01e-6}.get(heading, 5.01e-3)
            assert numbers(row[heading]) == pytest.approx([fmean(values), *spread], abs=accurate)


def without(table, rows):
    """The table as one in which some rows lack what was added later."""
    added = {name: table.frame[name].mask(rows) for name in ADDED}
    return results_of(table.frame.assign(**added))


def test_a_report_of_a_table_of_an_earlier_version_leaves_out_what_it_lacks():
    table = results()
    text = report(without(table, table.frame["seed"] >= 0))
    assert "KL" not in text
    assert "greement" not in text
    assert "hat pruning buys" not in text
    assert "what-pruning-buys" not in text
    rows = table_with(text, "Loss increase (nats)")
    assert list(rows[0])[-1] == "Loss increase (nats)"
    assert len(rows) == len(table.cells) * len(table.variants)


def test_what_pruning_buys_is_told_once_for_variants_that_cost_the_same():
    random = {"magnitude": 40_000, "sparsegpt": 50_690, "sparsegpt_bn": 50_690}
    values = [
        value
        | ({"parameters_kept": random[value["variant"]] + 3000 * value["seed"]} if pruned else {})
        for value in metrics(regimes=SHORT)
        for pruned in [value["variant"] != "dense"]
    ]
    rows = table_with(report(results(regimes=SHORT, values=values)), "Variants")
    assert [row["Variants"] for row in rows] == ["dense", "magnitude", "sparsegpt, sparsegpt_bn"]
    assert [row["Parameters (thousands)"] for row in rows] == [
        "98 (100.0 %)",
        "43 (43.7 %)",
        "54 (54.6 %)",
    ]
    told = ["Size in fp16 (kB)", "MACs per image (thousands)", "MACs for sparse cores (%)"]
    assert [rows[0][name] for name in told] == ["197 (100.0 %)", "2,951 (100.0 %)", "0.0"]
    assert [rows[1][name] for name in told] == ["122 (61.9 %)", "1,582 (53.6 %)", "75.0"]


def test_a_mean_over_seeds_of_which_one_was_not_measured_is_a_dash():
    table = results()
    lacking = (table.frame["seed"] == 1) & (table.frame["variant"] == "sparsegpt")
    rows = table_with(report(without(table, lacking)), "KL (nats)")
    dashes = {row["Variant"] for row in rows if row["KL (nats)"] == "\N{EN DASH}"}
    assert dashes == {"sparsegpt"}


def test_the_numbers_of_both_reports_of_the_reference_stand_beside_ours():
    rows = table_with(report(results()), "Source")
    told = {(r["Regime"], r["Network"], r["Source"]): r for r in rows}
    first, second = "reference, report 1", "reference, report 2"
    assert len(rows) == 15
    assert told["fully_trained", "vgg16", first]["sparsegpt (drop)"] == "68.31 (-17.43)"
    assert told["fully_trained", "vgg16", second]["sparsegpt (drop)"] == "67.91 (-17.83)"
    assert told["under_trained", "resnet18", first]["magnitude (drop)"] == "20.80 (-58.65)"
    assert ("under_trained", "resnet18", second) not in told
    epochs = [told["fully_trained", "vgg16", source]["Epochs"] for source in (first, second)]
    assert epochs == ["15-30", ABSENT]
    assert "sparsegpt_bn (drop)" not in rows[0]


def test_the_reference_is_cited_and_how_far_it_differs_from_itself_is_said():
    section = report(results()).partition("\n## Beside the reference")[2].partition("\n##")[0]
    assert "`kbhcyj/cnn_sparsegpt` (commit 35828d0)" in section
    assert "up to 4.6 points apart" in " ".join(section.split())


def test_the_published_tables_agree_with_themselves_and_on_the_dense_networks():
    is_dense = REFERENCE["method"] == "dense"
    both = REFERENCE[~is_dense].merge(REFERENCE[is_dense], on=["report", "regime", "model"])
    assert (is_dense.sum(), len(both)) == (9, 18)
    assert list(both["top1_y"] - both["top1_x"]) == pytest.approx(list(both["drop_x"]))
    dense = REFERENCE[is_dense].groupby(["regime", "model"])["top1"]
    assert set(dense.nunique()) == {1}


def test_what_differs_from_the_reference_is_said_only_where_it_differs():
    def told(table):
        section = report(table).partition("\n## Beside the reference")[2].partition("\n##")[0]
        return re.findall(r"^- (.*)$", section, re.M)

    always = [
        "SparseGPT: `sparsegpt` here, an update with one static inverse Hessian there",
        "calibration images: 1,024 as they are here, 1,024 augmented ones there",
        "weights: of the last epoch here, of the best epoch on the test set there",
    ]
    assert told(published_results()) == always
    without = results(variants=("magnitude",))
    assert always[0] not in told(without)
    longer = {name: {"vgg16": epochs} for name, epochs in zip(BUDGETS, (2, 20), strict=True)}
    values = [
        value | {"epochs": longer[regime]["vgg16"]}
        for regime in BUDGETS
        for value in metrics(regimes={regime: {"vgg16": BUDGETS[regime]["vgg16"]}})
    ]
    assert told(results(regimes=longer, values=values)) == [
        "data: CIFAR-10, JPEG q75 here, CIFAR-10 there",
        "width of the networks: vgg16 0.25 here, 1 there",
        "epochs: vgg16, under_trained 2 here, 5-7 there",
        "groups of a convolution's weights: channels here, flattened there",
        *always,
    ]


def at_chance():
    return [value | {"top1": 10.0 + 0.01 * value["seed"]} for value in metrics()]


DEGENERATE = {
    "one seed": (results(seeds=(1,)), ["One seed: the intervals", "one seed."]),
    "two seeds": (results(seeds=(0, 1)), ["Two seeds: Student's t"]),
    "one regime": (
        results(regimes={"under_trained": BUDGETS["under_trained"]}),
        ["One training regime", "lacks a second training regime"],
    ),
    "one of all": (
        results(seeds=(0,), regimes={"under_trained": {"vgg16": 5}}, variants=("sparsegpt",)),
        [
            "One network: nothing",
            "costs 4.34 [3.19, 5.48] points of top-1 accuracy with `sparsegpt`",
        ],
    ),
    "nothing to compare": (
        results(variants=("sparsegpt_bn",)),
        ["No cell of this study has its counterpart", "lacks a variant with method sparsegpt"],
    ),
    "at chance": (
        results(values=at_chance()),
        ["> **Warning**", "vgg16, fully_trained: the dense network did not learn"],
    ),
}


@pytest.mark.parametrize(("table", "said"), DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_studies_are_reported_in_words(table, said):
    for text in (report(table), report(table, measured=diagnostics(table))):
        for words in said:
            assert words in text
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b|undefined", text, re.IGNORECASE)
        assert all(rows for rows in tables_of(text))


def test_the_first_lines_name_claims_that_were_tested_alone():
    first = report(results(values=at_chance())).partition("Contents:")[0]
    assert "not tested" not in first
    assert "\n\n\n" not in first
    assert "*Residual networks recover poorly*: reproduced" in report(results())


def test_a_pruned_network_at_chance_is_named():
    values = [
        value | {"top1": 10.2} if value["variant"] == "magnitude" else value for value in metrics()
    ]
    told = "indistinguishable from chance (10.00 %): `magnitude` (custom_cnn, under_trained);"
    assert told in report(results(values=values))


def test_markdown_is_clean():
    text = report(results())
    assert "\n\n\n" not in text
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text.count("<details>") == text.count("</details>")
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(row) for row in rows.splitlines()}) == 1
    headings = [h.lower().replace(" ", "-") for h in re.findall(r"^## (.*)", text, re.MULTILINE)]
    assert headings == re.findall(r"\]\(#([a-z-]+)\)", text)


def test_layers_left_dense_are_listed_once_per_network():
    networks = [
        {"model": "m", "variant": variant, "dense_layers": layers}
        for variant, layers in (("dense", []), ("a", ["x", "y"]), ("b", ["x", "y"]), ("c", ["x"]))
        for _ in range(2)
    ]
    assert left_dense(networks) == [
        {"model": "m", "layers": "`x`, `y`", "variants": "a, b"},
        {"model": "m", "layers": "`x`", "variants": "c"},
    ]
    alike = [network for network in networks if network["variant"] != "c"]
    assert left_dense(alike) == [{"model": "m", "layers": "`x`, `y`", "variants": ""}]


def test_an_unknown_name_in_the_template_is_an_error():
    with pytest.raises(UndefinedError):
        render({"report.md.j2": "{{ nothing }}"}, {})


def test_tables_are_padded_and_signed_numbers_have_no_negative_zero():
    frame = pd.DataFrame([["a", "1.50"], ["longer", "12.25"]], columns=["name", "x"])
    assert table(frame).splitlines() == [
        "| name   |     x |",
        "|:-------|------:|",
        "| a      |  1.50 |",
        "| longer | 12.25 |",
    ]
    plain = table(frame, style="simple").splitlines()
    assert plain[1:3] == ["------  -----", "a        1.50"]
    assert [signed(x) for x in (1.234, -0.5, -0.001, 0.0)] == ["+1.23", "-0.50", "0.00", "0.00"]


def test_headline_is_plain_text_for_a_terminal():
    text = headline(results(seeds=(0, 1)))
    assert "on CIFAR-10, JPEG q75, 10,000 test images, mean of 2 seeds" in text
    assert "*" not in text
    assert "|" not in text
    assert len(text.splitlines()) == 2 + 2 + 6


def script(name):
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_each_recipe_in_use_is_described_with_the_regimes_it_trains():
    strong = Recipe(512, 0.4, nesterov=True, schedule="triangular", warmup=0.2, cutout=8)
    table = results()
    recipes = {"reference": asdict(Recipe()), "strong": asdict(strong), "unused": {}}
    config = {"recipes": recipes, "variants": {name: VARIANTS[name] for name in table.variants}}
    epochs = dict.fromkeys(table.models, 5)
    regimes = {"a": {"recipe": "reference"} | epochs, "b": {"recipe": "strong"} | epochs}

    def trainings():
        setup = report(table, settings=config | {"regimes": regimes}).partition("\n## Results")[0]
        return dict(re.findall(r"^- \*\*(Training.*?)\.\*\* (.*)$", setup, re.M))

    words = trainings()
    assert list(words) == [
        "Training, recipe `reference` (`a`)",
        "Training, recipe `strong` (`b`)",
    ]
    described = words["Training, recipe `strong` (`b`)"]
    for part in ("learning rate 0.4 reached after 20% of", "Nesterov momentum", "cutout of 8 pix"):
        assert part in described
    assert "cutout" not in words["Training, recipe `reference` (`a`)"]
    recipes["strong"] |= {"crop_padding": 0}
    assert ", random horizontal flips, cutout" in list(trainings().values())[1]
    recipes["strong"] |= {"horizontal_flip": False}
    described = list(trainings().values())[1]
    assert not any(word in described for word in ("flips", "crops", ", ,"))


def test_of_several_recipes_the_report_says_which_the_claims_speak_of():
    frame = results().frame
    strong = frame[frame["regime"] == "fully_trained"].assign(regime="strong", recipe="strong")
    text = report(results_of(pd.concat([frame, strong])))
    told = "the shortest training is `under_trained`, the longest `fully_trained`."
    assert told in text
    assert told not in report(results())


def test_the_scripts_turn_metrics_into_a_report(tmp_path, monkeypatch):
    study = tmp_path / "results" / "example"
    regimes = {"under_trained": {"recipe": "reference", "vgg16": 5}}
    paths, layers = [], []
    for value in metrics((0, 1), regimes, ("magnitude", "sparsegpt")):
        folder = (
            study / "vgg16" / "reference" / "epochs-5" / f"seed-{value['seed']}" / value["variant"]
        )
        paths.append(folder / "metrics.json")
        write_json(paths[-1], value, Manifest("metrics", {}, "c0de"))
        if value["variant"] != "dense":
            layers.append(folder / "layers.csv")
            write_table(layers[-1], [{"layer": "conv1", "relative_error": 0.1}])
    settings = {"config": {"study": "example", "regimes": regimes, "seeds": [0, 1]}}
    settings["content"] = None
    settings["config"] |= {"baselines": None, "on_new_versions": "warn", "models": {"vgg16": {}}}
    settings["config"]["dataset"] = {"name": "image_folder", "label": "photos", "holdout": 0}
    settings["config"]["variants"] = {"magnitude": {}, "sparsegpt": {}}
    table, claims, sources = (study / n for n in ("metrics.csv", "claims.json", "provenance.json"))
    figures = [study / "report/figures" / f"{name}.svg" for name in FIGURES]
    dataset, text = study / "data" / "dataset.json", study / "report" / "report.md"
    korean, former = text.with_name("report.ko.md"), text.with_name("report.en.md")
    write_json(dataset, summary_of_dataset(), Manifest("dataset_summary", {}, "c0de"))

    # Of these networks there are the metrics alone; the lineage has tests of its own.
    monkeypatch.setattr(Lineage, "require_whole", lambda self: [])
    origins = {
        "provenance": Origin(settings, "c0de"),
        "claims": Origin({"claims": {"margin": 1.0}}, "c0de"),
        "dataset": Origin({}, "c0de"),
    }
    script("collect")(paths, layers, [], table, sources, settings, "c0de")
    script("claims")(table, sources, claims, {"claims": {"margin": 1.0}}, "c0de", origins)
    options = {
        "methods": {"sparsegpt": SPARSEGPT},
        "pruning": {"layout": "channels", "bn_recalibration": False},
    }
    options["variants"] = {
        "magnitude": {"method": "magnitude"},
        "sparsegpt": {"method": "sparsegpt"},
    }
    options["report"] = {"language": ["en", "ko"], "waterfall": None}
    script("figures")(table, sources, layers, figures, options, origins)
    config = {
        "study": "example",
        "models": {"vgg16": {"width": 0.25, "builder": None}},
        "regimes": regimes,
        "recipes": {"reference": asdict(Recipe())},
        "calibration": {"images": 64, "class_balanced": False},
        "claims": {"margin": 1.0},
        **options,
    }
    former.write_text("in a language that was asked for before")
    templates = sorted((ROOT / "report" / "markdown").glob("*.j2"))
    reference = ROOT / "report" / "reference-study.csv"
    inputs = (table, claims, sources, dataset, templates, figures, reference, [text, korean])
    script("report")(*inputs, {"config": config}, origins, [CATALOGUES["ko"]])
    parts = [ROOT / "report" / f"report.{suffix}" for suffix in ("html.j2", "css", "js")]
    pages = [path.with_suffix(".html") for path in (text, korean)]
    script("page")(
        *([text, korean], table, sources, layers, figures, *parts, pages),
        options,
        origins,
        [CATALOGUES["ko"]],
    )

    for report_file, page, language in zip((text, korean), pages, ("en", "ko"), strict=True):
        for link in re.findall(r"\]\(([^#)]*)\)", report_file.read_text()):
            assert (text.parent / link).is_file()
        for link in re.findall(r"!\[[^]]*\]\(([^)]*)\)", report_file.read_text()):
            assert (text.parent / link).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
            assert f'data-chart="{link}"' in page.read_text()
        assert f'<html lang="{language}">' in page.read_text()
    assert 'href="report.ko.html"' in pages[0].read_text()
    assert 'href="report.html"' in pages[1].read_text()
    assert not former.exists()
    assert len(read_json(claims, "claims")[0]["claims"]) == 5
    assert len(read_json(sources, "provenance")[1].parents) == 6

    summary = run_summary(study)
    assert summary.returncode == 0
    assert "76.05 (-4.27)" in summary.stdout
    assert f"\nThe report: {', '.join(map(str, pages))}\n" in summary.stdout
    assert f"python scripts/verify.py {study}\n" in summary.stdout


def test_summary_of_a_study_without_report_says_so_in_one_line(tmp_path):
    write_csv(tmp_path / "metrics.csv", results().frame)
    summary = run_summary(tmp_path)
    assert summary.returncode == 1
    assert summary.stderr.count("\n") == 1
    assert "report.html does not exist: run the study first" in summary.stderr


def run_summary(folder):
    command = [sys.executable, ROOT / "scripts" / "summary.py", folder]
    environment = {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_options_of_a_variant_are_told():
    table = results(variants=("magnitude", "sparsegpt"))
    refit = {"method": "sparsegpt", "refit": True}
    defaults = {"methods": {"sparsegpt": SPARSEGPT}}
    variants = {"magnitude": {"method": "magnitude"}, "sparsegpt": refit}
    text = report(table, settings={**defaults, "variants": variants})
    assert re.search(r"^\| sparsegpt +\| sparsegpt \+ refit +\|", text, re.M)
    told = "calibration: independent, target: own, refit: false, selection: diagonal"
    assert f"Unless the table says otherwise: `{told}`." in text
    assert "Options of SparseGPT" not in report(results(variants=("magnitude",)))


def spread_of(table, weights, variant, n):
    """Mean over `n` networks of weighted drops, and its interval."""
    per_seed = [
        sum(own * table.of(cell, variant)["drop"][seed] for cell, own in weights.items()) / n
        for seed in table.seeds
    ]
    # Two accuracies of each network, to half an image.
    rounding = 100 / table.n_test * (2 * len(weights) / 12) ** 0.5 / n
    error = max(stdev(per_seed), rounding) / len(per_seed) ** 0.5
    return {fmean(per_seed), *stats.t.interval(0.95, len(per_seed) - 1, fmean(per_seed), error)}


def test_every_number_of_the_prose_is_found_again_in_metrics_or_claims():
    """In sentences: mean drops, how training changes them, and effects and intervals of claims."""
    table, judged = results(), judge(results())["claims"]
    text = report(table)
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    found = {float(n) for n in re.findall(r"(?<![\d.])[-+]?\d+\.\d{2}(?= points|[ ,;\]:])", prose)}
    told = ("sparsegpt", "magnitude")
    known = {0.25}  # the width
    for variant in told:
        known |= spread_of(table, dict.fromkeys(table.cells, 1), variant, len(table.cells))
        weights = {cell: -1 if cell.regime == A else 1 for cell in table.cells}
        known |= spread_of(table, weights, variant, len(BUDGETS[A]))
    for claim in judged:
        for effect in (claim, *claim["comparisons"]):
            known |= {effect[key] for key in ("effect", "low", "high") if effect["low"] is not None}
    assert len(found) > 20
    for number in found:
        assert any(abs(number - value) < 0.005001 for value in known), number
