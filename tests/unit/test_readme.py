import re
from pathlib import Path

import sparsecnn

ROOT = Path(sparsecnn.__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_library_example_runs_as_printed(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    scope = {}
    exec(compile(example, "README.md", "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(scope["result"].layers) > 40
    assert "features.0.0 dense 3 input channels per group are not a multiple of 4" in printed[0]
    pruned = [layer for layer in scope["result"].layers if layer.status == "pruned"]
    assert min(layer.sparsity for layer in pruned) == 0.5


def test_every_study_is_listed_and_every_path_exists():
    for study in (ROOT / "studies").glob("*.yaml"):
        assert f"`studies/{study.name}`" in README
    for path in re.findall(r"`((?:src|studies|schemas|docs)/[\w./-]+)`", README):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
