"""A study that exports networks makes files of them, and says whether these are still whole."""

import numpy as np
import onnxruntime
import pytest
from snakemake_project import EXPORTING, TINY, load_script, merged

from sparsecnn.artifacts import read_json
from sparsecnn.errors import UserError
from sparsecnn.models.network import Architecture, build

STUDY = "results/tiny"
RUN = f"{STUDY}/custom_cnn/small/epochs-1/seed-0"
FILES = ("model.onnx", "model.safetensors", "network.py")


def verified(project, *arguments):
    """Output and exit status of the command that checks a study."""
    return project.script("verify.py", STUDY, *arguments)


def test_exported_networks_lie_beside_their_metrics(exporting):
    for network, layers in (("dense", 0), ("sparsegpt", 5)):
        folder = exporting / RUN / network
        value, manifest = read_json(folder / "model.json", "exported")
        assert set(manifest.files) == set(FILES)
        assert value["onnx"]["pruned_layers"] == layers
        assert (value["onnx"]["images"], value["onnx"]["different_top1"]) == (360, 0)
        assert value["onnx"]["largest_difference"] < value["onnx"]["tolerance"] == 1e-4
        assert value["versions"]["onnxruntime"] == onnxruntime.__version__
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        [logits] = session.run(None, {"images": np.zeros((3, 3, 32, 32), np.float32)})
        assert logits.shape == (3, len(value["output"]["classes"]))
    assert not (exporting / RUN / "magnitude/model.json").exists()


def test_exports_are_verified_by_setting_and_where_they_are_on_disk(exporting):
    # The small study has 15 files, and each of two networks four.
    for arguments in ((), ("--configfile", "study.yaml")):
        output, status = verified(exporting, *arguments)
        assert status == 0
        assert output.startswith("23 whole; ")


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named_and_a_deleted_one_made_again(exporting, inputs, name):
    path = exporting / RUN / "sparsegpt" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    output, status = verified(exporting)
    assert status == 1
    [line] = [line for line in output.splitlines() if line.startswith("broken")]
    assert f"sparsegpt/{name}: it differs from what was recorded of it" in line
    inputs(f"verify, {name} altered", line)
    path.unlink()
    output, _ = verified(exporting)
    assert f"sparsegpt/{name}: it is not there" in output
    assert exporting.planned() == {"export": 1}


def test_an_export_by_other_settings_or_of_another_network_is_told(exporting):
    other = merged(EXPORTING, export={"normalize": False})
    output, _ = verified(exporting, "--configfile", exporting / "study.yaml")
    assert "23 whole" in output
    output, _ = exporting.script("verify.py", STUDY, "--configfile", "study.yaml", study=other)
    assert "it was made with other settings (normalize: true, not false)" in output
    pruned = exporting / RUN / "sparsegpt"
    for path in (exporting / RUN / "dense").iterdir():
        (pruned / path.name).write_bytes(path.read_bytes())
    output, _ = verified(exporting)
    assert "sparsegpt/model.json: it was made with other settings" in output


def test_missing_packages_are_told_before_anything_runs(edited, inputs):
    path = "src/sparsecnn/export/packages.py"
    project = edited(path, lambda text: text.replace('"onnxscript"', '"onnxscript_not_there"'))
    study = TINY | {"export": {"variants": ["dense"]}}
    output = project.snakemake("-n", study=study, ok=False)
    line = "export: onnxscript_not_there not installed; run `python -m pip install onnxscript_n"
    assert line in output
    assert "Traceback" not in output
    inputs("export without its packages", output.partition("export: ")[2].partition("\n")[0])
    assert project.planned() == {}


def test_a_layer_without_its_pattern_is_refused(inputs):
    script = load_script("export.py")
    network = build(Architecture("custom_cnn", 0.125, 10, 32)).eval()
    data = script.to_onnx(network, (3, 32, 32), None, {})
    row = {"layer": "classifier.1", "tensor": "weight", "status": "pruned"}
    rows = [row | {"pattern": "2:4", "layout": "channels"}]
    with pytest.raises(UserError, match=r"in the ONNX file: layer 'classifier\.1' is") as error:
        script.checked(data, network, rows, None, None, {})
    inputs("export of a layer that lost its pattern", error.value)
