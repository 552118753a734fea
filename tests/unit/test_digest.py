import shutil
from pathlib import Path

import pytest

import sparsecnn
from sparsecnn.digest import CodeDigest, canonical_code

PACKAGE = Path(sparsecnn.__file__).parent
SCRIPTS = PACKAGE.parents[1] / "scripts"

METHODS = "sparsecnn.pruning.methods"
JOBS = {
    "train resnet18": ("train.py", ["sparsecnn.models.resnet"]),
    "train vgg16": ("train.py", ["sparsecnn.models.vgg"]),
    "calibrate": ("calibrate.py", []),
    "prune magnitude": ("prune.py", ["sparsecnn.models.vgg", f"{METHODS}.magnitude"]),
    "prune sparsegpt": ("prune.py", ["sparsecnn.models.vgg", f"{METHODS}.sparsegpt"]),
    "evaluate": ("evaluate.py", ["sparsecnn.models.vgg"]),
    "report": ("report.py", []),
}
ALL = set(JOBS)


def digests(root):
    digest = CodeDigest(root / "scripts", root / "src" / "sparsecnn")
    return {job: digest.of(script, modules) for job, (script, modules) in JOBS.items()}


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "src" / "sparsecnn")
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("src/sparsecnn/pruning/methods/magnitude.py", {"prune magnitude"}),
        ("src/sparsecnn/pruning/methods/sparsegpt.py", {"prune sparsegpt"}),
        ("src/sparsecnn/pruning/layer.py", {"prune magnitude", "prune sparsegpt"}),
        ("src/sparsecnn/models/resnet.py", {"train resnet18"}),
        ("src/sparsecnn/training/loop.py", {"train resnet18", "train vgg16"}),
        ("src/sparsecnn/evaluation/accuracy.py", {"evaluate"}),
        ("src/sparsecnn/report/markdown.py", {"report"}),
        ("src/sparsecnn/data/calibration.py", {"calibrate", "prune magnitude", "prune sparsegpt"}),
        ("src/sparsecnn/registry.py", set()),
        ("src/sparsecnn/__init__.py", set()),
        ("src/sparsecnn/pruning/__init__.py", {"prune magnitude", "prune sparsegpt"}),
        ("src/sparsecnn/data/__init__.py", ALL - {"report"}),
        ("src/sparsecnn/artifacts.py", ALL),
        ("scripts/calibrate.py", {"calibrate"}),
    ],
)
def test_an_edit_changes_the_jobs_that_run_it(tree, file, changed):
    before = digests(tree)
    path = tree / file
    path.write_text(path.read_text() + "\nEDITED = 1\n")
    after = digests(tree)
    assert {job for job in JOBS if before[job] != after[job]} == changed


def test_comments_docstrings_and_formatting_do_not_count(tree):
    before = digests(tree)
    for path in tree.rglob("*.py"):
        path.write_text("# a comment\n" + path.read_text().replace("\n\n\n", "\n\n\n\n"))
    assert digests(tree) == before
    assert canonical_code('def f(a):\n    """Say."""\n    return (a)') == canonical_code(
        "def f(a): return a  # done"
    )
    assert canonical_code("def f(a): return a") != canonical_code("def f(a): return -a")


def test_code_is_written_alike_by_every_python():
    # What ast.unparse and ast.dump do not: quotes, and fields that came with later versions. After
    # the width inside the format Python 3.12 finds an empty text.
    assert canonical_code("f\"{a['b']:>{c}}\"") == (
        "Module(body=[Expr(value=JoinedStr(values=[FormattedValue("
        "value=Subscript(value=Name(id='a', ctx=Load()), slice=Constant(value='b'), ctx=Load()), "
        "conversion=-1, format_spec=JoinedStr(values=[Constant(value='>'), "
        "FormattedValue(value=Name(id='c', ctx=Load()), conversion=-1)]))]))])"
    )
    assert canonical_code("def f(a): 'Say.'\nclass A: x = None, 0, 'é', ()") == (
        "Module(body=[FunctionDef(name='f', args=arguments(args=[arg(arg='a')]), body=[Pass()]), "
        "ClassDef(name='A', body=[Assign(targets=[Name(id='x', ctx=Store())], value=Tuple(elts=["
        "Constant(), Constant(value=0), Constant(value='\\xe9'), Tuple(ctx=Load())], "
        "ctx=Load()))])])"
    )
