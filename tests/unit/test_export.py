"""Networks come out as files that compute what they compute, without this project."""

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sparsecnn
from sparsecnn import prune
from sparsecnn.data.augmentation import normalize
from sparsecnn.data.dataset import Normalization
from sparsecnn.errors import UserError
from sparsecnn.evaluation.verification import PatternError, verify_pattern
from sparsecnn.export import packages, standalone
from sparsecnn.export.agreement import compare
from sparsecnn.export.building import how_to_build
from sparsecnn.export.graph import check_file, initializers, to_onnx
from sparsecnn.models.network import Architecture, build
from sparsecnn.registry import names

NORMALIZATION = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
SHAPE = (3, 32, 32)
PROPERTIES = {"classes": json.dumps(["개", "cat"])}


def pixels(count):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)


def run(data, inputs):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": inputs.numpy()})[0])


@pytest.fixture(scope="module")
def pruned():
    """A small pruned network with convolutions, batch norm and linear layers, and its layers."""
    network = build(Architecture("custom_cnn", 0.125, 10, 32))
    images = normalize(pixels(32), NORMALIZATION)
    network.train()(images)  # or batch norm would do nothing
    layers = prune(network.eval(), [images], method="magnitude", pattern="2:4").layers
    return network, [vars(layer) for layer in layers if layer.status == "pruned"]


@pytest.fixture(scope="module")
def exported(pruned):
    return to_onnx(pruned[0], SHAPE, NORMALIZATION, PROPERTIES)


def test_the_graph_normalises_pixels_of_any_number_of_images(pruned, exported):
    for count in (1, 2, 7):
        images = pixels(count)
        logits = run(exported, images.float() / 255)
        with torch.inference_mode():
            expected = pruned[0](normalize(images, NORMALIZATION))
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_without_normalisation_the_graph_takes_what_the_network_takes(pruned, exported):
    data = to_onnx(pruned[0], SHAPE, None, {})
    images = pixels(3)
    inside, outside = (
        run(exported, images.float() / 255),
        run(data, normalize(images, NORMALIZATION)),
    )
    torch.testing.assert_close(inside, outside, rtol=1e-5, atol=1e-5)
    assert compare(data, pruned[0], images, NORMALIZATION, normalizes=False).different_top1 == 0


def test_weights_are_in_the_file_as_they_are(pruned, exported):
    network, layers = pruned
    found, state = initializers(exported), network.state_dict()
    named = {name for name in state if not name.endswith("num_batches_tracked")}
    assert named <= set(found)
    assert all(torch.equal(found[name], state[name]) for name in named)
    assert len(layers) == 5
    assert set(verify_pattern(found, layers).values()) == {0.5}
    found["classifier.1.weight"] = found["classifier.1.weight"] + 1
    with pytest.raises(PatternError, match=r"classifier\.1"):
        verify_pattern(found, layers)


def test_batch_norm_stays_by_itself(exported):
    operations = [node.op_type for node in onnx.load_from_string(exported).graph.node]
    assert operations.count("Conv") == operations.count("BatchNormalization") == 4


def test_the_file_says_what_it_is_and_nothing_of_this_machine(pruned, exported):
    model = onnx.load_from_string(exported)
    assert {entry.key: entry.value for entry in model.metadata_props} == PROPERTIES
    assert [one.name for one in model.graph.input] == ["images"]
    assert [one.name for one in model.graph.output] == ["logits"]
    about = check_file(exported, pruned[0])
    assert about["producer"].startswith("sparsecnn")
    assert about["opset"] >= 18
    assert about["bytes"] == len(exported)
    assert str(Path(sparsecnn.__file__).parent).encode() not in exported
    assert b"stack_trace" not in exported


def test_a_network_and_its_file_agree(pruned, exported):
    found = compare(exported, pruned[0], pixels(600), NORMALIZATION, normalizes=True)
    assert (found.images, found.different_top1) == (600, 0)
    assert 0 < found.largest_difference < 1e-5


def altered(data, change):
    """The file after a change of the bias of its last layer."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == "classifier.4.bias":
            value = onnx.numpy_helper.to_array(tensor).copy()
            value[3] = change(value[3])
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return model.SerializeToString()


def test_a_file_of_other_weights_is_refused(pruned, exported, inputs):
    other = altered(exported, lambda value: value + 1e-3)
    with pytest.raises(UserError, match=r"weight classifier\.4\.bias .* is not the network's"):
        check_file(other, pruned[0])
    with pytest.raises(UserError, match=r"logits of 20 images some differ by 0\.001") as error:
        compare(other, pruned[0], pixels(20), NORMALIZATION, normalizes=True)
    inputs("an ONNX file of other weights", error.value)


def test_logits_that_are_not_finite_are_refused(pruned, exported):
    other = altered(exported, lambda value: float("nan"))
    with pytest.raises(UserError, match="some differ by nan"):
        compare(other, pruned[0], pixels(4), NORMALIZATION, normalizes=True)


class Cancelling(nn.Module):
    """Logits that are small sums of large numbers, of which float32 leaves two digits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.many, self.few = nn.Linear(3 * 32 * 32, 512), nn.Linear(1024, 5)
        half = 1e4 * torch.randn(5, 512)
        self.few.weight.data = torch.cat([half, -half], dim=1)

    def forward(self, images):
        hidden = self.many(images.flatten(1))
        return self.few(torch.cat([hidden, hidden], dim=1))


def test_what_float32_leaves_of_logits_is_no_error_of_the_file():
    network, images = Cancelling().eval(), pixels(20)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    data = to_onnx(network, images.shape[1:], NORMALIZATION, {})
    found = compare(data, network, images, NORMALIZATION, normalizes=True)
    assert 1e-4 < found.largest_difference <= found.tolerance < 1
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert all(p.dtype == torch.float32 for p in network.parameters())
    with torch.no_grad():
        network.few.bias[0] += 10 * found.tolerance
    with pytest.raises(UserError, match="does not compute what the network does"):
        compare(data, network, images, NORMALIZATION, normalizes=True)


def test_a_truncated_file_is_refused(pruned, exported):
    for data in (exported[: len(exported) // 2], b"no graph"):
        with pytest.raises(UserError, match="no valid ONNX"):
            check_file(data, pruned[0])


class Named(nn.Module):
    """Has a weight of the name that torch gives to the result of an operation."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(3))
        self.fc = nn.Linear(3, 4)

    def forward(self, images):
        return self.fc(images.mean((2, 3)) + self.mean)


class OfTwo(nn.Module):
    """Takes two images at a time alone."""

    def forward(self, images):
        return images.flatten(2).reshape(2, -1)


def test_a_weight_may_have_the_name_of_a_result():
    network = Named().eval()
    data = to_onnx(network, SHAPE, None, {})
    check_file(data, network)
    assert {"mean", "fc.weight"} <= set(initializers(data))
    assert compare(data, network, pixels(5), NORMALIZATION, normalizes=False).images == 5


def test_a_network_that_torch_cannot_express_is_one_line(inputs):
    with pytest.raises(UserError, match="torch cannot express the network as ONNX") as error:
        to_onnx(OfTwo().eval(), SHAPE, None, {})
    assert "\n" not in str(error.value)
    inputs("export of a network that takes two images at a time alone", error.value)


def test_more_weights_than_a_file_holds_are_refused():
    with torch.device("meta"):
        network = nn.Linear(2**15, 2**14)
    with pytest.raises(UserError, match=r"has 2\.0 GiB of weights"):
        to_onnx(network, SHAPE, None, {})


def test_a_missing_package_is_one_line(monkeypatch, inputs):
    packages.require_packages()
    monkeypatch.setattr(packages, "PACKAGES", ("onnx", "onnx_that_is_not_there"))
    with pytest.raises(UserError, match="pip install onnx_that_is_not_there`") as error:
        packages.require_packages()
    inputs("export without its packages", error.value)


@pytest.fixture(params=names("model"))
def built(request):
    """The settings of a network of this project, and the network."""
    architecture = {"model": request.param, "width": 0.125, "num_classes": 7, "image_size": 32}
    return architecture, build(Architecture(**architecture)).eval()


def test_a_network_of_this_project_comes_with_its_source(built):
    architecture, network = built
    construction = how_to_build(architecture)
    assert construction.builder.startswith("sparsecnn.models.")
    assert "from sparsecnn" not in construction.source
    namespace = {"__name__": "network"}
    exec(construction.source, namespace)
    other = namespace[construction.function](**construction.arguments).eval()
    other.load_state_dict(network.state_dict())
    images = normalize(pixels(4), NORMALIZATION)
    with torch.inference_mode():
        assert torch.equal(other(images), network(images))


AFTER = """
import sys, torch
assert not any(name.startswith("sparsecnn") for name in sys.modules)
images = safetensors.torch.load_file("images.safetensors")["images"]
with torch.inference_mode():
    safetensors.torch.save_file({"logits": model(images)}, "logits.safetensors")
"""


def test_three_lines_load_a_network_where_this_project_is_not(tmp_path):
    architecture = {"model": "resnet18", "width": 0.125, "num_classes": 7, "image_size": 32}
    network = build(Architecture(**architecture)).eval()
    construction = how_to_build(architecture)
    images = normalize(pixels(4), NORMALIZATION)
    save_file({"images": images}, tmp_path / "images.safetensors")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "network.py").write_text(construction.source)
    lines = construction.loading("model.safetensors")
    assert len(lines.splitlines()) == 3
    # Without PYTHONPATH, and with the present folder first, as a prompt has it.
    program = f"import sys; sys.path.insert(0, '')\n{lines}{AFTER}"
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)
    with torch.inference_mode():
        logits = load_file(tmp_path / "logits.safetensors")["logits"]
        torch.testing.assert_close(logits, network(images))


OWN = """
from torch import nn

def small(num_classes, channels):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(channels, num_classes),
    )
"""


def test_a_network_of_the_users_own_file_comes_with_that(tmp_path):
    file = tmp_path / "my_nets.py"
    file.write_text(OWN)
    sizes = {"model": "mine", "width": 1.0, "num_classes": 5, "image_size": 32}
    architecture = sizes | {"builder": f"{file}:small", "arguments": {"channels": 6}}
    construction = how_to_build(architecture)
    assert construction.arguments == {"num_classes": 5, "channels": 6}
    assert "network.small(num_classes=5, channels=6)" in construction.loading("w")
    assert construction.source == OWN
    file.unlink()
    with pytest.raises(UserError, match=r"there is no file .*my_nets\.py"):
        how_to_build(architecture)


def test_a_network_of_a_package_is_imported_from_there(tmp_path):
    sizes = {"model": "mine", "width": 1.0, "num_classes": 5, "image_size": 32}
    builder = {"builder": "torchvision.models:squeezenet1_1", "arguments": {"dropout": 0.1}}
    construction = how_to_build(sizes | builder)
    assert construction.builder == "torchvision.models:squeezenet1_1"
    namespace = {}
    exec(construction.source, namespace)
    network = namespace[construction.function](**construction.arguments)
    assert network.classifier[1].out_channels == 5


def test_one_file_holds_what_is_needed_each_after_what_it_needs(tmp_path, monkeypatch):
    (tmp_path / "parts.py").write_text(
        "import math\nfrom os import path as place, sep\n\n"
        "SIZE: int = 3\nOTHER = 4\n\n"
        "class Base:\n    pass\n\n"
        "# of two kinds\n@place.normpath\ndef named():\n    return math.pi, SIZE, again()\n\n"
        "def again():\n    return named, Base\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert standalone.standalone("parts", "named") == (
        "from os import path as place\nimport math\n\n\n"
        "SIZE: int = 3\n\n\n"
        "class Base:\n    pass\n\n\n"
        "def again():\n    return named, Base\n\n\n"
        "@place.normpath\ndef named():\n    return math.pi, SIZE, again()\n"
    )


def test_one_name_of_two_things_is_refused(tmp_path, monkeypatch):
    (tmp_path / "first.py").write_text("from second import g\nK = 1\ndef f(): return g, K\n")
    (tmp_path / "second.py").write_text("K = 2\ndef g(): return K\n")
    monkeypatch.syspath_prepend(tmp_path)
    gathered = standalone._Gathered()
    gathered.add("second", "g")
    with pytest.raises(UserError, match=re.escape("K is one thing by second and another by first")):
        gathered.add("first", "K")
    with pytest.raises(UserError, match="there is no source"):
        standalone.standalone("module_that_is_not_there", "f")
