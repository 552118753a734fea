"""Networks of a user's own: what builds them, and the files that their weights are in."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparsecnn.digest import canonical_code, own_code
from sparsecnn.errors import UserError
from sparsecnn.models.builders import build_own
from sparsecnn.models.network import Architecture, build, build_without_numbers
from sparsecnn.models.weights_files import load_given, read_weights
from sparsecnn.own_files import find, look_beside

NETS = """
from torch import nn
from parts import head

SIZES = [4]

class Net(nn.Sequential):
    pass

def build(num_classes, depth=1):
    blocks = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)]
    return Net(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head(num_classes))

def untold():
    return Net()

def half(num_classes):
    return "a network"

def lazy(num_classes):
    return nn.LazyLinear(num_classes)

def peeking(num_classes):
    layer = nn.Linear(3, num_classes)
    layer.weight.data *= layer.weight.abs().max().item()
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer)

def raising(num_classes):
    raise RuntimeError("no weights\\nfor this")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a user's files, beside which the configuration lies."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "parts.py").write_text(
        "from torch import nn\ndef head(n):\n    return nn.Linear(3, n)\n"
    )
    monkeypatch.setenv("SPARSECNN_BESIDE", "")
    look_beside([tmp_path / "mine.yaml"])
    return tmp_path


def own(builder="nets.py:build", **arguments):
    return Architecture("mine", 1.0, 7, 8, builder, arguments)


def test_a_file_beside_the_configuration_builds_the_network_with_the_classes_of_the_data():
    network = build(own(depth=3))
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
    assert sum(isinstance(layer, nn.Conv2d) for layer in network) == 3
    assert type(network) is type(build(own()))  # of a file that is run once


def test_equal_seeds_give_equal_weights():
    one, same, other = (build(own(), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_a_package_builds_it():
    network = build(own("torchvision.models:mobilenet_v3_small", dropout=0.5))
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_timm_builds_it_by_name():
    network = build(own("timm:create_model", model_name="resnet18", drop_rate=0.1))
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_one_that_looks_at_numbers_is_built_with_them():
    assert next(build_without_numbers(own()).parameters()).is_meta
    assert not next(build_without_numbers(own("nets.py:peeking")).parameters()).is_meta


BAD_BUILDERS = {
    "other.py:build": r"there is no file other\.py \(looked for in .*\)$",
    "nets.py:bild": r"nets\.py has no function bild \(functions there: head, build, untold",
    "nets.py:SIZES": r"nets\.py has no function SIZES",
    "no_such_package:build": r"there is no module no_such_package; is it installed\?$",
    "torchvision.models:resnet19": r"torchvision\.models has no function resnet19",
    "nets.py:untold": r"called with num_classes=7, it raises TypeError: untold\(\) got an unexp",
    "nets.py:half": r"returns a str; it has to return a torch\.nn\.Module$",
    "nets.py:lazy": r"parameter weight has no shape yet \(a lazy module\)",
    "nets.py:raising": r"it raises RuntimeError: no weights for this \(nets\.py, line 29\)$",
    "broken.py:build": r"importing it, it raises NameError: name 'undefined' is not defined \(bro",
    "missing.py:build": r"there is no module no_such_module; is it installed\?$",
}


@pytest.mark.parametrize("builder", BAD_BUILDERS)
def test_a_bad_builder_is_one_line(folder, inputs, builder):
    (folder / "broken.py").write_text("x = undefined\n")
    (folder / "missing.py").write_text("import no_such_module\n")
    with pytest.raises(UserError) as raised:
        build_own(builder, 7, {})
    line = str(raised.value)
    assert re.search(f"^builder {re.escape(builder)}: .*{BAD_BUILDERS[builder]}", line), line
    assert "\n" not in line
    inputs(f"builder {builder}", line)


def test_a_file_is_looked_for_beside_the_last_configuration_first(tmp_path, monkeypatch):
    for name in ("one", "two", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.pt").touch()
    monkeypatch.chdir(tmp_path / "here")
    look_beside([tmp_path / "one" / "a.yaml", tmp_path / "two" / "b.yaml"])
    assert find("weights.pt") == tmp_path / "two" / "weights.pt"
    (tmp_path / "two" / "weights.pt").unlink()
    assert find("weights.pt") == tmp_path / "one" / "weights.pt"
    (tmp_path / "one" / "weights.pt").unlink()
    assert find("weights.pt") == Path("weights.pt")
    assert find(str(tmp_path / "here" / "weights.pt")) == tmp_path / "here" / "weights.pt"
    assert find("absent.pt") is None


def test_the_code_of_a_builder_is_its_file_and_what_that_imports_beside_it(folder):
    package = folder / "layers"
    package.mkdir()
    (package / "__init__.py").write_text("from .conv import f\n")
    (package / "conv.py").write_text("from ..parts import head\nf = 1\n")
    (folder / "nets.py").write_text("import torch\nfrom layers import f  # why\n")
    (folder / "unused.py").write_text("1 / 0\n")
    code = own_code(folder / "nets.py")
    assert list(code) == ["layers/__init__.py", "layers/conv.py", "nets.py", "parts.py"]
    assert code["nets.py"] == canonical_code("import torch\nfrom layers import f")
    (package / "conv.py").write_text("def broken(:\n")
    with pytest.raises(UserError, match=r"conv\.py, line 1: "):
        own_code(folder / "nets.py")


# Weights


def fits(network, path):
    """Whether what is in the file is what the network has after loading it."""
    wanted = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.zero_()
    load_given(network, read_weights(path), path)
    return all(torch.equal(wanted[name], t) for name, t in network.state_dict().items())


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


WRAPPED = {
    "a state dict": lambda state: state,
    "of DataParallel": lambda state: {f"module.{name}": t for name, t in state.items()},
    "a checkpoint": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"x": [1, 2]}},
    "under model": lambda state: {"model": state, "args": {"lr": 0.1}},
    "compiled in parallel": lambda state: {
        "state_dict": {f"module._orig_mod.{name}": t for name, t in state.items()}
    },
    "nested": lambda state: {"state_dict": {"model": state}},
    "without counts of batches": lambda state: {
        name: t for name, t in state.items() if "num_batches" not in name
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_however_they_are_wrapped(tmp_path, network, kind):
    network[1].num_batches_tracked.zero_()
    torch.save(WRAPPED[kind](network.state_dict()), tmp_path / "weights.pt")
    assert fits(network, tmp_path / "weights.pt")


def test_weights_are_read_from_safetensors_too(tmp_path, network):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    assert fits(network, tmp_path / "weights.safetensors")


def test_half_precision_is_read_as_float32(tmp_path, network):
    halves = {k: t.half() if t.is_floating_point() else t for k, t in network.state_dict().items()}
    torch.save(halves, tmp_path / "weights.pt")
    load_given(network, read_weights(tmp_path / "weights.pt"), tmp_path / "weights.pt")
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert torch.equal(network[0].weight, halves["0.weight"].float())


def test_a_network_whose_names_begin_like_a_wrappers_keeps_them(tmp_path):
    network = nn.ModuleDict({"model": nn.Linear(2, 2)})
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    assert fits(network, tmp_path / "weights.pt")


def corrupted(path, network):
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:300])


def of_other_classes(path, network):
    torch.save({**network.state_dict(), "3.weight": torch.zeros(9, 4)}, path)


def of_another_network(path, network):
    torch.save({f"layer{n}.weight": torch.zeros(1) for n in range(9)}, path)


def with_nan(path, network):
    torch.save({**network.state_dict(), "3.bias": torch.tensor([0.0, torch.nan])}, path)


BAD_WEIGHTS = {
    "a whole pickled network": (
        lambda path, network: torch.save(network, path),
        "holds more than tensors and plain values",
    ),
    "a pickle of something else": (
        lambda path, network: path.write_bytes(pickle.dumps(re.compile("x"))),
        "holds more than tensors and plain values",
    ),
    "a file cut short": (corrupted, "no whole file of torch.save"),
    "an empty file": (lambda path, network: path.touch(), "no whole file of torch.save"),
    "a text": (lambda path, network: path.write_text("weights"), "no whole file of torch.save"),
    "a list of tensors": (
        lambda path, network: torch.save([torch.ones(2)], path),
        "holds a list; save model.state_dict()",
    ),
    "no tensors": (
        lambda path, network: torch.save({"epoch": 3, "best": 0.5}, path),
        "holds no state dict, alone or under state_dict, model_state_dict, model, but epoch, best",
    ),
    "another number of classes": (of_other_classes, "it has in another shape 3.weight 9x4 for 2x4"),
    "another network": (
        of_another_network,
        "it has not 0.weight, 0.bias, 1.weight, 1.bias, 1.running_mean and 3 more; it has besides "
        "layer0.weight, layer1.weight, layer2.weight, layer3.weight, layer4.weight and 4 more",
    ),
    "values that are not finite": (with_nan, "has values that are not finite in 3.bias"),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_weights_that_will_not_do_are_one_line(tmp_path, network, inputs, kind):
    write, words = BAD_WEIGHTS[kind]
    path = tmp_path / "weights.pt"
    write(path, network)
    with pytest.raises(UserError) as raised:
        load_given(network, read_weights(path), path)
    line = str(raised.value)
    assert line.startswith(f"{path}: ")
    assert words in line
    assert "\n" not in line
    inputs(f"weights: {kind}", line.replace(f"{tmp_path}/", ""))


def test_safetensors_cut_short_are_one_line(tmp_path, network):
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="no whole safetensors file"):
        read_weights(path)
