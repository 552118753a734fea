import pytest
import torch

from sparsecnn.errors import UserError
from sparsecnn.models.layers import scaled
from sparsecnn.models.network import Architecture, build
from sparsecnn.registry import names

# custom_cnn: 3x3 convolutions 3-64-64-128-128 with bias and batch norm, 8192-256-10.
CUSTOM_CNN = (
    (27 * 64 + 64)
    + (576 * 64 + 64)
    + (576 * 128 + 128)
    + (1152 * 128 + 128)
    + 2 * (64 + 64 + 128 + 128)
    + (8192 * 256 + 256)
    + (256 * 10 + 10)
)
VGG_FEATURES = 14_723_136  # as torchvision's vgg16_bn().features
VGG_CLASSIFIER = (512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 10 + 10)


def parameter_count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("custom_cnn", CUSTOM_CNN),
        ("vgg16", VGG_FEATURES + VGG_CLASSIFIER),
        ("resnet18", 11_173_962),
    ],
)
def test_parameter_count_at_full_width(name, expected):
    assert parameter_count(build(Architecture(name, 1.0, 10, 32))) == expected


def test_vgg_features_are_torchvisions():
    torchvision = pytest.importorskip("torchvision")
    ours = build(Architecture("vgg16", 1.0, 10, 32)).features
    theirs = torchvision.models.vgg16_bn().features
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]


@pytest.mark.parametrize("name", names("model"))
@pytest.mark.parametrize("width", [0.125, 0.3])
def test_width_scales_every_network_and_keeps_its_shape(name, width):
    model = build(Architecture(name, width, 7, 32))
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(c.out_channels % 8 == 0 for c in convolutions)
    assert parameter_count(model) < parameter_count(build(Architecture(name, 1.0, 7, 32)))


def test_resnet_takes_larger_images_and_halves_three_times():
    model = build(Architecture("resnet18", 0.125, 10, 64)).eval()
    assert model.blocks(torch.zeros(1, 8, 64, 64)).shape == (1, 64, 8, 8)


def test_equal_seeds_give_equal_weights_and_leave_the_generator_alone():
    architecture = Architecture("custom_cnn", 0.125, 10, 32)
    state = torch.random.get_rng_state()
    first, again, other = (build(architecture, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_impossible_shapes_are_refused():
    with pytest.raises(UserError, match="divisible by 4"):
        build(Architecture("custom_cnn", 1.0, 10, 30))
    with pytest.raises(UserError, match="32 or more"):
        build(Architecture("vgg16", 1.0, 10, 16))
    with pytest.raises(UserError, match="width must be positive"):
        scaled(64, 0)
    with pytest.raises(UserError, match="choose one of custom_cnn, vgg16, resnet18"):
        build(Architecture("resnet19", 1.0, 10, 32))
