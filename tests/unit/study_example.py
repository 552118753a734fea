"""Studies with known numbers, for the tests of what turns metrics into a report.

`python tests/unit/study_example.py` writes the golden reports anew; read the difference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sparsecnn.analysis.declared import declared_claims
from sparsecnn.analysis.diagnostics import collect_diagnostics
from sparsecnn.analysis.judging import judge
from sparsecnn.analysis.reference import read_reference, reports
from sparsecnn.analysis.results import Cell, Results, collect, results_of
from sparsecnn.artifacts import Manifest
from sparsecnn.report.language import NAMES, speaking
from sparsecnn.report.markdown import render, report_context
from sparsecnn.study.config import budgets, complete_config
from sparsecnn.study.record import provenance
from sparsecnn.training.recipe import Recipe

ROOT = Path(__file__).parents[2]
REFERENCE = read_reference(ROOT / "report" / "reference-study.csv")
FIGURES = ("accuracy", "drop", "layer_error", "ablation", "budgets", "patterns", "waterfall")
DIAGNOSTIC_FIGURES = ("quadratic_model", "accumulation")
GOLDEN = {
    "en": Path(__file__).parent / "golden" / "report.md",
    "ko": Path(__file__).parent / "golden" / "report.ko.md",
}
CATALOGUES = {"en": None, "ko": ROOT / "report" / "locale" / "ko.po"}
BUDGETS = {
    "under_trained": {"custom_cnn": 7, "vgg16": 5, "resnet18": 5},
    "fully_trained": {"custom_cnn": 30, "vgg16": 15, "resnet18": 15},
}
VARIANTS = {
    "magnitude": {"method": "magnitude"},
    "sparsegpt": {"method": "sparsegpt"},
    "sparsegpt_bn": {"method": "sparsegpt", "bn_recalibration": True},
}
TOP1 = {  # dense, magnitude, sparsegpt, sparsegpt_bn
    ("under_trained", "custom_cnn"): (63.2, 19.0, 60.3, 62.0),
    ("under_trained", "vgg16"): (80.4, 22.5, 76.2, 79.1),
    ("under_trained", "resnet18"): (79.4, 20.8, 72.3, 78.0),
    ("fully_trained", "custom_cnn"): (78.2, 45.5, 75.3, 77.2),
    ("fully_trained", "vgg16"): (85.7, 31.2, 82.3, 84.6),
    ("fully_trained", "resnet18"): (85.2, 20.8, 78.6, 84.1),
}


def metric(model: str, epochs: int, seed: int, variant: str, top1: float, **other: Any) -> Any:
    """The value of one metrics.json."""
    settings = VARIANTS.get(variant, {"method": variant})
    pruned = variant != "dense"
    value = {
        "model": model,
        "width": 0.25,
        "recipe": "reference",
        "epochs": epochs,
        "seed": seed,
        "variant": variant,
        "method": settings["method"],
        "pattern": "2:4" if pruned else "",
        "layout": "channels" if pruned else "",
        "coverage": "all" if pruned else "",
        "bn_recalibrated": settings.get("bn_recalibration", False),
        "top1": top1,
        "loss": round(2.5 - top1 / 50, 4),
        "kl": round(1.6 - top1 / 63, 4) if pruned else 0.0,
        "agreement": round(22 + 0.8 * top1, 2) if pruned else 100.0,
        "n_test": 10000,
        "per_class": {f"class {i}": top1 for i in range(10)},
        "chance": 10.0,
        "sparsity_pruned_layers": 0.5 if pruned else 0.0,
        "sparsity_network": 0.498 if pruned else 0.0,
        "pruned_layers": ["conv2", "fc"] if pruned else [],
        "dense_layers": ["conv1"] if pruned else [],
        "parameters": 98_306,
        "parameters_kept": 50_690 if pruned else 98_306,
        "bytes_dense": 196_612,
        "bytes_pruned": 121_684 if pruned else 196_612,
        "macs": 2_951_168,
        "macs_effective": 1_582_080 if pruned else 2_951_168,
        "macs_sparse_cores": 0.75 if pruned else 0.0,
        "seconds": 2.5 if pruned else 60.0,
        "device": "cpu",
    }
    return value | other


def metrics(
    seeds: Sequence[int] = (0, 1, 2),
    regimes: Mapping[str, Mapping[str, Any]] = BUDGETS,
    variants: Sequence[str] = tuple(VARIANTS),
    **other: Any,
) -> list[Any]:
    """metrics.json of every network: the numbers of `TOP1`, spread over seeds."""
    names = ("dense", *VARIANTS)
    return [
        metric(
            model,
            epochs,
            seed,
            variant,
            # Different spreads for every cell and variant, so that nothing cancels.
            round(TOP1[regime, model][k] + (0.11 + 0.07 * k + 0.01 * epochs) * ((seed % 3) - 1), 2),
            **other,
        )
        for regime, own in regimes.items()
        for model, epochs in budgets(own).items()
        for seed in seeds
        for k, variant in enumerate(names)
        if variant == "dense" or variant in variants
    ]


def results(
    seeds: Sequence[int] = (0, 1, 2),
    regimes: Mapping[str, Mapping[str, Any]] = BUDGETS,
    variants: Sequence[str] = tuple(VARIANTS),
    values: Sequence[Any] | None = None,
    dataset: str = "CIFAR-10, JPEG q75",
    **other: Any,
) -> Results:
    """The table of those metrics, or of `values`."""
    return collect(
        metrics(seeds, regimes, variants, **other) if values is None else values,
        study="example",
        dataset=dataset,
        regimes={name: {"recipe": "reference", **own} for name, own in regimes.items()},
        seeds=seeds,
        variants=variants,
    )


def values_of(table: Results, cell: Cell, variant: str, column: str = "top1") -> list[float]:
    """One column of a network's rows, by seed."""
    found: list[float] = table.of(cell, variant)[column].tolist()
    return found


def with_top1(table: Results, change: Callable[[pd.Series], float]) -> Results:
    """The table with the accuracy of every row, dense ones too, replaced by what `change` gives."""
    top1 = table.frame.apply(change, axis="columns")
    drop = table.frame["dense_top1"] - top1
    return results_of(table.frame.assign(top1=top1, drop=drop))


def published_results() -> Results:
    """The numbers of the reference's first report as a study of one seed."""
    first = REFERENCE[REFERENCE["report"] == reports(REFERENCE)[0]]
    values = [
        metric(
            cell.model,
            BUDGETS[cell.regime][cell.model],
            42,
            method,
            top1,
            width=1.0,
            layout="" if method == "dense" else "flattened",
        )
        for cell, method, top1 in zip(
            map(Cell, first["regime"], first["model"]),
            first["method"],
            first["top1"],
            strict=True,
        )
    ]
    return results((42,), BUDGETS, ("magnitude", "sparsegpt"), values, "CIFAR-10")


INGREDIENTS: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude"},
    "wanda": {"method": "wanda"},
    "static_obs": {"method": "static_obs"},
    "sparsegpt": {"method": "sparsegpt"},
    "sparsegpt_joint": {"method": "sparsegpt", "selection": "joint"},
    "sparsegpt_refit": {"method": "sparsegpt", "refit": True},
    "sparsegpt_sequential": {"method": "sparsegpt", "refit": True, "calibration": "sequential"},
    "sparsegpt_dense_target": {
        "method": "sparsegpt",
        "refit": True,
        "calibration": "sequential",
        "target": "dense",
    },
    "exact_obs": {"method": "exact_obs"},
}
LOST = {  # channels as is, re-estimated, flattened as is, re-estimated; of a serial network
    "magnitude": (18.0, 2.4, 31.0, 2.9),
    "wanda": (17.5, 2.7, 30.0, 3.1),
    "static_obs": (9.0, 1.9, 14.0, 2.2),
    "sparsegpt": (1.3, 0.9, 1.5, 1.0),
    "sparsegpt_joint": (1.4, 0.9, 1.6, 1.0),
    "sparsegpt_refit": (0.7, 0.4, 0.8, 0.5),
    "sparsegpt_sequential": (0.7, 0.5, 0.9, 0.6),
    "sparsegpt_dense_target": (0.3, 0.2, 0.4, 0.3),
    "exact_obs": (0.6, 0.4, 0.7, -0.1),
}
FRAGILITY = {"custom_cnn": 0.5, "vgg16": 1.0, "resnet18": 1.9}
"""What the losses are multiplied with."""


def ablation_config(chosen: Sequence[str] = tuple(INGREDIENTS)) -> dict[str, Any]:
    """The completed configuration of every chosen ingredient, with all groups and batch norms."""
    variants = {
        name + ("_flat" if layout == "flattened" else "") + ("_bn" if again else ""): {
            **INGREDIENTS[name],
            "layout": layout,
            "bn_recalibration": again,
        }
        for layout in ("channels", "flattened")
        for again in (False, True)
        for name in chosen
    }
    schema = yaml.safe_load((ROOT / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    models = {model: {"width": 0.25} for model in FRAGILITY}
    published = {"calibration": "independent", "target": "own", "refit": False}
    config = {"models": models, "regimes": BUDGETS, "variants": variants}
    return complete_config(config | {"methods": {"sparsegpt": published}}, schema)


WATERFALL = (
    "static_obs_flat",
    "sparsegpt_flat",
    "sparsegpt",
    "sparsegpt_refit",
    "sparsegpt_sequential",
    "sparsegpt_dense_target",
    "sparsegpt_dense_target_bn",
)
"""Variants of an ablation, each with one setting changed."""


def waterfall_config(names: Sequence[str] = WATERFALL) -> dict[str, Any]:
    """The completed configuration of these variants, whose steps the report explains."""
    config = ablation_config()
    variants = {name: config["variants"][name] for name in names}
    report = config["report"] | {"waterfall": list(names)}
    return config | {"variants": variants, "report": report}


def ablation_values(
    config: Mapping[str, Any],
    seeds: Sequence[int] = (0,),
    regimes: Mapping[str, Mapping[str, Any]] = BUDGETS,
) -> list[Any]:
    """metrics.json of every network of that configuration."""
    values = []
    for (regime, training), seed in product(regimes.items(), seeds):
        for model, epochs in budgets(training).items():
            dense = TOP1[regime, model][0] + 0.1 * seed
            values.append(metric(model, epochs, seed, "dense", dense))
            for name, own in config["variants"].items():
                layout, again = own["layout"], own["bn_recalibration"]
                ingredient = name.removesuffix("_bn").removesuffix("_flat")
                lost = LOST[ingredient][2 * (layout == "flattened") + again] * FRAGILITY[model]
                top1 = round(max(dense - lost * (1 + 0.01 * seed), 10), 2)
                other = {"method": own["method"], "layout": layout, "bn_recalibrated": again}
                values.append(metric(model, epochs, seed, name, top1, **other))
    return values


def ablation_results(
    config: Mapping[str, Any],
    seeds: Sequence[int] = (0,),
    regimes: Mapping[str, Mapping[str, Any]] = BUDGETS,
) -> Results:
    """The table of those metrics."""
    values = ablation_values(config, seeds, regimes)
    return results(seeds, regimes, tuple(config["variants"]), values)


SWEEP = {"2:4": 0.5, "1:4": 0.25, "4:8": 0.5, "50%": 0.5, "75%": 0.25, "90%": 0.1}
"""Patterns, and what each keeps."""
COSTLY = {"magnitude": 12.0, "sparsegpt": 0.7}
"""What a pattern of half the weights costs a serial network, in points, if it is N:M."""


def sweep_config(patterns: Sequence[str] = tuple(SWEEP)) -> dict[str, Any]:
    """The completed configuration of two methods, each with these patterns."""
    variants = {
        f"{method}_{pattern.replace(':', '_').replace('%', '')}": {
            "method": method,
            "pattern": pattern,
        }
        for method in COSTLY
        for pattern in patterns
    }
    schema = yaml.safe_load((ROOT / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    models = {model: {"width": 0.25} for model in FRAGILITY}
    return complete_config({"models": models, "regimes": BUDGETS, "variants": variants}, schema)


def sweep_values(config: Mapping[str, Any], seeds: Sequence[int] = (0,)) -> list[Any]:
    """metrics.json of every network of that configuration."""
    values = []
    for (regime, training), seed in product(BUDGETS.items(), seeds):
        for model, epochs in budgets(training).items():
            dense = TOP1[regime, model][0] + 0.1 * seed
            values.append(metric(model, epochs, seed, "dense", dense))
            for name, own in config["variants"].items():
                kept, method = SWEEP[own["pattern"]], own["method"]
                lost = COSTLY[method] * FRAGILITY[model] * (0.5 / kept) ** 2
                lost *= (1 if ":" in own["pattern"] else 0.8) + 0.01 * seed
                top1 = round(max(dense - lost, 10), 2)
                other = {"pattern": own["pattern"], "sparsity_pruned_layers": 1 - kept}
                values.append(metric(model, epochs, seed, name, top1, method=method, **other))
    return values


def sweep_results(config: Mapping[str, Any], seeds: Sequence[int] = (0,)) -> Results:
    """The table of those metrics."""
    return results(seeds, BUDGETS, tuple(config["variants"]), sweep_values(config, seeds))


def diagnosis(model: str, epochs: int, seed: int, variants: Sequence[str]) -> dict[str, Any]:
    """The value of one diagnostics.json: more training, lower loss, a truer quadratic model."""
    spread, layers = 1 + 0.1 * (seed % 3 - 1), ("conv1", "conv2", "fc")
    trained = epochs or 20  # of a given network, somewhere else
    return {
        "model": model,
        "recipe": "reference" if epochs else "given",
        "epochs": epochs,
        "seed": seed,
        "images": 512,
        "network": {
            "loss": 2 * spread / trained,
            "gradient_norm": 3 * spread / trained,
            "largest": 40 * spread,
            "residual": 0.2,
            "smallest": -8 * spread / trained,
            "iterations": 7 + seed,
            "converged": True,
            "layers": [
                {"layer": layer, "columns": 27 * 2**k, "effective_rank": 3.5 + k, "condition": 900}
                for k, layer in enumerate(layers)
            ],
        },
        "variants": {
            variant: {
                "loss_change": {
                    "measured": 0.5 * spread / (k + 1),
                    "first_order": -0.01 * spread,
                    "second_order": (0.5 + 3 * spread / trained) / (k + 1),
                    "distance": 4.5,
                },
                "layers": [
                    {"layer": layer, "own": 0.01 * depth, "accumulated": 0.02 * depth * spread}
                    for depth, layer in enumerate(layers)
                ],
            }
            for k, variant in enumerate(variants)
        },
    }


def diagnostics(
    table: Results, variants: Sequence[str] = ("magnitude", "sparsegpt")
) -> pd.DataFrame:
    """Diagnostics of every network of a table."""
    regimes: dict[str, dict[str, Any]] = {}
    for cell in table.cells:
        recipe = table.training(cell)[0]
        own = regimes.setdefault(cell.regime, {"recipe": recipe})
        own[cell.model] = table.epochs(cell)
    return collect_diagnostics(
        [
            diagnosis(cell.model, table.epochs(cell), seed, variants)
            for cell in table.cells
            for seed in table.seeds
        ],
        study="example",
        regimes=regimes,
        seeds=table.seeds,
    )


def summary_of_dataset(n_test: int = 10000) -> dict[str, Any]:
    """The value of dataset.json."""
    classes = [f"class {i}" for i in range(10)]
    return {
        "source": "image_folder",
        "n_train": 50000,
        "n_test": n_test,
        "image_shape": [3, 32, 32],
        "classes": classes,
        "class_counts": {
            "train": dict.fromkeys(classes, 5000),
            "test": {name: 1000 - i for i, name in enumerate(classes)},
        },
        "measured_mean": [0.49, 0.48, 0.45],
        "measured_std": [0.2, 0.2, 0.2],
        "normalization": {"mean": [0.49, 0.48, 0.45], "std": [0.2, 0.2, 0.2]},
        "content": "d" * 64,
    }


def report(
    table: Results,
    values: Sequence[Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    measured: pd.DataFrame | None = None,
    language: str = "en",
    declared: Mapping[str, Any] | None = None,
) -> str:
    """The report of a table, with everything that varies from run to run held fixed.

    `settings` replace what the configuration says of the variants; `declared` are claims of the
    study's own.
    """
    with speaking(CATALOGUES[language]):
        return _report(table, values, settings, measured, language, declared or {})


def with_defaults(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Claims of a configuration with what it need not say."""
    return {name: {"every_case": False, "margin": None, **own} for name, own in claims.items()}


SPARSEGPT = {"calibration": "independent", "target": "own", "refit": False, "selection": "diagonal"}
"""The options that a report names."""


def _report(
    table: Results,
    values: Sequence[Any] | None,
    settings: Mapping[str, Any] | None,
    measured: pd.DataFrame | None,
    language: str,
    declared: Mapping[str, Any],
) -> str:
    manifest = Manifest(
        "metrics",
        {},
        "c0de",
        device="a processor",
        versions={"python": "3.11.0", "torch": "2.11.0", "numpy": "2.0.0", "machine": "x86_64"},
        created="2025-01-02T03:04:05+00:00",
        content="0123456789abcdef" * 4,
    )
    trained = replace(manifest, kind="dense", settings={"precision": "bfloat16"})
    own = declared_claims({"claims": with_defaults(declared)}, first=6)
    names = {"en": "report.md", "ko": "report.ko.md"}
    regimes = {
        r: {"recipe": next(table.training(c)[0] for c in table.cells if c.regime == r)}
        | {c.model: table.epochs(c) for c in table.cells if c.regime == r}
        for r in table.regimes
    }
    context = report_context(
        table,
        claims=judge(table, measured, own),
        provenance=provenance([(value, manifest) for value in values or metrics()], [trained]),
        dataset=summary_of_dataset(table.n_test),
        reference=REFERENCE,
        figures={name: f"figures/{name}.svg" for name in FIGURES + DIAGNOSTIC_FIGURES},
        config={
            "study": "example",
            "dataset": {"name": "image_folder", "source": None, "label": table.dataset},
            "models": {
                model: {"width": float(table.frame["width"].iloc[0]), "builder": None}
                for model in table.models
            },
            "regimes": regimes,
            "seeds": table.seeds,
            "recipes": {"reference": asdict(Recipe())},
            "calibration": {"images": 1024, "class_balanced": True},
            "pruning": {"layout": "channels", "bn_recalibration": False},
            "methods": {"sparsegpt": SPARSEGPT},
            "claims": {"margin": 1.0},
            "diagnostics": {"images": 512, "variants": None} if measured is not None else None,
            "report": {"language": list(names), "waterfall": None},
            **(settings or {"variants": {name: VARIANTS[name] for name in table.variants}}),
        },
        diagnostics=measured,
        name=names[language],
        others={NAMES[other]: name for other, name in names.items() if other != language},
    )
    templates = (ROOT / "report" / "markdown").glob("*.j2")
    return render({path.name: path.read_text(encoding="utf-8") for path in templates}, context)


if __name__ == "__main__":
    for language, golden in GOLDEN.items():
        text = report(results(), measured=diagnostics(results()), language=language)
        golden.write_text(text, encoding="utf-8")
