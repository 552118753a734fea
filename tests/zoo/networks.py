"""The networks of the zoo: one of every family of torchvision, and thirty of timm.

All have random weights and few classes. What would take longer than some seconds to prune is
narrower or shorter than its namesake, with all kinds of layers that this has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import timm
import torch
from timm.models import byoanet, byobnet
from timm.models.byobnet import ByobNet, ByoModelCfg
from timm.models.convmixer import ConvMixer
from timm.models.metaformer import GroupNorm1, MetaFormer
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.vgg import make_layers

CLASSES = 8


@dataclass(frozen=True)
class Network:
    """How to make a network."""

    library: str
    name: str
    make: Callable[[], nn.Module]
    size: int = 64
    """Height and width of its images."""
    batch: int = 8
    """Images in each of its two calibration batches. More of them, or larger ones, where what
    fewer teach is a matter of luck."""
    changed: str = ""
    """What sets it apart from the network that the library calls so."""


def build(network: Network) -> nn.Module:
    """The network, of equal weights whenever it is built, in eval mode."""
    torch.manual_seed(0)
    model = network.make()
    _waken(model)
    _measure_batchnorm(model, images(network.size, 16, seed=1))
    return model.eval()


def images(size: int, count: int, seed: int) -> Tensor:
    """Random images: coarse spots, by which they differ even when averaged, and noise."""
    generator = torch.Generator().manual_seed(seed)
    spots = torch.randn(count, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(spots, size=(size, size), mode="bilinear")
    return smooth + 0.3 * torch.randn(count, 3, size, size, generator=generator)


def _waken(model: nn.Module) -> None:
    """Give a part in the output to what begins as (next to) nothing: scales, zero weights.

    Training would; random, they would hide from the output what pruning does to a branch.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            low, high = parameter.aminmax()
            if name.endswith("bias") or low != high or abs(high) > 0.1:
                continue
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.ones_(parameter)


def _measure_batchnorm(model: nn.Module, batch: Tensor) -> None:
    """Scale each batch norm's inputs by one number, by which nothing explodes or dies out.

    With a mean and a variance for each channel a random network is chaotic: the least change
    grows from layer to layer until the outputs say nothing about its size.
    """

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.running_mean.zero_()
        norm.running_var.fill_(inputs[0].square().mean())

    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        model.eval()(batch)
    for handle in handles:
        handle.remove()


def _torchvision(name: str, *, size: int = 64, **settings: Any) -> Network:
    make = partial(models.get_model, name, num_classes=CLASSES, **settings)
    return Network("torchvision", name, make, size)


def _timm(name: str, *, size: int = 64, **settings: Any) -> Network:
    make = partial(timm.create_model, name, num_classes=CLASSES, **settings)
    changed = [f"{key} {value}" for key, value in settings.items() if key != "img_size"]
    return Network("timm", name, make, size, changed=", ".join(changed))


def _alexnet() -> nn.Module:
    return _with_narrow_head(models.alexnet(), 256)


def _convnext() -> nn.Module:
    widths = (32, 64, 128, 256)
    settings = [
        CNBlockConfig(width, after, 2)
        for width, after in zip(widths, [*widths[1:], None], strict=True)
    ]
    return models.ConvNeXt(settings, num_classes=CLASSES)


def _densenet() -> nn.Module:
    return models.DenseNet(16, (6, 12, 24, 16), 32, num_classes=CLASSES)


def _efficientnet_v2() -> nn.Module:
    settings = [
        FusedMBConvConfig(1, 3, 1, 16, 16, 1),
        FusedMBConvConfig(4, 3, 2, 16, 32, 2),
        MBConvConfig(4, 3, 2, 32, 64, 2),
        MBConvConfig(6, 3, 1, 64, 96, 2),
        MBConvConfig(6, 3, 2, 96, 128, 2),
    ]
    return models.EfficientNet(settings, dropout=0.2, last_channel=512, num_classes=CLASSES)


def _maxvit() -> nn.Module:
    return models.MaxVit((56, 56), 32, 7, [32, 64], [2, 2], 16, 0.2, num_classes=CLASSES)


def _inception_v3() -> nn.Module:
    model = models.inception_v3(num_classes=CLASSES, init_weights=False)
    model.Mixed_7b = model.Mixed_7c = nn.Identity()
    model.fc = nn.Linear(1280, CLASSES)
    return model


def _resnet(
    block: type[BasicBlock | Bottleneck], layers: list[int], stages: int = 3, **settings: Any
) -> nn.Module:
    """Of its first stages alone: the last of four has three quarters of the weights."""
    model = models.ResNet(block, layers, **settings)
    for stage in range(stages + 1, 5):
        setattr(model, f"layer{stage}", nn.Identity())
    model.fc = nn.Linear(32 * 2**stages * block.expansion, CLASSES)
    return model


def _swin(**settings: Any) -> nn.Module:
    return models.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=32,
        depths=[2, 2, 2],
        num_heads=[2, 4, 8],
        window_size=[4, 4],
        num_classes=CLASSES,
        **settings,
    )


def _vgg() -> nn.Module:
    widths: list[str | int] = [16, "M", 32, "M", 64, 64, "M", 128, 128, "M", 128, 128, "M"]
    return _with_narrow_head(models.VGG(make_layers(widths, batch_norm=True)), 128)


def _vit() -> nn.Module:
    return models.VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=4,
        num_heads=4,
        hidden_dim=128,
        mlp_dim=512,
        num_classes=CLASSES,
    )


def _with_narrow_head(model: nn.Module, width: int) -> nn.Module:
    """Pooled to one pixel and with hidden layers of 256, instead of some 50 million weights."""
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    inputs: Sequence[int] = (width, 256, 256)
    outputs: Sequence[int] = (256, 256, CLASSES)
    sizes = iter(zip(inputs, outputs, strict=True))
    for index, layer in enumerate(model.classifier):
        if isinstance(layer, nn.Linear):
            model.classifier[index] = nn.Linear(*next(sizes))
    return model


def _convmixer() -> nn.Module:
    return ConvMixer(dim=128, depth=6, kernel_size=7, patch_size=7, num_classes=CLASSES)


def _byobnet(settings: ByoModelCfg) -> nn.Module:
    """Half as wide, and no stage of more than four blocks."""
    stages = [stage if isinstance(stage, tuple) else (stage,) for stage in settings.blocks]
    blocks = [tuple(replace(b, c=b.c // 2, d=min(b.d, 4)) for b in stage) for stage in stages]
    return ByobNet(replace(settings, blocks=tuple(blocks)), num_classes=CLASSES)


def _poolformer() -> nn.Module:
    return MetaFormer(
        depths=(2, 2, 2, 2),
        dims=(32, 64, 128, 192),
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        norm_layers=GroupNorm1,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
        num_classes=CLASSES,
    )


LIST = [
    Network("torchvision", "alexnet", _alexnet, changed="hidden layers of 256"),
    Network("torchvision", "convnext", _convnext, changed="widths 32 to 256, depths 2"),
    Network("torchvision", "densenet121", _densenet, changed="half the width"),
    _torchvision("efficientnet_b0"),
    Network("torchvision", "efficientnet_v2", _efficientnet_v2, changed="9 blocks"),
    _torchvision("googlenet", init_weights=False),
    Network(
        "torchvision",
        "inception_v3",
        _inception_v3,
        size=75,
        changed="without its last two blocks",
    ),
    Network("torchvision", "maxvit", _maxvit, size=56, changed="widths 32 and 64, depths 2"),
    _torchvision("mnasnet0_5"),
    _torchvision("mobilenet_v2"),
    _torchvision("mobilenet_v3_small", size=128),
    _torchvision("regnet_y_400mf"),
    Network(
        "torchvision",
        "resnet18",
        partial(_resnet, BasicBlock, [2, 2, 2, 0]),
        changed="without its last stage",
    ),
    Network(
        "torchvision",
        "resnext50_32x4d",
        partial(_resnet, Bottleneck, [2, 2, 2, 0], groups=32, width_per_group=4),
        changed="six blocks",
    ),
    Network(
        "torchvision",
        "wide_resnet50_2",
        partial(_resnet, Bottleneck, [3, 4, 0, 0], stages=2, width_per_group=128),
        changed="without its last two stages",
    ),
    _torchvision("shufflenet_v2_x0_5"),
    _torchvision("squeezenet1_1"),
    Network("torchvision", "swin", _swin, changed="widths 32 to 128, depths 2"),
    Network(
        "torchvision",
        "swin_v2",
        partial(_swin, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        changed="widths 32 to 128, depths 2",
    ),
    Network("torchvision", "vgg11_bn", _vgg, changed="widths 16 to 128, hidden layers of 256"),
    Network("torchvision", "vit", _vit, changed="width 128, depth 4"),
    _timm("beit_base_patch16_224", img_size=64, embed_dim=192, depth=4, num_heads=3),
    _timm("cait_xxs24_224", img_size=64, depth=4),
    _timm("coat_tiny", img_size=64, parallel_depth=2),
    Network("timm", "convmixer", _convmixer, changed="dim 128, depth 6"),
    _timm("crossvit_tiny_240", depth=((1, 2, 0), (1, 2, 0))),
    _timm("cs3darknet_s"),
    _timm("deit_tiny_distilled_patch16_224", img_size=64, depth=4),
    _timm("dla46_c"),
    _timm("edgenext_xx_small"),
    _timm("efficientformerv2_s0", img_size=64),
    _timm("efficientvim_m1"),
    _timm("eva02_tiny_patch14_224", img_size=56, size=56, depth=4),
    _timm("ghostnet_050"),
    _timm("gmlp_ti16_224", img_size=64),
    _timm("hrnet_w18_small"),
    Network(
        "timm",
        "lambda_resnet26t",
        partial(_byobnet, byoanet.model_cfgs["lambda_resnet26t"]),
        changed="half the width",
    ),
    _timm("levit_128s", img_size=64),
    _timm("mobilevit_xxs", size=96),
    _timm("nf_regnet_b0"),
    _timm("pit_ti_224", img_size=64),
    Network(
        "timm", "poolformer", _poolformer, size=128, batch=64, changed="dims 32 to 192, depths 2"
    ),
    Network(
        "timm",
        "repvgg_a0",
        partial(_byobnet, byobnet.model_cfgs["repvgg_a0"]),
        changed="half the width, 11 blocks",
    ),
    _timm("resnest14d", channels=(32, 64, 128, 256)),
    _timm("resnetv2_50x1_bit"),
    _timm("rexnet_100"),
    _timm(
        "sequencer2d_s",
        layers=(1, 1, 1, 1),
        embed_dims=(48, 96, 96, 96),
        hidden_sizes=(12, 24, 24, 24),
    ),
    _timm("skresnet18", channels=(16, 32, 64, 128)),
    _timm("tf_efficientnet_lite0"),
    _timm("tresnet_m", layers=(1, 1, 2, 1), width_factor=0.25),
    _timm("xcit_nano_12_p16_224", depth=4),
]

NETWORKS = {f"{network.library}-{network.name}": network for network in LIST}
