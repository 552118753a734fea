"""What runs again after a change, and what does not."""

import re

import pytest
from snakemake_project import EXPORTING, REPORTING, SMALL, TINY, merged

from sparsecnn.artifacts import read_json, write_json


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_another_working_directory(finished, tmp_path):
    output = finished.snakemake("-n", "-s", finished / "Snakefile", cwd=tmp_path)
    assert re.search(r"^train +2$", output, re.M)
    assert not (tmp_path / "results").exists()


EVERYTHING = {"calibrate": 1, "train": 2, "prune": 6, "evaluate": 8, "diagnose": 2, **REPORTING}
TRAINED = {"train": 2, "prune": 6, "evaluate": 8, "diagnose": 2}
"""What a change of every training makes again."""
CHECK = {"check": 1}
"""What a change of settings that images, networks or memory limit makes run besides."""
EDITS = [
    (
        "src/sparsecnn/pruning/methods/magnitude.py",
        {"prune": 2, "evaluate": 2, "diagnose": 2, **REPORTING},
    ),
    ("src/sparsecnn/evaluation/accuracy.py", {"evaluate": 8, **REPORTING}),
    ("src/sparsecnn/evaluation/costs.py", {"evaluate": 8, **REPORTING}),
    ("src/sparsecnn/evaluation/curvature.py", {"diagnose": 2, **REPORTING}),
    ("src/sparsecnn/evaluation/propagation.py", {"diagnose": 2, **REPORTING}),
    ("scripts/diagnose.py", {"diagnose": 2, **REPORTING}),
    ("src/sparsecnn/analysis/diagnostics.py", REPORTING),
    ("src/sparsecnn/report/diagnostic_tables.py", {"report": 1, "page": 1}),
    ("src/sparsecnn/analysis/claims.py", {"claims": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/analysis/judging.py", {"claims": 1, "report": 1, "page": 1}),
    (
        "src/sparsecnn/pruning/methods/sparsegpt.py",
        {"prune": 4, "evaluate": 4, "diagnose": 2, **REPORTING},
    ),
    (
        "src/sparsecnn/pruning/calibration/moments.py",
        {"prune": 6, "evaluate": 6, "diagnose": 2, **REPORTING},
    ),
    ("src/sparsecnn/pruning/methods/wanda.py", {}),
    ("src/sparsecnn/data/augmentation.py", EVERYTHING),
    ("src/sparsecnn/training/sgd.py", TRAINED | REPORTING),
    ("src/sparsecnn/models/custom_cnn.py", CHECK | TRAINED | REPORTING),
    ("src/sparsecnn/study/memory.py", CHECK),
    ("src/sparsecnn/study/config.py", REPORTING),
    ("scripts/check.py", CHECK),
    ("src/sparsecnn/models/resnet.py", {}),
    ("src/sparsecnn/analysis/layer_errors.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/report/tables.py", {"report": 1, "page": 1}),
    ("src/sparsecnn/report/charts.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/report/chart_parts.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/report/layer_charts.py", {"figures": 1, "report": 1, "page": 1}),
    ("src/sparsecnn/report/html.py", {"page": 1}),
    ("src/sparsecnn/registry.py", {}),
]


@pytest.mark.parametrize(("path", "jobs"), EDITS, ids=[path for path, _ in EDITS])
def test_an_edit_reruns_what_runs_it(edited, reruns, path, jobs):
    project = edited(path, lambda text: f"{text}\nEDITED = 1\n")
    assert project.planned() == jobs
    reruns(f"edit of {path}", jobs)


def test_comments_rerun_nothing(edited, reruns):
    project = edited("src/sparsecnn/artifacts.py", lambda text: f"# a comment\n{text}")
    edited("scripts/train.py", lambda text: f"{text}\n# another\n")
    assert project.planned() == {}
    reruns("comments", {})


def test_the_template_reruns_the_report_and_its_page_alone(edited, reruns):
    project = edited("report/markdown/claims.md.j2", lambda text: f"{text}\nMore.\n")
    assert project.planned() == {"report": 1, "page": 1}
    reruns("edit of report/markdown/claims.md.j2", {"report": 1, "page": 1})


@pytest.mark.parametrize("name", ["report.html.j2", "report.css", "report.js"])
def test_the_pages_parts_rerun_the_page_alone(edited, reruns, name):
    project = edited(f"report/{name}", lambda text: f"{text}\n")
    assert project.planned() == {"page": 1}
    reruns(f"edit of report/{name}", {"page": 1})


def test_an_edit_of_a_catalogue_reruns_report_and_page(edited, reruns):
    path = "report/locale/ko.po"
    project = edited(path, lambda text: text.replace('msgstr "목차"', 'msgstr "차례"'))
    assert project.planned() == {"report": 1, "page": 1}
    reruns(f"edit of {path}", {"report": 1, "page": 1})
    assert set(project.planned(study=TINY | {"report": {"language": ["en"]}})) == {"report", "page"}


NEW_SETTINGS = [
    ("a seed", TINY | {"seeds": [0, 1]}, TRAINED | {"calibrate": 1}),
    (
        "a variant",
        merged(TINY, variants={"flat": {"method": "magnitude", "layout": "flattened"}}),
        {**CHECK, "prune": 2, "evaluate": 2, "diagnose": 2},
    ),
    (
        "a variant with batch norm re-estimated",
        merged(TINY, variants={"magnitude_bn": {"method": "magnitude", "bn_recalibration": True}}),
        {**CHECK, "prune": 2, "evaluate": 2},
    ),
    (
        "images of the diagnostics",
        TINY | {"diagnostics": {"images": 33}},
        {**CHECK, "diagnose": 2},
    ),
    (
        "a budget",
        merged(TINY, regimes={"more": {"recipe": "small", "custom_cnn": 3}}),
        {"train": 1, "prune": 3, "evaluate": 4, "diagnose": 1},
    ),
    (
        "damping",
        merged(TINY, methods={"sparsegpt": {"damping": 0.02}}),
        {"prune": 4, "evaluate": 4, "diagnose": 2},
    ),
    (
        "a model",
        merged(
            TINY,
            models={"resnet18": {"width": 0.125}},
            regimes={name: own | {"resnet18": 1} for name, own in TINY["regimes"].items()},
        ),
        {**CHECK, "train": 1, "prune": 3, "evaluate": 4, "diagnose": 1},
    ),
    (
        "a calibration size",
        merged(TINY, calibration={"images": 65}),
        {**CHECK, "calibrate": 1, "prune": 6, "evaluate": 6, "diagnose": 2},
    ),
    (
        "a data source",
        merged(TINY, dataset={"normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}}),
        {"dataset": 1, **CHECK, **{k: v for k, v in EVERYTHING.items() if k not in REPORTING}},
    ),
    (
        "momentum and weight decay swapped",
        merged(
            TINY,
            recipes={"small": TINY["recipes"]["small"] | {"momentum": 0.0005, "weight_decay": 0.9}},
        ),
        TRAINED,
    ),
]


@pytest.mark.parametrize(
    ("study", "jobs"), [case[1:] for case in NEW_SETTINGS], ids=[case[0] for case in NEW_SETTINGS]
)
def test_a_setting_reruns_what_depends_on_it(finished, reruns, request, study, jobs):
    assert finished.planned(study=study) == jobs | REPORTING
    reruns(f"setting: {request.node.callspec.id}", jobs | REPORTING)


def test_a_claim_of_ones_own_reruns_claims_and_report(finished, reruns):
    sides = {"more": {"accuracy": "sparsegpt"}, "than": {"accuracy": "magnitude"}}
    study = TINY | {"claims": {"better": {"statement": "It is better.", **sides}}}
    planned = finished.planned(study=study)
    assert planned == REPORTING
    reruns("a claim of one's own", planned)


def test_what_is_to_be_exported_reruns_nothing_else(exporting, reruns):
    assert exporting.planned() == {}
    assert exporting.planned(study=SMALL) == {}
    more = exporting.planned(study=merged(EXPORTING, export={"variants": ["dense", "magnitude"]}))
    assert more == {"export": 1}
    reruns("setting: a network more in export", more)
    other = exporting.planned(study=merged(EXPORTING, export={"normalize": False}))
    assert other == {"export": 2}
    reruns("setting: normalize of export", other)


def test_an_edit_of_the_export_reruns_that_alone(exporting, reruns):
    path = exporting / "src/sparsecnn/export/graph.py"
    path.write_text(f"{path.read_text()}\nEDITED = 1\n")
    assert exporting.planned() == {"export": 2}
    reruns("edit of src/sparsecnn/export/graph.py", {"export": 2})


def test_another_pruning_reruns_the_export_of_it(exporting, reruns):
    study = merged(EXPORTING, methods={"sparsegpt": {"damping": 0.02}})
    jobs = {"prune": 1, "evaluate": 1, "export": 1} | REPORTING
    assert exporting.planned(study=study) == jobs
    reruns("setting: damping, of a network that is exported", jobs)


def test_a_study_on_anothers_baselines_trains_nothing(finished):
    study = merged(TINY | {"study": "other", "baselines": "tiny"}, variants={"magnitude": None})
    assert finished.planned(study=study) == {
        **CHECK,
        "prune": 4,
        "evaluate": 6,
        "diagnose": 2,
        **REPORTING,
    }


@pytest.mark.parametrize(
    "study",
    [
        merged(TINY, methods={"sparsegpt": {"damping": 0.01}}, training={"compile": False}),
        TINY | {"threads": 2},
        TINY | {"device": "auto"},
        merged(TINY, recipes={"unused": {"learning_rate": 1.0}}),
    ],
    ids=["what is the default anyway", "threads", "device", "a recipe that no regime uses"],
)
def test_what_changes_no_number_reruns_at_most_the_report(finished, reruns, request, study):
    jobs = finished.planned(study=study)
    assert set(jobs) <= {"report", "page"}
    reruns(f"setting: {request.node.callspec.id}", jobs)


def test_formatting_and_docstrings_rerun_nothing(edited, reruns):
    project = edited(
        "src/sparsecnn/pruning/methods/magnitude.py",
        lambda text: f'"""Another docstring."""\n\n\n{text}',
    )
    edited("src/sparsecnn/artifacts.py", lambda text: text.replace("    ", "        "))
    assert project.planned() == {}
    reruns("docstrings and formatting", {})


UNUSED_METHOD = '''"""A method that no study uses."""'''


def new_method(project):
    (project / "src/sparsecnn/pruning/methods/unused.py").write_text(f"{UNUSED_METHOD}\n")
    registry = project / "src/sparsecnn/registry.py"
    entry = '"unused": "sparsecnn.pruning.methods.unused:Unused",'
    text = registry.read_text()
    registry.write_text(text.replace('"method": {', f'"method": {{\n        {entry}'))
    assert entry in registry.read_text()


def touch_everything(project):
    for path in project.folder.rglob("*"):
        path.touch()


def switch_branch_and_back(project):
    """Another branch's edit, taken back: as git, with new dates."""
    for path in project.folder.glob("src/sparsecnn/**/*.py"):
        text = path.read_text()
        path.write_text(f"{text}\nEDITED = 1\n")
        path.write_text(text)


def edit_what_no_job_runs(project):
    for name in ("README.md", "tests/unit/test_config.py", "benchmarks/pruning.py", "Makefile"):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("changed\n")


@pytest.mark.parametrize(
    "change", [new_method, touch_everything, switch_branch_and_back, edit_what_no_job_runs]
)
def test_what_is_no_change_reruns_nothing(copied, reruns, change):
    change(copied)
    assert copied.planned() == {}
    reruns(change.__name__.replace("_", " "), {})


@pytest.mark.parametrize(
    "arguments",
    [("--cores", "1"), ("--profile", "profiles/default"), ("--resources", "gpu=4")],
    ids=" ".join,
)
def test_the_way_of_running_reruns_nothing(finished, reruns, arguments):
    assert finished.planned(*arguments) == {}
    reruns(" ".join(arguments), {})


def test_a_study_is_found_from_another_folder(finished, reruns, tmp_path):
    """With `-d` the results are those of that folder, whatever the present one is."""
    arguments = ("-s", finished / "Snakefile", "-d", finished.folder)
    assert finished.planned(*arguments, cwd=tmp_path) == {}
    reruns("-s and -d from another folder", {})


def test_other_versions_are_told_and_by_setting_rerun_everything(copied, reruns):
    path = copied / "results/tiny/provenance.json"
    value, manifest = read_json(path, "provenance")
    value["versions"][0]["torch"] = "1.13.1"
    write_json(path, value, manifest)
    output = copied.snakemake("-n")
    assert re.search(r"results/tiny: made with torch 1\.13 \(now \d+\.\d+\); kept as it is", output)
    assert "train" not in copied.planned()
    anew = copied.planned(study=TINY | {"on_new_versions": "rerun"})
    assert anew == {"dataset": 1, **CHECK, **EVERYTHING}
    reruns("setting: on_new_versions: rerun", anew)


def test_a_renamed_variant_is_made_anew_but_not_trained(finished, reruns):
    variants = {"magnitude": None, "by_size": {"method": "magnitude"}}
    planned = finished.planned(study=merged(TINY, variants=variants))
    assert planned == {**CHECK, "prune": 2, "evaluate": 2, "diagnose": 2} | REPORTING
    reruns("a variant renamed", planned)


def test_the_order_of_keys_reruns_nothing(finished, reruns):
    assert finished.planned(study=dict(reversed(TINY.items()))) == {}
    reruns("keys in another order", {})


def test_a_removed_seed_or_variant_reruns_the_report_alone(small, reruns):
    more = SMALL | {"seeds": [0, 1]}
    small.snakemake(study=more)
    assert small.planned(study=more) == {}
    assert small.planned() == REPORTING
    reruns("a seed removed", REPORTING)
    without = merged(more, variants={"sparsegpt": None})
    assert small.planned(study=without) == CHECK | REPORTING
    reruns("a variant removed", CHECK | REPORTING)


def test_a_study_finished_before_there_was_a_check_runs_that_alone(copied, reruns):
    (copied / "results/tiny/checked.json").unlink()
    assert copied.planned() == CHECK
    copied.snakemake()
    assert copied.planned() == {}
    (copied / "results/tiny/checked.json").unlink()
    assert copied.planned(study=TINY | {"seeds": [0, 1]}) == {
        **CHECK,
        **TRAINED,
        "calibrate": 1,
        **REPORTING,
    }
    reruns("a study finished before there was a check", CHECK)


def said(output):
    """The words of each line, without what differs from run to run: moments, numbers, any order."""
    varying = re.compile(r"  (Date|Workflow ID|Run directory): .*| +jobid: \d+|\[.*:\d\d \d{4}\]")
    lines = (line for line in output.splitlines() if not varying.fullmatch(line))
    return sorted(sorted(re.split("[, ]+", line)) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "study"),
    [
        ((), TINY),
        (("--forceall",), TINY),
        ((), merged(TINY, calibration={"images": 65})),
        ((), TINY | {"trainig": {}}),
    ],
    ids=["nothing", "everything", "a setting", "a wrong setting"],
)
def test_the_command_itself_says_the_same(finished, arguments, study):
    """These tests run Snakemake in processes that have it imported already."""
    status, output = finished.command_line("-n", *arguments, study=study)
    same = finished.snakemake("-n", *arguments, study=study, ok=status == 0)
    assert said(same) == said(output)
