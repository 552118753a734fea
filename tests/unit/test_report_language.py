"""The report in another language: nothing untranslated, and the numbers of the English one."""

import functools
import re
import string
from collections import Counter

import pandas as pd
import pytest
from babel.messages.extract import extract_from_file
from babel.messages.frontend import CommandLineInterface
from babel.messages.pofile import read_po
from study_example import (
    BUDGETS,
    CATALOGUES,
    INGREDIENTS,
    ROOT,
    ablation_config,
    ablation_results,
    ablation_values,
    diagnostics,
    metrics,
    published_results,
    report,
    results,
    sweep_config,
    sweep_results,
    sweep_values,
    waterfall_config,
)

from sparsecnn.report.language import NAMES, gettext, ngettext, speaking
from sparsecnn.report.text import anchor, table

LEAST, VGG = "under_trained", {"vgg16": 5}
KOREAN = CATALOGUES["ko"]
NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?")
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}")
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """The texts of the report, found as `make messages` finds them."""
    target = tmp_path_factory.mktemp("messages") / "messages.pot"
    command = ["pybabel", "-q", "extract", "-F", str(ROOT / "pyproject.toml"), "-k", "English"]
    CommandLineInterface().run([*command, "-o", str(target), str(ROOT)])
    with target.open("rb") as file:
        return [message.id for message in read_po(file) if message.id]


def catalogue(language):
    with (ROOT / "report" / "locale" / f"{language}.po").open("rb") as file:
        return read_po(file)


def pairs():
    """Every message, of a singular and plural the latter, with its translation."""
    for message in catalogue("ko"):
        if isinstance(message.id, tuple):
            yield message.id[-1], *message.string
        elif message.id:
            yield message.id, message.string


def templates():
    """The messages of the template, which Jinja fills in by `%`."""
    options = {"newstyle_gettext": "true", "trimmed": "true", "silent": "false"}
    options |= {"trim_blocks": "true", "lstrip_blocks": "true"}
    found = set()
    for path in (ROOT / "report" / "markdown").glob("*.j2"):
        for _, message, *_ in extract_from_file("jinja2", path, options=options):
            found |= {message} if isinstance(message, str) else set(message)
    return found


TEMPLATE = templates()


def test_each_catalogue_has_every_message_of_the_report_and_no_other(extracted):
    assert len(extracted) > 150
    for language in set(NAMES) - {"en"}:
        own = catalogue(language)
        assert {message.id for message in own if message.id} == set(extracted), "make messages"
        assert not own.obsolete
        for message in own:
            strings = [message.string] if isinstance(message.string, str) else message.string
            assert not message.fuzzy or not message.id, message.id
            assert all(strings), message.id


@pytest.mark.parametrize(
    "part", [PLACEHOLDER, NUMBER, r"`[^`]*`", r"\]\([^)]*\)", r"\*+", r"<[^>]*>"]
)
def test_a_translation_has_the_parts_of_its_message(part):
    for message, translation in pairs():
        found = (Counter(re.findall(part, text)) for text in (message, translation))
        assert next(found) == next(found), translation


def test_points_and_percent_are_told_apart_in_translation():
    for message, translation in pairs():
        one, other = (re.sub(PLACEHOLDER, "", text) for text in (message, translation))
        assert ("point" in one) == ("%p" in other), translation
        assert ("%" in one) == bool(re.search(r"%(?!%?p)", other.replace("%%p", ""))), translation


def test_a_translation_can_be_filled_in():
    """By `%` what comes from the template, else by `str.format`."""
    for message, translation in pairs():
        if message in TEMPLATE:
            filled = translation % dict.fromkeys(re.findall(r"%\((\w+)\)s", message), "x")
        else:
            names = [name for _, name, _, _ in string.Formatter().parse(message) if name]
            filled = translation.format(**dict.fromkeys(names, "x"))
        assert not re.search(r"%%|%\(|[{}]", filled), translation


def ablation():
    config = ablation_config(tuple(INGREDIENTS))
    settings = {key: config[key] for key in ("pruning", "methods", "variants")}
    return ablation_results(config), ablation_values(config), settings


def curve():
    regimes = {f"epochs_{n}": {"vgg16": n} for n in (1, 2, 4, 8)}
    values = [
        value | {"epochs": n} for n in (1, 2, 4, 8) for value in metrics(regimes={LEAST: VGG})
    ]
    return results(regimes=regimes, values=values)


DECLARED = {
    "bn_helps": {
        "statement": "Mine.",
        "more": {"accuracy": "sparsegpt_bn", "model": "vgg16"},
        "than": {"accuracy": "sparsegpt", "model": "resnet18"},
    },
    "gains": {
        "statement": "Mine too.",
        "more": {"gain": ["sparsegpt", "magnitude"]},
        "than": {"gain": ["sparsegpt_bn", "magnitude"]},
    },
    "drops": {
        "statement": "And this.",
        "more": {"drop": "magnitude"},
        "than": {"drop": "sparsegpt"},
    },
}


def studies():
    full, values, settings = ablation()
    yield "three seeds", {"table": results(), "measured": diagnostics(results())}
    yield "claims of its own", {"table": results(), "declared": DECLARED}
    yield "one seed, as published", {"table": published_results()}
    two = results(seeds=(0, 1))
    yield "two seeds", {"table": two, "measured": diagnostics(two)}
    one = results(seeds=(0,), regimes={LEAST: VGG}, variants=("sparsegpt",))
    yield "one of all", {"table": one, "measured": diagnostics(one)}
    short = results(regimes={LEAST: BUDGETS[LEAST]})
    yield "one regime", {"table": short, "measured": diagnostics(short)}
    yield "nothing to compare", {"table": results(variants=("sparsegpt_bn",))}
    chance = [value | {"top1": 10.0 + 0.01 * value["seed"]} for value in metrics()]
    yield "at chance", {"table": results(values=chance)}
    yield "an ablation", {"table": full, "values": values, "settings": settings}
    config = waterfall_config()
    stepped = {"table": ablation_results(config, (0, 1)), "settings": config}
    yield "a waterfall", stepped | {"values": ablation_values(config, (0, 1))}
    config = sweep_config()
    swept, values = sweep_results(config, (0, 1)), sweep_values(config, (0, 1))
    yield "a sweep of patterns", {"table": swept, "values": values, "settings": config}
    many = curve()
    yield "a curve", {"table": many, "measured": diagnostics(many)}


STUDIES = dict(studies())


@functools.cache
def both_reports(name):
    return report(**STUDIES[name]), report(**STUDIES[name], language="ko")


@pytest.fixture(params=STUDIES)
def both(request):
    """The report of a study in English and in Korean."""
    return both_reports(request.param)


def test_the_numbers_are_the_same_in_both_languages(both):
    english, korean = (text.split("\n## ") for text in both)
    assert len(english) == len(korean) == (12 if "figures/waterfall.svg" in both[0] else 11)
    for one, other in zip(english, korean, strict=True):
        assert Counter(NUMBER.findall(one)) == Counter(NUMBER.findall(other))


def test_the_tables_have_the_same_numbers_in_the_same_cells(both):
    english, korean = (
        [re.findall(r"[^|]+", line) for line in text.splitlines() if line.startswith("|")]
        for text in both
    )
    assert len(english) == len(korean)
    for one, other in zip(english, korean, strict=True):
        assert [NUMBER.findall(cell) for cell in one] == [NUMBER.findall(cell) for cell in other]


@pytest.fixture(scope="module")
def untranslated(extracted):
    """The texts that are the same in Korean."""
    with speaking(KOREAN):
        forms = {f for m in extracted for f in (m if isinstance(m, tuple) else (m,))}
        return {form for form in forms if gettext(form) == form}


def test_no_english_sentence_is_left(both, extracted, untranslated):
    _, korean = both
    words = CODE.sub("", korean.partition("```yaml")[0])
    for message in extracted:
        for form in message if isinstance(message, tuple) else (message,):
            if len(re.sub(PLACEHOLDER, "", form)) < 12 or form in untranslated:
                continue
            pieces = PLACEHOLDER.split(CODE.sub("", form.replace("%%", "%")).strip())
            if all(piece in words for piece in pieces):  # else the slower search is in vain
                assert not re.search(".{1,80}?".join(map(re.escape, pieces)), words), form


def test_sentences_are_korean(both):
    """Outside of code, tables and names, a line has no run of English words."""
    _, korean = both
    for line in CODE.sub("", korean.partition("```yaml")[0]).splitlines():
        if not line.startswith(("|", "[", "#")) and "Mine" not in line and "this." not in line:
            run = re.search(r"\b(?:the|of|and|with|is|are|in|for)\b", line)
            assert not run, line


def test_the_links_of_the_contents_lead_to_headings(both):
    for text in both:
        headings = [anchor(h) for h in re.findall(r"^#+ (.*)", text, re.MULTILINE)]
        links = re.findall(r"\]\(#([^)]+)\)", text)
        assert len(links) == (11 if "figures/waterfall.svg" in text else 10)
        assert set(links) <= set(headings)


def test_anchors_are_those_of_github():
    assert anchor("Run it again") == "run-it-again"
    assert anchor("참조 연구와의 비교") == "참조-연구와의-비교"
    assert anchor("1. What's `new_ones`, (x-y)?") == "1-whats-new_ones-x-y"


def test_each_report_links_to_the_other(both):
    english, korean = both
    assert english.splitlines()[2] == "[한국어](report.ko.md)"
    assert korean.splitlines()[2] == "[English](report.md)"


def test_a_language_is_spoken_within_its_block_alone():
    with speaking(KOREAN):
        assert gettext("reproduced") == "재현됨"
        with speaking(None):
            assert gettext("reproduced") == "reproduced"
        assert ngettext("Seed %(seeds)s.", "Seeds %(seeds)s.", 1) == "시드 %(seeds)s."
        assert gettext("not in the catalogue") == "not in the catalogue"
    assert gettext("reproduced") == "reproduced"
    assert ngettext("Seed", "Seeds", 2) == "Seeds"


def test_what_a_study_says_of_itself_is_not_translated():
    declared = {"method": {"statement": "reproduced", **DECLARED["drops"]}}
    declared["method"]["statement"] = "Method"
    text = report(results(), declared=declared, language="ko")
    assert "### 6. Method: 재현됨" in text
    assert "본 연구의 주장: Method\n" in text
    assert (
        "변형 magnitude의 정확도 저하에서 변형 sparsegpt의 정확도 저하를 뺀 값은 "
        "비교 6개 중 6개에서 양수" in text
    )


def test_hangul_is_padded_by_the_columns_it_takes():
    assert table(pd.DataFrame([["a", "1.50"]], columns=["이름", "x"])).splitlines() == [
        "| 이름   |    x |",
        "|:-------|-----:|",
        "| a      | 1.50 |",
    ]
