"""What docs/deploy.md says can be pasted."""

import re
from pathlib import Path

import torch
from torch import nn

import sparsecnn
from sparsecnn.pruning.patterns import NM

PAGE = (Path(sparsecnn.__file__).parents[2] / "docs/deploy.md").read_text()


def test_the_snippet_packs_the_linear_layers_that_fit_and_no_others(monkeypatch):
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    seen = []
    monkeypatch.setattr(
        torch.sparse, "to_sparse_semi_structured", lambda weight: seen.append(weight) or weight + 1
    )
    scope = {}
    exec(compile(snippet, "deploy.md", "exec"), scope)
    sparse, narrow, few, dense = (
        nn.Linear(*shape) for shape in ((32, 16), (24, 16), (32, 10), (32, 16))
    )
    for layer in (sparse, narrow, few):
        layer.weight.data *= NM(2, 4).mask(layer.weight.abs())
    before = sparse.weight.detach().clone()
    model = nn.Sequential(nn.Conv2d(16, 16, 1), sparse, narrow, few, dense)
    assert scope["pack_linear_layers"](model) == ["1"]
    assert [torch.equal(weight, before) for weight in seen] == [True]
    assert torch.equal(sparse.weight, before + 1)
    assert not sparse.weight.requires_grad


def test_every_link_is_an_address_and_every_file_named_is_there():
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    root = Path(sparsecnn.__file__).parents[2]
    for path in re.findall(r"benchmarks/\w+\.py", PAGE):
        assert (root / path).exists()
