import copy
import subprocess
import sys
from dataclasses import asdict
from inspect import signature
from pathlib import Path

import pytest
import yaml

import sparsecnn
from sparsecnn.errors import UserError
from sparsecnn.pruning import prune
from sparsecnn.pruning.problem import Companions
from sparsecnn.registry import names, resolve
from sparsecnn.study.config import (
    budgets,
    complete_config,
    data_label,
    diagnosed,
    exported,
    made_of,
    reported,
    variant_settings,
)
from sparsecnn.study.config_files import read_config
from sparsecnn.training.recipe import SCHEDULES, Recipe

ROOT = Path(sparsecnn.__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def merged(base, overlay):
    result = copy.deepcopy(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def complete(**overlay):
    return complete_config(merged(DEFAULT, overlay), SCHEMA)


def test_the_default_is_the_reference_study_and_names_every_key():
    config = complete()
    assert config["regimes"]["under_trained"] == {
        "recipe": "reference",
        "custom_cnn": 7,
        "vgg16": 5,
        "resnet18": 5,
    }
    assert config["regimes"]["fully_trained"] == {
        "recipe": "reference",
        "custom_cnn": 30,
        "vgg16": 15,
        "resnet18": 15,
    }
    assert len(config["seeds"]) == 3
    assert set(config) == set(SCHEMA["properties"])


def test_nothing_is_exported_unless_asked_for_and_no_number_depends_on_it():
    one, other = complete(), complete(export={"variants": ["dense", "sparsegpt"]})
    assert (exported(one), exported(other)) == ([], ["dense", "sparsegpt"])
    assert other["export"] | {"variants": []} == {
        "variants": [],
        "format": "onnx",
        "normalize": True,
    }
    assert made_of(one) == made_of(other)
    assert reported(one) == reported(other)


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_shipped_study_is_valid_and_named_after_its_file(path):
    config = complete(**yaml.safe_load(path.read_text()))
    assert config["study"] == path.stem


@pytest.mark.parametrize("name", names("method"))
def test_the_defaults_of_a_method_are_those_of_the_library(name):
    method = resolve("method", name)()
    arguments = {key: p.default for key, p in signature(prune).parameters.items()}
    companions = asdict(getattr(method, "companions", Companions()))
    library = {**arguments, **companions, **asdict(method)}
    for key, value in complete_config(DEFAULT | {"methods": {}}, SCHEMA)["methods"][name].items():
        assert value == library[key], key


def test_the_library_knows_the_schedules_of_the_schema():
    recipe = SCHEMA["properties"]["recipes"]["additionalProperties"]["properties"]
    assert recipe["schedule"]["enum"] == list(SCHEDULES)


def test_every_key_has_a_description():
    def walk(part, path):
        for key, child in part.get("properties", {}).items():
            if "$ref" in child:
                child = child | SCHEMA["$defs"][child["$ref"].rpartition("/")[2]]
            assert "description" in child, f"{path}.{key}"
            walk(child, f"{path}.{key}")

    walk(SCHEMA, "")


def test_defaults_are_filled_in_at_every_depth():
    bare = {
        "models": {"vgg16": {}},
        "regimes": {"short": {"vgg16": 1}},
        "variants": {"m": {"method": "magnitude"}},
    }
    given = copy.deepcopy(bare)
    config = complete_config(bare, SCHEMA)
    assert bare == given
    assert config["models"]["vgg16"]["width"] == 1.0
    assert config["training"]["precision"] == "auto"
    assert config["recipes"] == {"reference": asdict(Recipe())}
    assert config["regimes"]["short"] == {"recipe": "reference", "vgg16": 1}
    assert config["dataset"]["source"] is None
    assert config["seeds"] == [0, 1, 2]


def test_keys_come_in_one_order_and_names_in_the_users():
    def shuffled(value):
        if not isinstance(value, dict):
            return value
        return {key: shuffled(value[key]) for key in reversed(value)}

    config = merged(DEFAULT, {"variants": {"mine": {"damping": 0.1, "method": "wanda"}}})
    one, other = (complete_config(c, SCHEMA) for c in (config, shuffled(config)))
    assert list(one) == list(other) == list(SCHEMA["properties"])
    assert repr(one["training"]) == repr(other["training"])
    assert repr(one["recipes"]["strong"]) == repr(other["recipes"]["strong"])
    assert list(one["variants"]["mine"]) == list(other["variants"]["mine"]) == ["method", "damping"]
    assert list(one["variants"]) == list(reversed(other["variants"]))


def test_regimes_come_from_least_to_most_trained_whatever_the_order_of_files():
    longest = {"custom_cnn": 40, "vgg16": 40, "resnet18": 40}
    config = complete_config(
        {**DEFAULT, "regimes": {"longest": longest, **dict(reversed(DEFAULT["regimes"].items()))}},
        SCHEMA,
    )
    assert list(config["regimes"]) == ["under_trained", "fully_trained", "longest"]


def test_a_model_with_weights_has_a_regime_of_its_own_which_comes_last():
    models = {"custom_cnn": None, "vgg16": {"weights": "vgg.pt"}}
    config = complete(models=models)
    assert list(config["regimes"]) == ["under_trained", "fully_trained", "given"]
    assert [list(budgets(own)) for own in config["regimes"].values()] == [
        *[["resnet18"]] * 2,
        ["vgg16"],
    ]
    assert config["regimes"]["given"] == {"recipe": "given", "vgg16": 0}
    assert complete_config(config, SCHEMA) == config  # as a finished study's record is read
    alone = complete(models=models | {"resnet18": None}, regimes={"under_trained": None})
    assert alone["regimes"] == {"given": {"recipe": "given", "vgg16": 0}}
    assert complete_config(alone, SCHEMA) == alone
    recorded = made_of(alone)
    assert recorded["recipes"] == {}
    assert complete_config(recorded, SCHEMA)["regimes"] == alone["regimes"]


def test_arguments_of_a_builder_are_read_as_they_say():
    said = {"depth": "20", "rate": "1e-4", "last": "true", "stem": "none", "sizes": ["3", "5x"]}
    models = {"mine": {"builder": "a:b", "arguments": said, "weights": "a.pt"}}
    read = complete(models=models)["models"]["mine"]["arguments"]
    assert read == {"depth": 20, "rate": 1e-4, "last": True, "stem": "none", "sizes": [3, "5x"]}


def test_null_removes_an_entry_of_the_default():
    config = complete(models={"vgg16": None}, variants={"magnitude_bn": None})
    assert list(config["models"]) == ["custom_cnn", "resnet18"]
    assert "magnitude_bn" not in config["variants"]
    assert config["regimes"]["under_trained"] == {
        "recipe": "reference",
        "custom_cnn": 7,
        "resnet18": 5,
    }


def test_diagnosed_are_the_variants_that_keep_their_statistics_or_those_named():
    assert diagnosed(complete()) == [
        "admm",
        "imitation",
        "magnitude",
        "sparsegpt",
        "sparsegpt_published",
        "wanda",
    ]
    assert diagnosed(complete(diagnostics={"variants": ["magnitude_bn", "magnitude"]})) == [
        "magnitude",
        "magnitude_bn",
    ]
    assert diagnosed(complete(diagnostics={"variants": []})) == []
    permuted = complete(variants={"permuted": {"method": "magnitude", "permute_channels": True}})
    assert "magnitude" in diagnosed(permuted)
    assert "permuted" not in diagnosed(permuted)
    assert diagnosed(complete(diagnostics=None)) is None
    assert complete(diagnostics={"images": 9})["diagnostics"] == {"images": 9, "variants": None}


def test_studies_can_be_combined():
    small, curve = (
        yaml.safe_load((ROOT / f"studies/{name}.yaml").read_text()) for name in ("small", "budgets")
    )
    config = complete_config(merged(merged(DEFAULT, small), curve), SCHEMA)
    assert config["study"] == "budgets"
    assert config["models"]["vgg16"]["width"] == 0.25
    assert [own["vgg16"] for own in config["regimes"].values()] == [1, 2, 3, 5, 7, 10, 15, 20, 30]


def test_a_variant_inherits_from_pruning_and_its_method_alone():
    config = complete(
        pruning={"layout": "flattened"},
        methods={"sparsegpt": {"damping": 0.05}},
        variants={"s": {"method": "sparsegpt", "pattern": "1:4"}, "m": {"method": "magnitude"}},
    )
    s = variant_settings(config, "s")
    assert (s["layout"], s["damping"], s["pattern"]) == ("flattened", 0.05, "1:4")
    assert variant_settings(config, "m")["damping"] == 0.01
    assert "selection" not in variant_settings(config, "m")


def claimed(more, than):
    return {"claims": {"c": {"statement": "A claim.", "more": more, "than": than}}}


WRONG = [
    ({"trainig": {}}, "trainig: unknown key, did you mean training?"),
    ({"training": {"precison": 1}}, "training.precison: unknown key, did you mean precision?"),
    ({"training": {"precision": "fp16"}}, 'training.precision: "fp16" is not allowed (allowed: au'),
    (
        {"recipes": {"strong": {"learning_rat": 1}}},
        "recipes.strong.learning_rat: unknown key, did you mean learning_rate?",
    ),
    (
        {"recipes": {"strong": {"batch_size": "many"}}},
        'recipes.strong.batch_size: "many" is not of type integer; write a whole number',
    ),
    ({"recipes": {"strong": {"batch_size": 1}}}, "batch_size: 1 is not allowed, it must be at le"),
    ({"recipes": {"my": {"learning_rate": 0}}}, "learning_rate: 0 is not allowed, it must be more"),
    ({"recipes": {"my": {"momentum": 1}}}, "recipes.my.momentum: 1 is not allowed, it must be le"),
    ({"recipes": {"my": {"horizontal_flip": 1}}}, "horizontal_flip: 1 is not of type boolean"),
    ({"recipes": {"my": {"schedule": "cosin"}}}, 'schedule: "cosin" is not allowed (all'),
    (
        {"recipes": {"my": {"nesterov": True, "momentum": 0}}},
        "recipes.my.nesterov: needs a momentum above 0",
    ),
    ({"recipes": {"a b": {}}}, 'recipes: "a b" cannot be a name here'),
    (
        {"regimes": {"fully_trained": {"recipe": "stong"}}},
        "fully_trained.recipe: unknown recipe, did you mean strong? (allowed: reference, strong)",
    ),
    ({"recipes": {"reference": None}}, "regimes.under_trained.recipe: unknown recipe"),
    ({"seeds": []}, "seeds: must not be empty"),
    ({"seeds": [1, 1]}, "seeds: [1, 1] names something twice"),
    ({"seeds": 3}, "seeds: 3 is not of type array"),
    ({"seeds": [-1]}, "seeds.0: -1 is not allowed, it must be at least 0"),
    ({"study": "../other"}, 'study: "../other" is not of the form'),
    ({"study": ""}, 'study: "" is not of the form'),
    ({"models": {"resnet19": {}}}, 'models: unknown name "resnet19", did you mean resnet18?'),
    ({"models": {"vgg16": {"width": 0}}}, "models.vgg16.width: 0 is not allowed, it must be more"),
    ({"models": {"vgg16": {"widht": 1}}}, "models.vgg16.widht: unknown key, did you mean width?"),
    (
        {"models": {"custom_cnn": None, "vgg16": None, "resnet18": None}},
        "models: must not be empty",
    ),
    ({"models": {"a b": {"builder": "a:b"}}}, 'models: "a b" cannot be a name here'),
    ({"models": {"mine": {"builder": "nets.py"}}}, 'mine.builder: "nets.py" is not of the form'),
    ({"models": {"vgg16": {"builder": "nets.py:f"}}}, "vgg16.builder: is this project's own under"),
    ({"models": {"vgg16": {"arguments": {"a": 1}}}}, "arguments: are of a builder, and it has non"),
    (
        {"models": {"mine": {"builder": "a:b", "width": 0.5}}},
        "models.mine.width: no builder knows it",
    ),
    (
        {"models": {"mine": {"builder": "a:b", "arguments": {"num_classes": 9}}}},
        "models.mine.arguments.num_classes: comes from the images; leave it out",
    ),
    ({"models": {"mine": {"builder": "a:b"}}}, "regimes.under_trained: gives no epochs for mine"),
    ({"models": {"vgg16": {"weights": "{a}.pt"}}}, "vgg16.weights: {a}.pt has a brace, { or }, in"),
    ({"models": {"vgg16": {"weights": ""}}}, "models.vgg16.weights: must not be empty"),
    ({"regimes": {"given": {"vgg16": 1}}}, "regimes.given: is the one of models that come with we"),
    ({"recipes": {"given": {}}}, "recipes.given: is the word for networks that come with weights"),
    ({"models": None}, "models: null is not of type object"),
    ({"regimes": {"short": {"vgg16": 1}}}, "regimes.short: gives no epochs for custom_cnn"),
    ({"regimes": {"under_trained": {"vgg16": 0}}}, "under_trained.vgg16: 0 is not allowed"),
    ({"regimes": {"under_trained": {"vgg16": 1.5}}}, "under_trained.vgg16: 1.5 is not of type int"),
    ({"regimes": {"under_trained": {"vgg61": 1}}}, "vgg61: unknown model, did you mean vgg16?"),
    ({"regimes": {"a b": None, "c/d": {}}}, 'regimes: "c/d" cannot be a name here'),
    ({"dataset": {"name": "cifar"}}, 'dataset.name: "cifar" is not allowed, did you mean cifar'),
    ({"dataset": {"name": "image_folder"}}, "dataset.source: image_folder needs a folder"),
    ({"dataset": {"name": "digits", "source": "x"}}, "dataset.source: digits come with"),
    ({"dataset": {"source": "my{images}.tar"}}, "dataset.source: my{images}.tar has a brace"),
    ({"dataset": {"source": ""}}, "dataset.source: must not be empty"),
    ({"dataset": {"source": 3}}, "dataset.source: 3 is not of type string or null"),
    ({"dataset": {"label": ""}}, "dataset.label: must not be empty"),
    ({"dataset": {"sorce": "x"}}, "dataset.sorce: unknown key, did you mean source?"),
    ({"dataset": {"normalization": {"mean": [0, 0, 0]}}}, None),
    (
        {"dataset": {"normalization": {"mean": [0], "std": [1]}}},
        "dataset.normalization.mean: [0] has too few entries, it must have 3",
    ),
    ({"dataset": {"normalization": 3}}, "dataset.normalization: 3 is none or more than one of: nu"),
    ({"calibration": {"images": 0}}, "calibration.images: 0 is not allowed, it must be at least 1"),
    ({"pruning": {"pattern": "5:4"}}, "pattern: '5:4' keeps 5 of 4 weights; N must be smaller"),
    ({"pruning": {"pattern": "4:4"}}, "N must be smaller than M"),
    ({"pruning": {"pattern": "0:4"}}, 'pruning.pattern: "0:4" is not of the form'),
    ({"pruning": {"pattern": "a:b"}}, 'pruning.pattern: "a:b" is not of the form'),
    (
        {"pruning": {"layout": "rows"}},
        'pruning.layout: "rows" is not allowed (allowed: channels, flattened)',
    ),
    ({"pruning": {"pattern": "2:0"}}, 'pruning.pattern: "2:0" is not of the form'),
    ({"pruning": {"pattern": "0%"}}, "pattern: '0%' must remove more than 0% and less than 100%"),
    ({"pruning": {"pattern": "100%"}}, "must remove more than 0% and less than 100%"),
    ({"pruning": {"pattern": 24}}, "pruning.pattern: 24 is not of type string"),
    ({"pruning": {"include": "conv*"}}, 'pruning.include: "conv*" is not of type array'),
    ({"pruning": {"exclude": [""]}}, "pruning.exclude.0: must not be empty"),
    ({"pruning": {"coverage": "most"}}, 'pruning.coverage: "most" is not allowed (allowed: all'),
    ({"calibration": {"images": -1}}, "calibration.images: -1 is not allowed, it must be at leas"),
    ({"calibration": {"class_balanced": "yes"}}, 'class_balanced: "yes" is not of type boolean'),
    ({"regimes": {"under_trained": {"vgg16": -3}}}, "under_trained.vgg16: -3 is not allowed, it"),
    ({"training": {"deterministic": 1}}, "training.deterministic: 1 is not of type boolean"),
    ({"training": {"compile": "on"}}, 'training.compile: "on" is not of type boolean'),
    ({"methods": {"sparsegpt": {"block_size": 0}}}, "methods.sparsegpt.block_size: 0 is not all"),
    ({"baselines": "a b"}, 'baselines: "a b" is not of the form'),
    ({"threads": "two"}, 'threads: "two" is not of type integer'),
    ({"methods": {"sparsegtp": {}}}, "methods.sparsegtp: unknown key, did you mean sparsegpt?"),
    ({"methods": {"sparsegpt": {"damping": 0}}}, "methods.sparsegpt.damping: 0 is not allowed"),
    ({"variants": {"s": {}}}, "variants.s: method missing"),
    ({"variants": {"s": {"method": "sparsegtp"}}}, "did you mean sparsegpt?"),
    ({"variants": {"dense": {"method": "magnitude"}}}, 'variants: "dense" cannot be a name here'),
    ({"variants": {"a/b": {"method": "magnitude"}}}, 'variants: "a/b" cannot be a name here'),
    (
        {"variants": {"m": {"method": "magnitude", "selection": "joint"}}},
        "variants.m.selection: method magnitude has no such setting",
    ),
    (
        {"device": "gpu"},
        'device: "gpu" is not allowed, did you mean cpu? (allowed: auto, cpu, cuda, mps)',
    ),
    ({"diagnostics": 3}, "diagnostics: 3 is not of type object or null"),
    ({"diagnostics": {"images": 0}}, "diagnostics.images: 0 is not allowed, it must be at least 1"),
    ({"diagnostics": {"image": 1}}, "diagnostics.image: unknown key, did you mean images?"),
    ({"diagnostics": {"variants": ["magnitude"] * 2}}, "diagnostics.variants: "),
    (
        {"diagnostics": {"variants": ["magnitdue"]}},
        "diagnostics.variants: unknown variant magnitdue, did you mean magnitude?",
    ),
    ({"export": {}}, "export: variants missing"),
    ({"export": {"variants": []}}, "export.variants: must not be empty"),
    (
        {"export": {"variants": ["dense", "sparsegtp"]}},
        "export.variants: unknown variant sparsegtp, did you mean sparsegpt? (allowed: dense, magn",
    ),
    (
        {"export": {"variants": ["dense"], "format": "torchscript"}},
        'export.format: "torchscript" is not allowed (allowed: onnx)',
    ),
    (
        {"export": {"variants": ["dense"], "normalise": True}},
        "export.normalise: unknown key, did you mean normalize?",
    ),
    (
        {
            "variants": {"permuted": {"method": "magnitude", "permute_channels": True}},
            "diagnostics": {"variants": ["permuted"]},
        },
        "diagnostics.variants: permuted has its channels in another order",
    ),
    (
        {
            "variants": {
                "p": {"method": "magnitude", "permute_channels": True, "layout": "flattened"}
            }
        },
        "variants.p.permute_channels: is for patterns N:M with layout: channels",
    ),
    ({"threads": 0}, "threads: 0 is not allowed, it must be at least 1"),
    ({"report": {"language": ["de"]}}, 'report.language.0: "de" is not allowed'),
    ({"report": {"language": []}}, "report.language: must not be empty"),
    ({"report": {"language": ["ko", "ko"]}}, 'report.language: ["ko", "ko"] names something twice'),
    ({"on_new_versions": "ask"}, 'on_new_versions: "ask" is not allowed (allowed: warn, rerun)'),
    ({"claims": {"c": {"statement": "x"}}}, "claims.c: more, than missing"),
    ({"claims": {"margin": 0}}, "claims.margin: 0 is not allowed, it must be more than 0"),
    ({"claims": {"margin": "wide"}}, 'claims.margin: "wide" is not of type number; write a num'),
    (claimed({}, {"drop": "magnitude"}), "claims.c.more: must not be empty"),
    (
        claimed({"drop": "magnitude", "accuracy": "dense"}, {"drop": "sparsegpt"}),
        "is none or more than one of: accuracy, drop, gain",
    ),
    (
        claimed({"drop": "magnitud"}, {"drop": "sparsegpt"}),
        "claims.c.more.drop: unknown variant magnitud, did you mean magnitude? (allowed: dense, ma",
    ),
    (
        claimed({"gain": ["sparsegpt", "random"]}, {"gain": ["sparsegpt", "magnitude"]}),
        "claims.c.more.gain: unknown variant random",
    ),
    (
        claimed({"drop": "sparsegpt", "model": "resnet18"}, {"drop": "sparsegpt"}),
        "claims.c: name a model on both sides, or on neither to compare in each",
    ),
    (
        claimed({"drop": "sparsegpt", "regime": "long"}, {"drop": "sparsegpt", "regime": "short"}),
        "claims.c.more.regime: unknown regime long",
    ),
    (
        claimed({"drop": "sparsegpt"}, {"drop": "sparsegpt"}),
        "claims.c: both sides are the same; let them differ",
    ),
]


@pytest.mark.parametrize(("overlay", "message"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_a_mistake_is_named_with_what_is_allowed(overlay, message, tabulate):
    if message is None:  # merging keeps the default's std, so this one is fine
        complete(**overlay)
        return
    with pytest.raises(UserError) as error:
        complete(**overlay)
    assert message in str(error.value)
    lines = str(error.value).splitlines()
    assert all(len(line) < 300 for line in lines)
    tabulate("wrong configurations", says=lines[0][:150])


def test_mistakes_come_in_the_order_of_the_configuration():
    wrong = [f"r{number}" for number in (7, 3, 9, 1, 8, 2)]
    with pytest.raises(UserError) as error:
        complete(regimes={name: {"custom_cnn": 0} for name in wrong}, seeds=[])
    named = [line.split(":")[0] for line in str(error.value).splitlines()]
    assert named == [*(f"regimes.{name}.custom_cnn" for name in wrong), "seeds"]


def test_all_mistakes_are_named_at_once():
    with pytest.raises(UserError) as error:
        complete(thread=1, seeds=[], device="gpu")
    assert len(str(error.value).splitlines()) == 3


WRONG_FILES = [
    ("study: [a\nb: {", ", line 2, column 2: not valid YAML (expected ',' or ']', but got ':')"),
    ("study: a\n\tb: c\n", ", line 2, column 1: not valid YAML (found character '\\t'"),
    ("a: *unknown", ", line 1, column 4: not valid YAML (found undefined alias"),
    ("a: !!python/object/apply:os.system [touch pwned]", "could not determine a constructor"),
    ("seeds: [1]\nseeds: [2]", ", line 2, column 1: not valid YAML (key 'seeds' is given twice"),
    ("models:\n  vgg16: {}\n  vgg16: {}", ", line 3, column 3: not valid YAML (key 'vgg16' is"),
    ("- a\n- b", ": holds a list; write settings as `key: value`"),
    ("reference", ": holds a str; write settings"),
    ("", ": holds nothing; write settings"),
    ("a: \x07", ": not valid YAML (unacceptable character"),
    ("study: a\nlabel: caf\xe9".encode("latin-1"), ", line 2: byte 0xe9 is not UTF-8; save"),
    (None, ": cannot be read (No such file or directory)"),
]


@pytest.mark.parametrize(
    ("content", "message"), WRONG_FILES, ids=[str(i) for i in range(len(WRONG_FILES))]
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(tmp_path, tabulate, content, message):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}{message}" if message[0] in ",:" else str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    tabulate("wrong configurations", says=str(error.value).replace(f"{tmp_path}/", ""))


def test_what_yaml_allows_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n".replace("? [e]\n: 1\n", ""))
    assert read_config(path) == {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}


def test_the_command_that_checks_says_what_a_study_is_and_what_is_wrong(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("seed: [1]\nthreads: 0\n")
    command = [sys.executable, ROOT / "scripts/check_config.py"]
    for files, code, text in (
        ([ROOT / "studies/small.yaml"], 0, "study small: valid; 6 trainings, 42 pruned networks"),
        ([wrong], 1, "error: seed: unknown key, did you mean seeds?"),
        ([tmp_path / "absent.yaml"], 1, "absent.yaml: cannot be read"),
    ):
        run = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
        assert run.returncode == code
        assert text in run.stdout + run.stderr
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("label", "holdout", "said"),
    [("Mine", 0, "Mine"), (None, 0, "digits"), ("Mine", 140, "Mine (train split alone)")],
)
def test_data_are_called_what_they_are(label, holdout, said):
    assert data_label({"name": "digits", "label": label, "holdout": holdout}) == said
