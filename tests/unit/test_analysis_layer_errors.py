import numpy as np
import pandas as pd
import pytest

from sparsecnn.analysis.layer_errors import different, mean_errors, read_layer_errors
from sparsecnn.errors import UserError


def written(folder, seed=3, text="layer,relative_error,more\nconv1,,\nconv2,0.25,x\n"):
    path = folder / "vgg16" / "strong" / "epochs-5" / f"seed-{seed}" / "sparsegpt" / "layers.csv"
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_text(text)
    return path


def test_layers_are_read_with_the_network_they_belong_to(tmp_path):
    found = read_layer_errors([written(tmp_path)])
    network = found[["model", "recipe", "epochs", "seed", "variant"]].drop_duplicates()
    assert network.to_numpy().tolist() == [["vgg16", "strong", 5, 3, "sparsegpt"]]
    assert found["layer"].tolist() == ["conv1", "conv2"]
    assert found["depth"].tolist() == [1, 2]
    np.testing.assert_array_equal(found["relative_error"], [np.nan, 0.25])


@pytest.mark.parametrize("text", [None, "layer\nconv1\n", "layer,relative_error\nconv1,many\n"])
def test_refuses_what_is_no_table_of_layers(tmp_path, text):
    with pytest.raises(UserError, match=r"layers\.csv: not a table of layers"):
        read_layer_errors([written(tmp_path, text=text)])


def test_refuses_a_table_that_lies_elsewhere(tmp_path):
    path = tmp_path / "layers.csv"
    path.write_text("layer,relative_error\nconv1,0.25\n")
    with pytest.raises(UserError, match=r"layers\.csv: not in a folder of a network's pruning"):
        read_layer_errors([path])


def test_a_mean_of_errors_needs_every_seed(tmp_path):
    text = "layer,relative_error\nconv1,\nconv2,{}\nconv3,{}\n"
    paths = [
        written(tmp_path, 0, text.format(0.25, 0.5)),
        written(tmp_path, 1, text.format(0.75, "")),
    ]
    found = mean_errors(read_layer_errors(paths))
    assert list(found.index.get_level_values("layer")) == ["conv1", "conv2", "conv3"]
    np.testing.assert_array_equal(found["mean"], [np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(found[[0, 1]], [[np.nan, np.nan], [0.25, 0.75], [0.5, np.nan]])


def test_variants_that_differ_in_no_error_are_one(tmp_path):
    one = read_layer_errors([written(tmp_path)])
    twin, other = (
        one.assign(variant="twin"),
        one.assign(variant="other", relative_error=[np.nan, 0.5]),
    )
    every = pd.concat([one, twin, other])
    assert different(["sparsegpt", "twin", "other"], every) == ["sparsegpt", "other"]
    assert different(["twin", "sparsegpt"], every) == ["twin"]
    assert different(["sparsegpt"], read_layer_errors([])) == ["sparsegpt"]
