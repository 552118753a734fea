"""Settings that images, networks or memory do not allow, and how it is said."""

import importlib.util
import logging
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

import sparsecnn
from sparsecnn.artifacts import Manifest, Origin, read_json, write_json
from sparsecnn.data.augmentation import AugmentedImages
from sparsecnn.data.calibration import draw_calibration_set
from sparsecnn.data.dataset import Dataset, Normalization, square_side, summary
from sparsecnn.data.digits import read_digits
from sparsecnn.data.holdout import hold_out
from sparsecnn.data.subset import train_sample
from sparsecnn.digest import CodeDigest
from sparsecnn.errors import UserError
from sparsecnn.models.network import Architecture, build
from sparsecnn.pruning import prune
from sparsecnn.pruning.methods import block_pruners
from sparsecnn.study import limits, memory
from sparsecnn.study.config import complete_config
from sparsecnn.study.config_files import read_config, read_schema
from sparsecnn.study.known_images import after_holdout, known_facts
from sparsecnn.study.memory import Need
from sparsecnn.study.stages import Stages
from sparsecnn.training.loop import train
from sparsecnn.training.recipe import Recipe

ROOT = Path(sparsecnn.__file__).parents[2]
PLAIN = Normalization((0.5,) * 3, (0.5,) * 3)
SMALL = {
    "models": {"custom_cnn": {"width": 0.125}, "vgg16": None, "resnet18": None},
    "calibration": {"images": 8},
    "diagnostics": {"images": 8},
}


def load_check():
    spec = importlib.util.spec_from_file_location("script_check", ROOT / "scripts/check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load_check()


def merged(base, overlay):
    both = {
        k: merged(base[k], v) for k, v in overlay.items() if isinstance(base.get(k), dict) and v
    }
    return base | overlay | both


def complete(**overlay):
    config = merged(read_config(ROOT / "config.yaml"), overlay)
    return complete_config(config, read_schema())


def refused(**overlay):
    """The lines that a configuration is refused with."""
    with pytest.raises(UserError) as error:
        complete(**overlay)
    return str(error.value).splitlines()


def dataset_of(counts, shape=(3, 16, 16)):
    """Noise: so many train images of each class, and one to test on."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    generator = torch.Generator().manual_seed(0)

    def noise(count):
        return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)

    classes = tuple(f"class {i}" for i in range(len(counts)))
    test = torch.arange(len(counts))
    return Dataset(noise(len(labels)), labels, noise(len(test)), test, classes)


def facts_of(dataset):
    return summary(dataset, PLAIN, "image_folder", "")


def run_check(tmp_path, dataset, computes="elsewhere", **overlay):
    """What `check` finds wrong with a study of local images, a line each."""
    config = complete(dataset={"name": "image_folder", "source": "x"}, **overlay)
    path = tmp_path / "dataset.json"
    write_json(path, facts_of(dataset), Manifest("dataset_summary", {}, "c", {"dataset": "d"}))
    origin = Stages(config, CodeDigest.of_this_project()).checked()
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("sparsecnn").addHandler(handler)
    settings, code = asdict(origin).values()
    try:
        arguments = (settings, code, {"dataset": Origin({}, "c")}, computes)
        check.main(path, tmp_path / "checked.json", *arguments)
    except UserError as error:
        records.append(f"error: {error}")
    finally:
        logging.getLogger("sparsecnn").removeHandler(handler)
    return records


def refusal(call, *arguments):
    """What a later stage says of it; None if it does not mind."""
    try:
        call(*arguments)
    except UserError as error:
        return str(error)
    return None


def errors(records):
    return [line.removeprefix("error: ") for line in records if line.startswith("error: ")]


def test_what_is_known_of_the_digits_is_so():
    found, known = facts_of(read_digits(None, Path())), known_facts("digits")
    assert {key: found[key] for key in known} == known
    held = facts_of(hold_out(read_digits(None, Path()), 140))
    assert {key: held[key] for key in known} == after_holdout(known, 140)


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_what_is_known_of_cifar(name, classes):
    facts = known_facts(name)
    assert len(set(facts["classes"])) == classes
    assert (facts["n_train"], facts["n_test"]) == (50_000, 10_000)
    assert facts["classes"] == sorted(facts["classes"])
    assert set(facts["class_counts"]["train"].values()) == {50_000 // classes}
    assert known_facts("image_folder") is None


@pytest.mark.parametrize(
    ("counts", "size", "balanced"),
    [
        *(([10, 10], n, b) for n in (1, 20, 21, 4000) for b in (True, False)),
        *(([3, 10, 5], n, b) for n in (9, 10, 11, 12, 18) for b in (True, False)),
        *(([4, 4, 4], n, True) for n in (10, 11, 12)),
    ],
)
def test_calibration_is_refused_where_and_as_drawing_is(counts, size, balanced):
    dataset = dataset_of(counts)
    config = {"calibration": {"images": size, "class_balanced": balanced}}
    found = limits.problems(config | {"diagnostics": None, "recipes": {}}, facts_of(dataset))
    later = refusal(draw_calibration_set, dataset, PLAIN, size, 0, balanced)
    assert found == ([later] if later else [])


@pytest.mark.parametrize("size", [1, 20, 21, 512])
def test_diagnostics_are_refused_where_and_as_sampling_is(size, inputs):
    dataset = dataset_of([10, 10])
    config = {"calibration": {"images": 8, "class_balanced": True}, "recipes": {}}
    found = limits.problems(config | {"diagnostics": {"images": size}}, facts_of(dataset))
    later = refusal(train_sample, dataset, PLAIN, size, torch.device("cpu"))
    assert found == ([f"{later}, choose 1 to 20"] if later else [])
    inputs(f"20 train images, diagnostics.images: {size}", *(found or ["it is measured"]))


@pytest.mark.parametrize("count", [1, 10, 140, 1380, 1390, 1400, 5000])
def test_a_holdout_of_the_digits_is_refused_before_any_job_as_holding_out_is(count, inputs):
    dataset = {"name": "digits", "holdout": count}
    given = {"dataset": dataset, "calibration": {"images": 8}, "diagnostics": {"images": 8}}
    later = refusal(hold_out, read_digits(None, Path()), count)
    assert refusal(lambda: complete(**given)) == later
    inputs(f"digits, dataset.holdout: {count}", later or "these are held out")


@pytest.mark.parametrize(
    ("name", "overlay", "line"),
    [
        (
            "cifar10",
            {"diagnostics": {"images": 50_001}},
            "diagnostics.images: 50001 is not possible; the train split has 50000 images, choose",
        ),
        (
            "cifar10",
            {"dataset": {"holdout": 49_990}},
            "calibration.images: 1024 is not possible; the train split has 10 images, choose 1 to",
        ),
        (
            "cifar100",
            {"dataset": {"holdout": 10_010}},
            "dataset.holdout: 10010 is not possible; with 100 classes, the smallest of 500 train",
        ),
        (
            "digits",
            {"calibration": {"images": 1400}},
            "calibration.images: 1400 is not possible with equal counts per class; class '8' has",
        ),
        (
            "digits",
            {"recipes": {"reference": {"cutout": 63}}},
            "recipes.reference.cutout: 63 is not possible; such a square hides every image of 32x",
        ),
    ],
)
def test_images_that_are_always_the_same_are_known_before_any_job(name, overlay, line, inputs):
    found = refused(**merged({"dataset": {"name": name}}, overlay))
    assert found[0].startswith(line)
    inputs(f"{name}, {overlay}", found[0])


def test_the_most_that_is_possible_is_allowed():
    complete(calibration={"images": 50_000}, diagnostics={"images": 50_000})
    complete(dataset={"name": "digits"}, calibration={"images": 1390})
    complete(dataset={"name": "digits"}, calibration={"images": 1437, "class_balanced": False})
    complete(dataset={"name": "cifar10", "holdout": 40_000}, calibration={"images": 10_000})


def test_nothing_is_said_of_images_that_nobody_knows_nor_of_recipes_that_nobody_uses():
    local = {"name": "image_folder", "source": "images.zip"}
    complete(dataset=local, calibration={"images": 10**6}, diagnostics={"images": 10**6})
    complete(recipes={"unused": {"cutout": 1000}})


def test_a_cutout_that_hides_every_image_trains_on_nothing():
    """One pixel less, and something of some images is left."""
    for side, hides in ((15, True), (14, False)):
        images = torch.full((64, 3, 8, 8), 255, dtype=torch.uint8)
        options = {"crop_padding": 0, "horizontal_flip": False, "cutout": side}
        source = AugmentedImages(images, PLAIN, torch.device("cpu"), **options)
        centres = torch.cartesian_prod(torch.arange(8), torch.arange(8))
        drawn = torch.cat([torch.zeros(64, 3, dtype=torch.int64), centres], dim=1)
        assert (source.batch(torch.arange(64), drawn) == 0).all() == hides
        recipes = {"recipes": {"r": {"cutout": side}}, "diagnostics": None}
        config = recipes | {"calibration": {"images": 1, "class_balanced": True}}
        found = limits.problems(config, facts_of(dataset_of([4, 4], (3, 8, 8))))
        assert bool(found) == hides


def test_crops_that_hold_nothing_of_their_image():
    facts = {"image_shape": [3, 8, 8], "n_train": 10}
    assert limits.hidden_crops({"crop_padding": 7}, facts) == 0
    assert limits.hidden_crops({"crop_padding": 8}, facts) == pytest.approx(1 - (15 / 17) ** 2)
    assert memory.padded_bytes({"crop_padding": 4}, facts) == 2 * 10 * 3 * 16 * 16


@pytest.mark.parametrize("count", [2, 3, 4, 20])
def test_a_batch_larger_than_the_train_split_trains(count):
    """So it is not refused: an epoch is one step of all images."""
    dataset = dataset_of([count - 1, 1], (3, 8, 8))
    model = build(Architecture("resnet18", 0.125, 2, 8))
    before = model.fc.weight.detach().clone()
    records = train(model, dataset, PLAIN, Recipe(batch_size=512), 1, 0, torch.device("cpu"))
    assert len(records) == 1
    assert not model.fc.weight.equal(before)


@pytest.mark.parametrize(
    ("variant", "line"),
    [
        (
            {"method": "exact_obs", "pattern": "50%"},
            "pattern: exact_obs prunes row by row: '50%' has to be '50% per row'",
        ),
        (
            {"method": "sparsegpt", "selection": "joint", "pattern": "8:16"},
            "selection: 'joint' tries every mask of a group, and pattern 8:16 has more than 70: "
            "use selection 'diagonal'",
        ),
        (
            {"method": "sparsegpt", "selection": "joint", "pattern": "50%"},
            "selection: 'joint' tries every mask of a group, and pattern 50% has more than 70: "
            "use selection 'diagonal'",
        ),
    ],
)
def test_what_a_method_cannot_do_is_refused_before_any_job(variant, line, inputs):
    assert refused(variants={"mine": variant}) == [f"variants.mine.{line}"]
    options = {"coverage": "all", **variant}
    with pytest.raises(UserError):  # as it would be after all training
        prune(torch.nn.Linear(32, 4), [torch.randn(64, 32)], **options)
    inputs(f"a variant of {variant}", line)


def test_what_a_method_can_do_is_allowed():
    complete(variants={"mine": {"method": "exact_obs", "pattern": "50% per row"}})
    complete(variants={"mine": {"method": "sparsegpt", "selection": "joint", "pattern": "4:8"}})
    complete(variants={"mine": {"method": "wanda", "precision": "float64"}}, device="cpu")
    assert limits._MAX_MASKS == block_pruners.MAX_MASKS
    found = refused(variants={"mine": {"method": "wanda", "precision": "float64"}}, device="mps")
    assert found[0].startswith("variants.mine.precision: MPS has no float64")


def test_a_study_that_goes_together_is_written_down(tmp_path):
    assert run_check(tmp_path, dataset_of([10, 10]), **SMALL) == []
    value, manifest = read_json(tmp_path / "checked.json", "checked")
    assert manifest.parents == {"dataset": "d"}
    assert {(need["model"], need["layer"]) for need in value["hessians"]} == {
        ("custom_cnn", "classifier.1")
    }
    takes = {need["variant"]: need["bytes"] for need in value["hessians"]}
    hessian, weight = 4 * 256**2, 4 * 32 * 256
    assert takes == {
        None: 6 * hessian,
        "imitation": 7.5 * hessian + 12 * weight,
        "sparsegpt": 2.5 * hessian + 12 * weight,
        "admm": 3.5 * hessian + 19 * weight,
        "sparsegpt_published": 2.5 * hessian + 12 * weight,
    }


def test_what_needs_no_hessian_takes_no_memory_that_matters(tmp_path):
    variants = dict.fromkeys(complete()["variants"])
    variants |= {name: {"method": name} for name in ("magnitude", "random", "wanda")}
    overlay = full_width(diagnostics=None, variants=variants)
    assert run_check(tmp_path, dataset_of([10, 10], (3, 96, 96)), "here", **overlay) == []
    value, _ = read_json(tmp_path / "checked.json", "checked")
    assert value["hessians"] == []
    variants["wanda"]["refit"] = True
    (line,) = errors(run_check(tmp_path, dataset_of([10, 10], (3, 224, 224)), "here", **overlay))
    assert "pruning (wanda) about 1,6" in line


def test_all_problems_come_at_once(tmp_path, inputs):
    models = {"vgg16": {"width": 0.125}, "resnet18": {"width": 0.125}}
    overlay = merged(SMALL, {"models": models, "diagnostics": {"images": 512}})
    overlay |= {"variants": {"wanda": {"method": "wanda", "exclude": ["fc"]}}}
    found = errors(run_check(tmp_path, dataset_of([10, 10], (3, 18, 18)), **overlay))
    assert [line.partition(";")[0] for line in found] == [
        "diagnostics.images: 512 is not possible",
        "models.custom_cnn: custom_cnn needs an image side divisible by 4, not 18",
        "models.vgg16: vgg16 halves images five times: side 32 or more, not 18",
    ]
    assert found[1].endswith(
        "scale the images, or leave the network out (models: {custom_cnn: null})"
    )
    assert not (tmp_path / "checked.json").exists()
    inputs("images of 18x18 pixels for all networks", " / ".join(found[1:]))


def test_names_of_layers_that_a_network_has_not(tmp_path, inputs):
    overlay = merged(SMALL, {"models": {"resnet18": {"width": 0.125}}})
    variants = {"mine": {"method": "wanda", "exclude": ["fc"]}}
    found = errors(run_check(tmp_path, dataset_of([10, 10]), **overlay, variants=variants))
    assert len(found) == 1
    assert found[0].startswith("variants.mine: custom_cnn: exclude='fc' matches no module")
    inputs("exclude: [fc], which custom_cnn has not", found[0])
    variants = {"mine": {"method": "wanda", "include": ["head"]}}
    found = errors(run_check(tmp_path, dataset_of([10, 10]), **overlay, variants=variants))
    assert [line[:42] for line in found] == [
        "variants.mine: custom_cnn: include='head' ",
        "variants.mine: resnet18: include='head' ma",
    ]


def test_images_that_are_not_square_are_refused_as_training_does(tmp_path):
    dataset = dataset_of([10, 10], (3, 16, 20))
    with pytest.raises(UserError) as error:
        square_side(dataset.train_images)
    assert errors(run_check(tmp_path, dataset, **SMALL)) == [str(error.value)]


def test_a_single_image_has_no_batch_norm_statistics_where_maps_are_one_pixel(tmp_path):
    models = {"custom_cnn": None, "resnet18": {"width": 0.125}}
    overlay = SMALL | {"models": {"vgg16": None} | models, "calibration": {"images": 1}}
    for side, refused_variants in ((8, {"magnitude_bn"}), (16, set())):
        found = errors(run_check(tmp_path, dataset_of([10, 10], (3, side, side)), **overlay))
        assert {line.split(":")[0].removeprefix("variants.") for line in found} == refused_variants
    overlay["calibration"] = {"images": 2}
    assert run_check(tmp_path, dataset_of([10, 10], (3, 8, 8)), **overlay) == []


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_resnet_takes_images_of_any_size(tmp_path, side):
    models = {"custom_cnn": None, "vgg16": None, "resnet18": {"width": 0.125}}
    recipes = {"reference": {"crop_padding": 0}}
    overlay = SMALL | {"models": models, "recipes": recipes}
    dataset = dataset_of([10, 10], (3, side, side))
    assert run_check(tmp_path, dataset, **overlay) == []
    model = build(Architecture("resnet18", 0.125, 2, side))
    recipe = Recipe(batch_size=19, crop_padding=0)
    train(model, dataset, PLAIN, recipe, 1, 0, torch.device("cpu"))


def test_padding_is_compared_with_the_images(tmp_path):
    dataset = dataset_of([10, 10])
    recipes = {"reference": {"crop_padding": 16}}
    found = run_check(tmp_path, dataset, **SMALL, recipes=recipes)
    assert found == [
        "warning: recipes.reference.crop_padding: with 16 pixels on each side 12 % of the crops "
        "hold nothing of their image"
    ]
    recipes = {"reference": {"crop_padding": 10**6}}
    found = errors(run_check(tmp_path, dataset, "here", **SMALL, recipes=recipes))
    assert len(found) == 1
    assert "the 20 train images take about 480,007.7 GB, more than the" in found[0]


def test_the_default_study_is_neither_warned_nor_refused(tmp_path):
    dataset = dataset_of([4000, 4000], (3, 32, 32))
    assert run_check(tmp_path, dataset, "here") == []


def full_width(**overlay):
    models = {"custom_cnn": {"width": 1.0}, "vgg16": None, "resnet18": None}
    return SMALL | {"models": models} | overlay


def test_a_hessian_beyond_the_memory_of_the_machine_is_refused(tmp_path, inputs):
    dataset = dataset_of([10, 10], (3, 224, 224))
    found = errors(run_check(tmp_path, dataset, "here", **full_width()))
    layer = (
        "models.custom_cnn: layer classifier.1 has 401,408 inputs, so its Hessian takes 644.5 GB"
    )
    assert all(line.startswith(f"{layer} in float32 and ") for line in found)
    pruning, diagnosing = found
    assert "pruning (imitation, sparsegpt, sparsegpt_published, admm) up to" in pruning
    assert "GB at once, more than three quarters of the " in pruning
    assert (
        "and diagnostics about 3,867.1 GB at once, more than three quarters of the " in diagnosing
    )
    assert (
        "GB of memory of this machine; lower the width (now 1) or the size of the images" in pruning
    )
    assert pruning.endswith("or leave the layer out (exclude: [classifier.1])")
    assert diagnosing.endswith("or measure none (diagnostics: null)")
    inputs("images of 224x224 pixels, custom_cnn at full width, on this machine's CPU", pruning)


def test_elsewhere_a_large_hessian_is_a_warning(tmp_path, inputs):
    dataset = dataset_of([10, 10], (3, 96, 96))
    records = run_check(tmp_path, dataset, "elsewhere", **full_width())
    assert len(records) == 2
    assert all(
        line.startswith("warning: models.custom_cnn: layer classifier.1") for line in records
    )
    assert "has 73,728 inputs, so its Hessian takes 21.7 GB in float32" in records[0]
    assert "of this machine" not in records[0]
    inputs("images of 96x96 pixels, custom_cnn at full width, on a cluster", records[0])


def test_a_layer_left_out_takes_nothing(tmp_path):
    dataset = dataset_of([10, 10], (3, 224, 224))
    pruning = {"exclude": ["classifier.1"]}
    assert (
        run_check(tmp_path, dataset, "here", **full_width(diagnostics=None, pruning=pruning)) == []
    )
    # Rows and columns of the classifier: too few for a group of 2**20, so it stays dense.
    variants = {"mine": {"method": "magnitude", "pattern": "1:1048576"}}
    variants |= dict.fromkeys(complete()["variants"])
    overlay = full_width(diagnostics=None, variants=variants)
    assert run_check(tmp_path, dataset, "here", **overlay) == []


def test_groups_of_a_convolution_have_a_hessian_each(tmp_path, monkeypatch):
    class Grouped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.few = torch.nn.Conv2d(3, 64, 1)
            self.grouped = torch.nn.Conv2d(64, 64, 3, groups=16)
            self.head = torch.nn.Linear(64, 2)

        def forward(self, images):
            return self.head(self.grouped(self.few(images)).mean((2, 3)))

    monkeypatch.setattr(check, "build_without_numbers", without_numbers(Grouped))
    variants = dict.fromkeys(complete()["variants"])
    variants["mine"] = {"method": "sparsegpt", "precision": "float64", "refit": False}
    assert run_check(tmp_path, dataset_of([10, 10]), **SMALL, variants=variants) == []
    value, _ = read_json(tmp_path / "checked.json", "checked")
    pruning, diagnosing = value["hessians"]
    columns = 9 * 4
    assert (pruning["layer"], diagnosing["layer"]) == ("grouped", "grouped")
    assert pruning["bytes"] == 8 * (2.5 * 16 * columns**2 + 12 * 64 * columns)
    assert diagnosing["bytes"] == 4 * 6 * 16 * columns**2


def test_those_whom_one_layer_concerns_share_a_line():
    needs = [
        Need("one", "fc", 9000, 324_000_000, 10**9, "float32"),
        Need("two", "fc", 9000, 324_000_000, 2 * 10**9, "float32"),
        Need("exact", "fc", 9000, 648_000_000, 10**9, "float64"),
        Need(None, "fc", 9000, 324_000_000, 10**9, "float32"),
    ]
    start = "models.net: layer fc has 9,000 inputs, so its Hessian takes"
    assert [line.partition(";")[0] for line in memory.too_large("net", 0.5, 96, needs, 0)] == [
        f"{start} 0.3 GB in float32 and pruning (one, two) up to 2.0 GB at once",
        f"{start} 0.6 GB in float64 and pruning (exact) about 1.0 GB at once",
        f"{start} 0.3 GB in float32 and diagnostics about 1.0 GB at once",
    ]


def test_a_variant_named_diagnostics_is_a_variant(tmp_path):
    dataset = dataset_of([10, 10], (3, 224, 224))
    overlay = full_width(variants=dict.fromkeys(complete()["variants"]))
    overlay["variants"]["diagnostics"] = {"method": "sparsegpt"}
    pruning, diagnosing = errors(run_check(tmp_path, dataset, "here", **overlay))
    assert "pruning (diagnostics) about 1,6" in pruning
    assert "and diagnostics about 3,867.1 GB" in diagnosing


def without_numbers(network):
    """In the place of what builds the study's network: this one."""

    def build(architecture):
        with torch.device("meta"):
            return network()

    return build


def test_a_network_that_cannot_be_tried_without_numbers_is_left_to_training(tmp_path, monkeypatch):
    class Peeking(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 8, 3)

        def forward(self, images):
            return self.layer(images) * images.sum().item()

    monkeypatch.setattr(check, "build_without_numbers", without_numbers(Peeking))
    (record,) = run_check(tmp_path, dataset_of([10, 10]), **SMALL)
    assert record.startswith("warning: not known before it is trained: ")
    monkeypatch.setattr(Peeking, "forward", lambda self, images: self.layer(images[:, :2]))
    (line,) = errors(run_check(tmp_path, dataset_of([10, 10]), **SMALL))
    assert line.startswith("models.custom_cnn: it cannot take images of this size (")


def test_the_settings_that_limit_are_those_of_the_schema():
    schema = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
    properties = schema["properties"]
    assert set(limits.PRUNING) <= set(properties["variants"]["additionalProperties"]["properties"])
    assert set(limits.AUGMENTATION) <= set(
        properties["recipes"]["additionalProperties"]["properties"]
    )
