"""Settings as people write them: read as they are meant, or refused in a line that says how."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsecnn
from sparsecnn.errors import UserError
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import gather, read_config, read_schema
from sparsecnn.study.config_values import as_meant

ROOT = Path(sparsecnn.__file__).parents[2]
SCHEMA = read_schema()
DEFAULT = read_config(ROOT / "config.yaml")
CONFIG_TEXT = (ROOT / "config.yaml").read_text()
NAME = "cannot be a name here (small letters, digits and _, a letter first, at most 48 in all)"
ITSELF: dict = {"study": "a"}
ITSELF["variants"] = {"wanda": ITSELF}


def gathered(*files, entries=()):
    return complete_config(gather([ROOT / "config.yaml", *files], entries, no_template), SCHEMA)


def no_template(path):
    raise AssertionError(f"{path} is none")


def at(config, path):
    for key in path.split("."):
        config = config[int(key) if key.isdigit() else key]
    return config


@pytest.fixture
def written(tmp_path):
    """Call with a file's content: the file."""

    def write(content, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def said(read, *arguments, **options):
    """The lines that a mistake is refused with."""
    with pytest.raises(UserError) as error:
        read(*arguments, **options)
    lines = str(error.value).splitlines()
    assert all(line.isprintable() for line in lines)
    return lines


READ_FROM_A_FILE = [
    # Numbers to YAML 1.1 and its readers, texts to people.
    ("pruning: {pattern: 2:4}", "pruning.pattern", "2:4"),
    ("pruning: {pattern: 1:30}", "pruning.pattern", "1:30"),
    ("variants: {wanda: {pattern: 12:16}}", "variants.wanda.pattern", "12:16"),
    ("dataset: {label: 1:30.5}", "dataset.label", "1:30.5"),
    ("study: 2024-01-01", "study", "2024-01-01"),
    ("dataset: {label: 2024-13-45}", "dataset.label", "2024-13-45"),
    ("study: 12e4", "study", "12e4"),
    ("study: 1_000", "study", "1_000"),
    ("dataset: {label: =}", "dataset.label", "="),
    # Texts to YAML 1.1, numbers to people.
    ("recipes: {reference: {learning_rate: 1e-4}}", "recipes.reference.learning_rate", 1e-4),
    ("recipes: {reference: {weight_decay: 5E-4}}", "recipes.reference.weight_decay", 5e-4),
    ("recipes: {reference: {learning_rate: 1.5e-3}}", "recipes.reference.learning_rate", 1.5e-3),
    ("methods: {sparsegpt: {damping: .01}}", "methods.sparsegpt.damping", 0.01),
    ("variants: {wanda: {damping: 1e-2}}", "variants.wanda.damping", 1e-2),
    ("models: {vgg16: {width: 1.}}", "models.vgg16.width", 1.0),
    # Numbers, booleans and null in quotes, where no text can be meant.
    ('recipes: {strong: {batch_size: "128"}}', "recipes.strong.batch_size", 128),
    ('seeds: ["0", "1"]', "seeds", [0, 1]),
    ('training: {compile: "True"}', "training.compile", True),
    ('diagnostics: "null"', "diagnostics", None),
    ('dataset: {label: "null"}', "dataset.label", None),
    ('dataset: {normalization: "null"}', "dataset.normalization", None),
    # Other ways to write a number or a boolean.
    ("seeds: [1_000, +5, 0x10, -0]", "seeds", [1000, 5, 16, 0]),
    ("calibration: {class_balanced: no}", "calibration.class_balanced", False),
    ("pruning: {bn_recalibration: On}", "pruning.bn_recalibration", True),
    ("diagnostics: ~", "diagnostics", None),
    # What stays a text.
    ('study: "2024"', "study", "2024"),
    ('dataset: {label: "010"}', "dataset.label", "010"),
    ('dataset: {label: ".nan"}', "dataset.label", ".nan"),
    ("dataset: {label: nan}", "dataset.label", "nan"),
    # Ends of lines, marks, spaces, keys merged.
    (b"\xef\xbb\xbfthreads: 3\r\nseeds: [7]\r\n", "threads", 3),
    (b"\xef\xbb\xbfthreads: 3\r\nseeds: [7]\r\n", "seeds", [7]),
    ("study : x\n", "study", "x"),
    ("recipes: {a: &a {cutout: 1}, b: {<<: *a, warmup: 0.1}}", "recipes.b.cutout", 1),
    ("variants: {a: &a {<<: {method: wanda}, method: random}, b: {<<: *a}}", "variants.b.method",
     "random"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "path", "value"), READ_FROM_A_FILE, ids=lambda v: str(v)[:60])
def test_a_file_is_read_as_meant(written, inputs, content, path, value):
    read = at(gathered(written(content)), path)
    assert read == value
    assert type(read) is type(value)
    inputs(content, f"{path} = {json.dumps(read)}")


READ_FROM_THE_COMMAND_LINE = [
    ("seeds=[0,1]", "seeds", [0, 1]),
    ("calibration={images: 64}", "calibration.images", 64),
    ("pruning={bn_recalibration: true}", "pruning.bn_recalibration", True),
    ("diagnostics=null", "diagnostics", None),
    ("diagnostics={variants: [magnitude], images: 9}", "diagnostics.variants", ["magnitude"]),
    ("dataset={holdout: 100}", "dataset.holdout", 100),
    ("dataset={source: null, label: 2024}", "dataset.label", "2024"),
    ("dataset={label: ~}", "dataset.label", None),
    ("dataset={normalization: {mean: [0, .5, 1e-1], std: [1, 1, 1]}}", "dataset.normalization.mean",
     [0, 0.5, 0.1]),
    ("recipes={reference: {learning_rate: 1e-4}}", "recipes.reference.learning_rate", 1e-4),
    ("pruning={pattern: 2:4}", "pruning.pattern", "2:4"),
    ("pruning={exclude: [conv*, '1']}", "pruning.exclude", ["conv*", "1"]),
    ("threads=2", "threads", 2),
    ("threads='2'", "threads", 2),
    ("study=2024x", "study", "2024x"),
    ("study=2024", "study", "2024"),
    ("study=1.10", "study", "1.10"),
    ("study=on", "study", "on"),
    ("variants={on: {method: wanda}}", "variants.on.method", "wanda"),
    ("report={language: [ko]}", "report.language", ["ko"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "path", "value"),
    READ_FROM_THE_COMMAND_LINE,
    ids=[entry for entry, *_ in READ_FROM_THE_COMMAND_LINE],
)
def test_the_command_line_is_read_as_meant(inputs, entry, path, value):
    read = at(gathered(entries=[entry]), path)
    assert read == value
    assert type(read) is type(value)
    inputs(f"--config {entry!r}", f"{path} = {json.dumps(read)}")


@pytest.mark.parametrize("null", ["null", "~", "Null", "", "None"])
def test_null_on_the_command_line_removes_an_entry(inputs, null):
    assert "wanda" in gathered()["variants"]
    assert "wanda" not in gathered(entries=[f"variants={{wanda: {null}}}"])["variants"]
    inputs(f"--config 'variants={{wanda: {null}}}'", "the study without the variant wanda")


REFUSED_IN_A_FILE = [
    # Names.
    ("variants: {on: {method: wanda}}",
     ', line 1, column 12: the name on means true or false; write "on" in quotes'),
    ("variants:\n  off: {method: wanda}",
     ', line 2, column 3: the name off means true or false; write "off" in quotes'),
    ("regimes: {yes: {}}",
     ', line 1, column 11: the name yes means true or false; write "yes" in quotes'),
    ("recipes: {No: {}}",
     ', line 1, column 11: the name No means true or false; write "No" in quotes'),
    ("true: 1", ', line 1, column 1: the name true means true or false; write "true" in quotes'),
    ("variants: {2024: {method: wanda}}",
     ", line 1, column 12: the name 2024 is no text; write a name that begins with a letter"),
    ("regimes: {1.5: {}}",
     ", line 1, column 11: the name 1.5 is no text; write a name that begins with a letter"),
    ("claims: {010: {}}",
     ", line 1, column 10: the name 010 is no text; write a name that begins with a letter"),
    ("regimes: {.nan: {}}",
     ", line 1, column 11: the name .nan is no text; write a name that begins with a letter"),
    ("recipes: {~: {}}", ", line 1, column 11: a name is empty or null; write a text"),
    ("recipes: {null: {}}", ", line 1, column 11: a name is empty or null; write a text"),
    ("? [a]\n: 1", ", line 1, column 3: a name must be a text, not a list or settings"),
    ("variants: {2024: 1, '2024': 2}",
     ", line 1, column 12: the name 2024 is no text; write a name that begins with a letter"),
    ("variants: {'2024': 1, \"2024\": 2}",
     ", line 1, column 23: not valid YAML (key '2024' is given twice; keep one)"),
    # Numbers.
    ("recipes: {reference: {learning_rate: .nan}}",
     ', line 1, column 38: .nan is not finite; write a finite number, or ".nan" in quotes if it is '
     "a text"),
    ("models: {vgg16: {width: .inf}}",
     ', line 1, column 25: .inf is not finite; write a finite number, or ".inf" in quotes if it is '
     "a text"),
    ("models: {vgg16: {width: -.Inf}}",
     ', line 1, column 25: -.Inf is not finite; write a finite number, or "-.Inf" in quotes if it '
     "is a text"),
    ("models: {vgg16: {width: 1.0e999}}",
     ', line 1, column 25: "1.0e999" is too large; write another'),
    ("seeds: [010]",
     ", line 1, column 9: 010 begins with 0, which some readers take for octal; write 10, or "
     '"010" in quotes if it is a text'),
    ("study: 007",
     ", line 1, column 8: 007 begins with 0, which some readers take for octal; write 7, or "
     '"007" in quotes if it is a text'),
    ("threads: -08",
     ", line 1, column 10: -08 begins with 0, which some readers take for octal; write -8, or "
     '"-08" in quotes if it is a text'),
    ("seeds: [99999999999999999999]",
     ", line 1, column 9: 99999999999999999999 is too large; write at most 9223372036854775807"),
    (f"seeds: [{'9' * 5000}]",
     f', line 1, column 9: "{"9" * 75} ... is too large; write another'),
    # Tags.
    ("threads: !!int two", ', line 1, column 10: "two" is no number; write another'),
    ("study: !!timestamp x", ', line 1, column 8: "x" is not what its tag says'),
    ("threads: !!bool maybe", ', line 1, column 10: "maybe" is not what its tag says'),
    ("seeds: !!set {a}", ": seeds: a set is no setting; write text, a number, true, false, null, "
     "a list, or `key: value`"),
    # Depth.
    ("a: &x {b: *x}", ", line 1, column 11: *x stands inside itself"),
    ("a: &x [1, [*x]]", ", line 1, column 12: *x stands inside itself"),
    ("a: " + "[" * 3000, ", line 1, column 35: nested too deeply"),
    ("a: " + "{b: " * 3000, ", line 1, column 125: nested too deeply"),
    ("\n".join(f"{c}: &{c} [{', '.join([f'*{b}' if b else '1'] * 10)}]"
               for b, c in zip(["", *"abcdef"], "abcdefg", strict=True)),
     ": the configuration: holds more than 100000 values; write fewer"),
    # Texts.
    ('dataset: {label: "\\ud800"}',
     ', line 1, column 18: "\\ud800" has a character that no file can hold; leave it out'),
    ('dataset: {source: "a\\0b"}',
     ', line 1, column 19: "a\\u0000b" has a character that no file can hold; leave it out'),
    ("study:\tx\n\ty: z", ", line 1, column 7: not valid YAML (found character '\\t' that cannot "
     "start any token)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    REFUSED_IN_A_FILE,
    ids=[content[:40] for content, _ in REFUSED_IN_A_FILE],
)
def test_what_no_setting_can_be_is_refused_with_its_place(written, inputs, content, message):
    path = written(content)
    assert said(gathered, path) == [f"{path}{message}"]
    inputs(content[:60], f"mine.yaml{message}")


REFUSED_JSON = [
    ('{"recipes": {"reference": {"learning_rate": NaN}}}',
     ": recipes.reference.learning_rate: NaN is not finite; write a finite number"),
    ('{"models": {"vgg16": {"width": -Infinity}}}',
     ": models.vgg16.width: -Infinity is not finite; write a finite number"),
    ('{"models": {"vgg16": {"width": 1e999}}}',
     ": models.vgg16.width: Infinity is not finite; write a finite number"),
    ('{"seeds": [1], "seeds": [2]}', ': key "seeds" is given twice; keep one'),
    ('{"study": "a"', ", line 1, column 14: not valid JSON (Expecting ',' delimiter)"),
    ('{"seeds":\n [1}', ", line 2, column 4: not valid JSON (Expecting ',' delimiter)"),
    ("[1]", ": holds a list; write settings as `key: value`"),
    ("", ", line 1, column 1: not valid JSON (Expecting value)"),
    (f'{{"seeds": [{"9" * 5000}]}}', ": holds a number with too many digits"),
    ("[" * 100_000, ": nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"), REFUSED_JSON, ids=[content[:40] for content, _ in REFUSED_JSON]
)
def test_mistakes_in_json(written, inputs, content, message):
    path = written(content, "mine.json")
    [line] = said(gathered, path)
    assert line == f"{path}{message}"
    inputs(f"mine.json: {content[:60]}", f"mine.json{message}")


def test_json_is_read_with_tabs_and_marks(written, inputs):
    content = b'\xef\xbb\xbf{"study":\t"2024",\r\n\t"pruning": {"pattern": "1:4"}}'
    config = gathered(written(content, "mine.json"))
    assert (config["study"], config["pruning"]["pattern"]) == ("2024", "1:4")
    inputs(f"mine.json: {content.decode()}", 'study = "2024", pruning.pattern = "1:4"')


REFUSED_BY_KEY = [
    # Kinds of numbers.
    ("recipes: {strong: {batch_size: 128.0}}",
     "recipes.strong.batch_size: 128.0 is not of type integer; write 128"),
    ("seeds: [1.0]", "seeds.0: 1.0 is not of type integer; write 1"),
    ("calibration: {images: 1.5}",
     "calibration.images: 1.5 is not of type integer; write a whole number"),
    ('threads: "2.0"', 'threads: "2.0" is not of type integer; write 2'),
    ("threads: 1e1", 'threads: "1e1" is not of type integer; write 10'),
    ('threads: "010"', 'threads: "010" is not of type integer; write 10'),
    ("threads: true", "threads: true is not of type integer; write a whole number"),
    ("threads: ''", 'threads: "" is not of type integer; write a whole number'),
    ("threads:", "threads: null is not of type integer; write a whole number"),
    ("threads: ~", "threads: null is not of type integer; write a whole number"),
    ("models: {vgg16: {width: wide}}",
     'models.vgg16.width: "wide" is not of type number; write a number'),
    ("models: {vgg16: {width: 1e999}}",
     'models.vgg16.width: "1e999" is not of type number; write a number'),
    ("models: {vgg16: {width: nan}}",
     'models.vgg16.width: "nan" is not of type number; write a number'),
    ("models: {vgg16: {width: yes}}", "models.vgg16.width: true is not of type number; write a "
     "number"),
    # Booleans.
    ('training: {compile: "yes"}',
     'training.compile: "yes" is not of type boolean; write true or false'),
    ("training: {compile: 0}", "training.compile: 0 is not of type boolean; write true or false"),
    ("training: {compile: null}",
     "training.compile: null is not of type boolean; write true or false"),
    # Lists.
    ("seeds: 3", "seeds: 3 is not of type array; write [3]"),
    ('seeds: "3"', "seeds: 3 is not of type array; write [3]"),
    ('seeds: "[0, 1]"', 'seeds: "[0, 1]" is not of type array; write [0, 1] without quotes'),
    ("report: {language: ko}",
     'report.language: "ko" is not of type array; write ["ko"]'),
    ("seeds: {a: 1}", 'seeds: {"a": 1} is not of type array; write a list, as [a, b]'),
    ("diagnostics: {variants: wanda}",
     'diagnostics.variants: "wanda" is not of type array or null; write ["wanda"] or null'),
    # Texts.
    ("study: 2024", 'study: 2024 is not of type string; write "2024" in quotes'),
    ("study: 1.10", "study: 1.1 is not of type string; write the text in quotes"),
    ("study: on", "study: true is not of type string; write the text in quotes (yes, no, on and "
     "off mean true and false without)"),
    ("dataset: {label: 2024}",
     'dataset.label: 2024 is not of type string or null; write "2024" in quotes or null'),
    ("dataset: {source: 3}",
     'dataset.source: 3 is not of type string or null; write "3" in quotes or null'),
    ("dataset: {label: [a]}",
     'dataset.label: ["a"] is not of type string or null; write a text or null'),
    ("pruning: {pattern: 124}",
     'pruning.pattern: 124 is not of type string; write "2:4" or "50%", in quotes'),
    ("study: |\n  x\n", r'study: "x\n" is not of the form ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    (f"pruning: {{pattern: '1:{'9' * 40}'}}",
     f'pruning.pattern: "1:{"9" * 40}" is too long, it must have at most 32 characters'),
    # Settings.
    ("variants:", "variants: null is not of type object; write settings as `key: value`, or leave "
     "it out"),
    ("training:", "training: null is not of type object; write settings as `key: value`, or leave "
     "it out"),
    ("variants: []", "variants: [] is not of type object; write settings as `key: value`"),
    ("models: {vgg16: [1]}",
     "models.vgg16: [1] is not of type object; write settings as `key: value`"),
    ("recipes: [a]", 'recipes: ["a"] is not of type object; write settings as `key: value`'),
    ("regimes: {under_trained: 5}",
     "regimes.under_trained: 5 is not of type object; write settings as `key: value`"),
    ("diagnostics: off",
     "diagnostics: false is not of type object or null; write settings as `key: value` or null"),
    ("dataset: {normalization: {mean: [a, 0, 0]}}",
     'dataset.normalization.mean.0: "a" is not of type number; write a number'),
    ("dataset: {normalization: {mean: [1]}}",
     "dataset.normalization.mean: [1] has too few entries, it must have 3"),
    ("variants: {magnitude: {target: dense}}",
     "variants.magnitude.target: method magnitude has no such setting"),
    # Claims.
    ("claims: {c: 5}", "claims.c: 5 is not of type object; write settings as `key: value`"),
    ("claims: {c: {statement: x, more: [a], than: {drop: wanda}}}",
     'claims.c.more: ["a"] is not of type object; write settings as `key: value`'),
    ("claims: {c: {statement: 5, more: {drop: dense}, than: {drop: wanda}}}",
     'claims.c.statement: 5 is not of type string; write "5" in quotes'),
    ("claims: {c: {statement: x, more: {gain: wanda}, than: {drop: wanda}}}",
     'claims.c.more.gain: "wanda" is not of type array; write ["wanda"]'),
    ("claims: {c: {statement: x, more: {gain: [a]}, than: {drop: wanda}}}",
     'claims.c.more.gain: ["a"] has too few entries, it must have 2'),
    ("claims: {c: {statement: x}}", "claims.c: more, than missing"),
    # Names.
    ("variants: {\"Yes\": {method: wanda}}", f'variants: "Yes" {NAME}'),
    ("variants: {2024-01-01: {method: wanda}}", f'variants: "2024-01-01" {NAME}'),
    ("variants: {\"a\\n\": {method: wanda}}", rf'variants: "a\n" {NAME}'),
    ("variants: {'a ': {method: wanda}}", f'variants: "a " {NAME}'),
    (f"variants: {{{'x' * 1000}: {{method: wanda}}}}", f'variants: "{"x" * 75} ... {NAME}'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line"), REFUSED_BY_KEY, ids=[content[:40] for content, _ in REFUSED_BY_KEY]
)
def test_a_setting_of_a_wrong_kind_is_told_what_to_write(written, inputs, content, line):
    assert said(gathered, written(content)) == [line]
    inputs(content[:60], line)


UNSEEN = [
    ("study\u00a0: x", r'"study\u00a0": unknown key, did you mean study? (allowed: study, basel'),
    ("'study ': x", '"study ": unknown key, did you mean study? (allowed: study, basel'),
    ("calibration: {images\u200b: 1}", r'calibration."images\u200b": unknown key, did you mean im'),
]


@pytest.mark.parametrize(("content", "beginning"), UNSEEN, ids=["nbsp", "space", "no width"])
def test_what_cannot_be_seen_in_a_name_is_shown(written, inputs, content, beginning):
    [line] = said(gathered, written(content))
    assert line.startswith(beginning)
    inputs(content, line)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("seeds=3", "seeds: 3 is not of type array; write [3]"),
        ("seeds=[010]", 'seeds.0: "010" is not of type integer; write 10'),
        ("seeds=[", "--config seeds: not valid YAML (expected the node content, but found "
         "'<stream end>')"),
        ("threads=2.0", 'threads: "2.0" is not of type integer; write 2'),
        ("threads=", "threads: null is not of type integer; write a whole number"),
        ("threads", '--config "threads": write KEY=VALUE'),
        ("training={compile: yes}",
         'training.compile: "yes" is not of type boolean; write true or false'),
        ("calibration={images: 1, images: 2}",
         "--config calibration: not valid YAML (key 'images' is given twice; keep one)"),
        ("models={vgg16: {width: .nan}}",
         'models.vgg16.width: ".nan" is not of type number; write a number'),
        ("variants={2024: {method: wanda}}", f'variants: "2024" {NAME}'),
        ("variants=" + "{a: " * 100, "--config variants: nested too deeply"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(inputs, entry, line):
    assert said(gathered, entries=[entry]) == [line]
    inputs(f"--config {entry[:50]!r}", line)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"variants": {True: {}, "a": 1, None: 2, 3: 4}}, [
            'variants: the name true is no text; write it in quotes (yes, no, on and off mean true '
            'and false without: "on")',
            "variants: a name is null; write a text",
            "variants: the name 3 is a number; write a name that begins with a letter",
        ]),
        ({2024: 1}, [
            "the configuration: the name 2024 is a number; write a name that begins with a letter"
        ]),
        ({(1, 2): 1}, [
            "the configuration: the name [1, 2] is no text; write a name that begins with a letter"
        ]),
        ({"seeds": [0, math.nan, -math.inf]}, [
            "seeds.1: NaN is not finite; write a finite number",
            "seeds.2: -Infinity is not finite; write a finite number",
        ]),
        ({"threads": 10**4000}, [
            "threads: a whole number of 13288 bits is too large; write at most 9223372036854775807"
        ]),
        ({"seeds": (0, 1)}, [
            "seeds: a tuple is no setting; write text, a number, true, false, null, a list, or "
            "`key: value`"
        ]),
        ({"seeds": [0, 0.0]}, [
            "seeds: [0, 0.0] names something twice",
            "seeds.1: 0.0 is not of type integer; write 0",
        ]),
        ({"variants": {"a": ITSELF}}, [
            "variants.a.variants.wanda: nested too deeply, or in itself; write settings one by one"
        ]),
    ],
    ids=["names", "number", "tuple", "nan", "huge", "list", "twice", "itself"],
)  # fmt: skip
def test_plain_values_are_refused_as_files_are(inputs, changes, line):
    assert said(complete_config, {**DEFAULT, **changes}, SCHEMA) == line
    inputs(str(changes)[:60], "\n".join(line))


@pytest.mark.parametrize("value", [[], 3, None, "a"])
def test_what_is_no_configuration_at_all(value):
    [line] = said(complete_config, value, SCHEMA)
    assert line.endswith("is no settings; write `key: value`")


def test_references_and_alternatives_of_the_schema_are_followed():
    schema = {
        "properties": {"a": {"$ref": "#/$defs/list"}},
        "additionalProperties": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/list"}]},
        "$defs": {
            "list": {"type": "array", "items": {"$ref": "#/$defs/n"}},
            "n": {"type": "number"},
        },
    }
    value = {"a": ["1", "x", {"b": "2"}], "b": "null", "c": ["1e-3"]}
    meant = {"a": [1, "x", {"b": "2"}], "b": None, "c": [1e-3]}
    assert as_meant(value, schema, schema["$defs"]) == meant
    assert value["a"][0] == "1"


def test_files_are_merged_key_by_key_and_the_command_line_comes_last(written):
    one = written(
        "seeds: [1]\ndiagnostics: null\nrecipes: {mine: {cutout: 1, warmup: 0.1}}", "1.yaml"
    )
    two = written("recipes: {mine: {cutout: 2}}\ndiagnostics: {}", "2.yaml")
    config = gathered(one, two, entries=["recipes={mine: {warmup: 0.2}}", "seeds=[2, 3]"])
    assert config["recipes"]["mine"]["cutout"] == 2
    assert config["recipes"]["mine"]["warmup"] == 0.2
    assert config["seeds"] == [2, 3]
    assert config["diagnostics"] == {"images": 512, "variants": None}


def test_a_template_is_left_to_its_own_reader(written, inputs):
    files = [ROOT / "config.yaml", written("__use_yte__: true\nseeds:\n  - ?1 + 1")]
    assert gather(files, [], lambda path: {"seeds": [2]})["seeds"] == [2]
    [line] = said(gather, files, [], no_template)
    assert line.startswith(f"{files[1]}: its template cannot be read (AssertionError: ")
    inputs("a file with `__use_yte__: true` whose template fails", line.replace(str(files[1]), ""))
    unused = written("__use_yte__: false\nseeds: [4]", "unused.yaml")
    assert gathered(unused)["seeds"] == [4]


def test_the_command_that_checks_takes_what_config_takes(inputs):
    command = [sys.executable, ROOT / "scripts/check_config.py", ROOT / "studies/small.yaml"]
    for entries, status, text in (
        (["seeds=[0,1]", "variants={wanda: null}"], 0, "valid; 12 trainings, 72 pruned networks"),
        (["seeds=3"], 1, "error: seeds: 3 is not of type array; write [3]"),
    ):
        run = subprocess.run(
            [*command, "--config", *entries], capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stderr.count("Traceback")) == (status, 0)
        assert text in run.stdout + run.stderr
        inputs(f"check_config.py --config {' '.join(entries)}", text)


def checked_again(config):
    """That what was accepted is plain, finite and accepted again as it is."""
    complete = complete_config(config, SCHEMA)
    assert complete_config(complete, SCHEMA) == complete
    assert json.loads(json.dumps(complete, allow_nan=False)) == complete  # so all names are text


def check(read, *arguments):
    """That a mistake is a `UserError` of short lines; whatever else is raised ends the test."""
    try:
        return read(*arguments)
    except UserError as error:
        lines = str(error).splitlines()
    assert lines
    assert max(map(len, lines)) < 300
    return None


NAMES = sorted(
    {key for part in [DEFAULT, *DEFAULT.values()] if isinstance(part, dict) for key in part}
    | {"dense", "recipe", "method", "width", "statement", "more", "than", "gain", "drop", "pattern"}
)
KEYS = st.sampled_from(NAMES) | st.text(max_size=5)
ODD_KEYS = st.one_of(st.booleans(), st.none(), st.integers(), st.floats(), st.just(()))
TEXTS = ["2:4", "1e-4", "true", "null", "010", "50%", "[1]", "wanda", "dense", "cifar10", "x\n"]
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(0, 9),
        st.sampled_from([10**30, -(10**4000), 1.0, 0.5]),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(TEXTS),
        st.binary(max_size=2),
    ),
    lambda inside: st.one_of(
        st.lists(inside, max_size=4),
        st.dictionaries(KEYS | ODD_KEYS, inside, max_size=3),
        st.dictionaries(KEYS, inside, max_size=4),
    ),
    max_leaves=8,
)


def places(value, path=()):
    """Every path of a configuration."""
    yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(child, (*path, key))


def changed(config, path, key, value):
    """The configuration with a value in the place of another, or beside it by a new key."""
    config = copy.deepcopy(config)
    inside = config
    for part in path[:-1]:
        inside = inside[part]
    if not path:
        return {**config, key: value}
    if isinstance(inside[path[-1]], dict) and key is not None:
        inside[path[-1]][key] = value
    else:
        inside[path[-1]] = value
    return config


PLACES = list(places(DEFAULT))[1:]
CHANGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.none() | KEYS | ODD_KEYS, VALUES), min_size=1, max_size=3
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(CHANGES)
def test_any_values_are_accepted_for_good_or_refused_in_short_lines(changes):
    config = DEFAULT
    for path, key, value in changes:
        try:
            config = changed(config, path, key, value)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    check(checked_again, config)


PIECES = st.sampled_from(
    [
        *("{", "}", "[", "]", ":", ": ", ",", "\n", "\n  ", "\t", "\r\n", "\ufeff", "\u00a0", "#"),
        *("&a ", "*a", "<<: ", "!!int ", "!!set ", "!!timestamp ", "!x ", "? ", "- ", "|\n", "%"),
        *("'", '"', "on", "2024", ".nan", "1e-4", "2:4", "010", "~", "0x", "9" * 5000, "\\ud800"),
    ]
) | st.text(max_size=4)
EDITS = st.lists(
    st.tuples(st.integers(0, len(CONFIG_TEXT)), st.integers(0, 12), PIECES), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(EDITS)
def test_any_edit_of_a_file_is_read_or_refused_in_a_short_line(tmp_path_factory, edits):
    text = CONFIG_TEXT
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    path = tmp_path_factory.getbasetemp() / "edited.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    config = check(read_config, path)
    if config is not None:
        check(checked_again, config)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(max_size=30) | st.lists(PIECES, max_size=6).map("".join))
def test_any_entry_of_the_command_line_is_read_or_refused_in_short_lines(text):
    for key in ("seeds", "variants", "study"):
        check(lambda entry: checked_again({**DEFAULT, **gather([], [entry], no_template)}),
              f"{key}={text}")  # fmt: skip


def test_the_shipped_files_read_as_any_yaml_reader_reads_them():
    """But for what such readers take 1e-4 and 2:4 for, of which there is none in them."""
    for path in [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]:
        assert read_config(path) == yaml.safe_load(path.read_text())
