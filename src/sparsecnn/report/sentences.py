"""Sentences and clauses of the report that depend on what was found, in the present language."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from sparsecnn.analysis.ablation import PLAIN, largest_budget, mean_drop
from sparsecnn.analysis.comparisons import at_chance, costs
from sparsecnn.analysis.curves import is_curve
from sparsecnn.analysis.reference import DATA, LAYOUT
from sparsecnn.analysis.results import Cell, Results
from sparsecnn.report.labels import correction_label
from sparsecnn.report.language import gettext as _
from sparsecnn.report.text import escaped, signed
from sparsecnn.study.config import DENSE


def answer(results: Results) -> str:
    """One sentence: what the kindest and the harshest variant cost (`comparisons.costs`)."""
    found = costs(results)
    kindest, harshest = (
        found.loc[place] for place in (found["drop"].idxmin(), found["drop"].idxmax())
    )
    sentences = {
        # Of one network or several, of one variant or several.
        (False, False): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points "
            "({cell})."
        ),
        (False, True): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points "
            "({cell}); `{harshest}` by {most} points ({cell})."
        ),
        (True, False): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points on "
            "average over {n} combinations of network and regime (at worst {worst_of_least})."
        ),
        (True, True): _(
            "Pruned without fine-tuning, `{kindest}` changes top-1 accuracy by {least} points on "
            "average over {n} combinations of network and regime (at worst {worst_of_least}); "
            "`{harshest}` by {most} points (at worst {worst_of_most})."
        ),
    }
    return sentences[len(results.cells) > 1, kindest["variant"] != harshest["variant"]].format(
        kindest=kindest["variant"],
        harshest=harshest["variant"],
        least=signed(-kindest["drop"]),
        most=signed(-harshest["drop"]),
        n=len(results.cells),
        cell=results.cells[0],
        worst_of_least=_worst(kindest),
        worst_of_most=_worst(harshest),
    )


def warnings(results: Results) -> list[str]:
    """A sentence for each dense network that did not learn."""
    words = _(
        "{cell}: the dense network did not learn; its accuracy of {accuracy} % cannot be told "
        "from chance ({chance} %), so what pruning does to it means nothing."
    )
    return [
        words.format(
            cell=cell,
            accuracy=f"{results.of(cell, DENSE)['top1'].mean():.2f}",
            chance=f"{results.chance:.2f}",
        )
        for cell, variant in at_chance(results)
        if variant == DENSE
    ]


def collapsed(results: Results) -> list[str]:
    """Pruned networks no better than guessing, of dense ones that are."""
    found = at_chance(results)
    return [f"`{variant}` ({cell})" for cell, variant in found if (cell, DENSE) not in found]


def measured_on(results: Results) -> str:
    """Images and seeds behind the numbers of a table, as a clause."""
    clause = (
        _("{data}, {images} test images, one seed")
        if len(results.seeds) == 1
        else _("{data}, {images} test images, means of {n} seeds")
    )
    return clause.format(
        data=escaped(results.dataset), images=f"{results.n_test:,}", n=len(results.seeds)
    )


def shown_in_figures(results: Results) -> dict[str, str]:
    """What the whiskers and bands are, as clauses, and what the figure of accuracies shows."""
    whiskers, bands = _("whiskers are 95 % intervals"), _("bands are 95 % intervals")
    if len(results.seeds) == 2:
        whiskers, bands = _("whiskers from seed to seed"), _("bands from seed to seed")
    accuracy_shown = (
        _("Top-1 accuracy of the least and the most trained networks, dense and pruned; {whiskers}")
        if is_curve(results)
        else _("Top-1 accuracy of every network and training budget, dense and pruned; {whiskers}")
    )
    return {
        "whiskers": whiskers,
        "bands": bands,
        "accuracy_shown": accuracy_shown.format(whiskers=whiskers),
    }


def trainings(config: Mapping[str, Any]) -> dict[str, str]:
    """Each recipe that a regime uses, in words, under what the report calls it."""
    used = {regime["recipe"] for regime in config["regimes"].values()}
    recipes = {name: recipe for name, recipe in config["recipes"].items() if name in used}
    if len(recipes) == 1:
        return {_("Training"): _in_words(*recipes.values())}
    regimes = {
        name: [regime for regime, own in config["regimes"].items() if own["recipe"] == name]
        for name in recipes
    }
    return {
        _("Training, recipe `{name}` ({regimes})").format(
            name=name, regimes=", ".join(f"`{regime}`" for regime in regimes[name])
        ): _in_words(recipe)
        for name, recipe in recipes.items()
    }


def sparsegpt_options(config: Mapping[str, Any]) -> str:
    """The options that the report explains, as a configuration would give them."""
    explained = ("calibration", "target", "refit", "selection")
    own = {key: config["methods"][PLAIN][key] for key in explained}
    return yaml.safe_dump(own, default_flow_style=True, sort_keys=False).strip("{}\n")


def differences(found: Mapping[str, Any], calibration_images: int) -> list[str]:
    """In what the study differs from the reference (`reference.differences`): a phrase for each."""
    told = []
    if "data" in found:
        words = _("data: {here} here, {there} there")
        told.append(words.format(here=escaped(found["data"]), there=DATA))
    if "widths" in found:
        widths = ", ".join(f"{model} {width:g}" for model, width in found["widths"].items())
        told.append(_("width of the networks: {here} here, 1 there").format(here=widths))
    if "epochs" in found:
        words = _("{cell} {here} here, {there} there")
        budgets = [
            words.format(cell=c, here=here, there=there) for c, here, there in found["epochs"]
        ]
        told.append(_("epochs: {differences}").format(differences="; ".join(budgets)))
    if "patterns" in found:
        patterns = ", ".join(found["patterns"])
        told.append(_("pattern: {here} here, 2:4 there").format(here=patterns))
    if "layouts" in found:
        words = _("groups of a convolution's weights: {here} here, {there} there")
        told.append(words.format(here=", ".join(found["layouts"]), there=LAYOUT))
    if "solver" in found:
        words = _("SparseGPT: `{variant}` here, an update with one static inverse Hessian there")
        told.append(words.format(variant=found["solver"]))
    words = _("calibration images: {here} as they are here, 1,024 augmented ones there")
    told.append(words.format(here=f"{calibration_images:,}"))
    told.append(_("weights: of the last epoch here, of the best epoch on the test set there"))
    return told


def why(results: Results, steps: Mapping[str, str]) -> str:
    """One sentence: what the reference's solver loses, and each correction in its place."""
    change = {step: signed(-mean_drop(results, variant).value) for step, variant in steps.items()}
    words = _("{change} with {correction}")
    corrected = [
        words.format(change=change[step], correction=correction_label(step))
        for step in steps
        if step != "imitation"
    ]
    networks = len(largest_budget(results))
    sentence = (
        _(
            "The reference study's solver, imitated (`{variant}`), changes accuracy by {change} "
            "points on average over {n} networks; {corrected}."
        )
        if networks > 1
        else _(
            "The reference study's solver, imitated (`{variant}`), changes accuracy by {change} "
            "points; {corrected}."
        )
    )
    return sentence.format(
        variant=steps["imitation"],
        change=change["imitation"],
        n=networks,
        corrected=", ".join(corrected),
    )


def limits(results: Results) -> list[str]:
    """What the study cannot tell, a sentence or two for each reason."""
    n, found = len(results.seeds), []
    if n == 1:
        found.append(
            _(
                "One seed: the intervals tell how well the test set pins down these very networks. "
                "How much newly trained networks would differ is not known."
            )
        )
    else:
        found.append(
            _(
                "Intervals are over {n} seeds; the choice of the {images} test images, the same "
                "for all, is not in them."
            ).format(n=n, images=f"{results.n_test:,}")
        )
    if n == 2:
        found.append(
            _(
                "Two seeds: Student's t with one degree of freedom makes the intervals 12.7 "
                "standard errors wide to either side, so that only large differences can be "
                "settled."
            )
        )
    if len(results.regimes) == 1:
        found.append(
            _("One training regime: nothing can be said of the effect of training longer.")
        )
    if len(results.models) == 1:
        found.append(_("One network: nothing can be said of the effect of the architecture."))
    if (results.frame["width"] < 1).any():
        found.append(
            _(
                "Networks of less than full width leave pruning less redundancy to remove than "
                "published ones."
            )
        )
    found.append(_("The speed of the pruned networks is not measured here."))
    return found


def _in_words(recipe: Mapping[str, Any]) -> str:
    schedules = {
        "cosine_per_epoch": _("SGD, learning rate {learning_rate} with cosine decay to zero"),
        "triangular": _(
            "SGD, learning rate {learning_rate} reached after {warmup} of the steps, on straight "
            "lines from and to zero"
        ),
    }
    parts = [
        schedules[recipe["schedule"]],
        _("Nesterov momentum {momentum}") if recipe["nesterov"] else _("momentum {momentum}"),
        _("weight decay {weight_decay}")
        if recipe["decay_norm_and_bias"]
        else _("weight decay {weight_decay} (none on biases and batch norm)"),
        _("batches of {batch_size}"),
        _("label smoothing {label_smoothing}") if recipe["label_smoothing"] else "",
        _augmentation(recipe),
        _("cutout of {cutout} pixels") if recipe["cutout"] else "",
    ]
    values = {**recipe, "warmup": f"{recipe['warmup']:.0%}"}
    return ", ".join(part.format(**values) for part in parts if part)


def _augmentation(recipe: Mapping[str, Any]) -> str:
    words = {
        (True, True): _("random crops with {crop_padding} pixels of padding and horizontal flips"),
        (True, False): _("random crops with {crop_padding} pixels of padding"),
        (False, True): _("random horizontal flips"),
        (False, False): "",
    }
    return words[bool(recipe["crop_padding"]), recipe["horizontal_flip"]]


def _worst(cost: "pd.Series[Any]") -> str:
    return f"{signed(-cost['worst'])}: {Cell(cost['regime'], cost['model'])}"
