"""What the job that prunes shows to the network."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import sparsecnn
from sparsecnn.artifacts import Manifest
from sparsecnn.data.calibration import CalibrationSet, augmented_batches, batches
from sparsecnn.data.dataset import Normalization

SCRIPT = Path(sparsecnn.__file__).parents[2] / "scripts" / "prune.py"
CPU = torch.device("cpu")
TRAINING = {"crop_padding": 2, "horizontal_flip": True, "cutout": 0, "batch_size": 4}
IMAGES = CalibrationSet(
    torch.arange(6 * 3 * 64).remainder(251).to(torch.uint8).view(6, 3, 8, 8),
    torch.arange(6),
    Normalization((0.5,) * 3, (0.25,) * 3),
)


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Call with the settings of a variant and of the training: the batches, and the options."""
    spec = importlib.util.spec_from_file_location("script_prune", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def call(pruning, training):
        given = {}

        def prune(model, batches, **options):
            given.update(batches=batches, options=options)
            return SimpleNamespace(masks={}, layers=[], seconds=0.0)

        dense = Manifest("dense", {"seed": 3, **training}, "c")
        monkeypatch.setattr(script, "read_network", lambda *_: (nn.Linear(2, 2), dense))
        monkeypatch.setattr(
            script, "load_calibration", lambda *_: (IMAGES, Manifest("calibration", {}, "c"))
        )
        monkeypatch.setattr(script, "prune", prune)
        monkeypatch.setattr(script, "write_table", lambda *_: "hash")
        files = [tmp_path / name for name in ("dense", "calibration", "pruned", "layers.csv")]
        origins = dict.fromkeys(("dense", "calibration"))
        script.main(*files, {"pruning": pruning}, "c", origins, "cpu")
        return given["batches"], given["options"]

    return call


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("augmented", [None, False, True])
def test_images_are_altered_where_it_is_asked_for_and_known_how(shown, augmented, trained):
    pruning = {"method": "wanda", "bn_recalibration": False}
    pruning |= {} if augmented is None else {"augmented_calibration": augmented}
    found, options = shown(pruning, {"training": TRAINING} if trained else {})
    assert options == {"method": "wanda"}
    plain = batches(IMAGES, 256, CPU)
    altered = augmented_batches(IMAGES, 256, CPU, 3, crop_padding=2, horizontal_flip=True, cutout=0)
    assert not torch.equal(plain[0], altered[0])
    expected = altered if augmented and trained else plain
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
