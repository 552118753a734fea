import json
from dataclasses import replace

import pytest
import torch

from sparsecnn.artifacts import (
    Manifest,
    atomic_write,
    file_sha256,
    read_json,
    read_tensors,
    write_json,
    write_table,
    write_tensors,
)
from sparsecnn.errors import UserError

MANIFEST = Manifest(kind="dense", settings={"epochs": 2}, code="abc", parents={"dataset": "d"})


def tensors():
    return {
        "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
        "count": torch.tensor(7),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
    }


def test_tensors_come_back_with_their_manifest(tmp_path):
    path = tmp_path / "deep" / "network.safetensors"
    written = write_tensors(path, tensors(), MANIFEST)
    read, manifest = read_tensors(path, "dense")
    assert manifest == written
    assert replace(manifest, versions={}, created="", content="", tensors={}) == MANIFEST
    assert manifest.tensors.keys() == tensors().keys()
    assert {"python", "torch", "numpy"} <= set(manifest.versions)
    assert read.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_content_depends_on_values_names_shapes_and_types_only(tmp_path):
    path = tmp_path / "a.safetensors"
    content = write_tensors(path, tensors(), MANIFEST).content
    assert write_tensors(path, tensors(), replace(MANIFEST, code="new")).content == content
    for change in (
        {"weight": tensors()["weight"] + 1},
        {"weight": tensors()["weight"].reshape(2, 3)},
        {"half": torch.ones(3, dtype=torch.float16)},
        {"extra": torch.zeros(1)},
    ):
        assert write_tensors(path, tensors() | change, MANIFEST).content != content


@pytest.mark.parametrize("position", [0.0, 0.2, 0.5, 0.999])
def test_any_damage_is_refused_by_name(tmp_path, position):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"w": torch.randn(2000)}, MANIFEST)  # far larger than its header
    whole = path.read_bytes()
    at = int(position * len(whole))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
    with pytest.raises(UserError, match=r"a\.safetensors: .*snakemake"):
        read_tensors(path, "dense")
    path.write_bytes(whole[: at // 2])
    with pytest.raises(UserError, match=r"a\.safetensors: it cannot be read"):
        read_tensors(path, "dense")


def test_some_tensors_are_read_and_checked_without_the_others(tmp_path):
    path = tmp_path / "a.safetensors"
    values = {name: torch.full((100,), number) for number, name in enumerate("abc", start=1)}
    whole = write_tensors(path, values, MANIFEST)
    read, manifest = read_tensors(path, "dense", names=["c", "a"])
    assert manifest == whole
    assert list(read) == ["a", "c"]
    data = path.read_bytes()
    path.write_bytes(data.replace(values["b"].numpy().tobytes(), values["a"].numpy().tobytes()))
    assert read_tensors(path, "dense", names=["c", "a"])[1] == whole
    for names in (None, ["a", "b"]):
        with pytest.raises(UserError, match="altered or damaged"):
            read_tensors(path, "dense", names=names)


def test_tensors_other_than_those_listed_are_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    write_tensors(path, {"w": torch.zeros(1)}, MANIFEST)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file({"w": torch.zeros(1), "v": torch.zeros(1)}, path, metadata=header)
    with pytest.raises(UserError, match="altered or damaged"):
        read_tensors(path, "dense", names=["w"])


def test_a_file_of_before_tensors_were_listed_is_stale(tmp_path):
    from safetensors.torch import save_file

    manifest = json.dumps({"kind": "dense", "settings": {}, "code": "a", "content": "0"})
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"manifest": manifest})
    with pytest.raises(UserError, match="made by other code"):
        read_tensors(tmp_path / "a.safetensors", "dense")


def test_missing_foreign_and_misplaced_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="it is not there"):
        read_tensors(path, "dense")
    write_tensors(path, tensors(), MANIFEST)
    with pytest.raises(UserError, match="it holds a 'dense', expected a 'pruned'"):
        read_tensors(path, "pruned")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="no manifest"):
        read_tensors(path, "dense")


def test_json_comes_back_and_edits_are_refused(tmp_path):
    path = tmp_path / "metrics.json"
    value = {"top1": 78.25, "per_class": {"chat noir": 1.0}, "layers": [1, 2]}
    written = write_json(path, value, replace(MANIFEST, kind="metrics"))
    assert read_json(path, "metrics") == (value, written)
    document = json.loads(path.read_text())
    document["value"]["top1"] = 98.25
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="altered or damaged"):
        read_json(path, "metrics")
    path.write_text(path.read_text()[:-10])
    with pytest.raises(UserError, match="cannot be read"):
        read_json(path, "metrics")


def test_json_refuses_what_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"loss": float("nan")}, MANIFEST)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    digest = write_table(path, [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    assert path.read_text() == 'a,b\n1,"x, y"\n2,\n'
    assert digest == file_sha256(path)

    def half(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write .*table\.csv: No space left on device"):
        atomic_write(path, half)
    assert file_sha256(path) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
