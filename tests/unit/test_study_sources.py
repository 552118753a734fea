import json
import os
import time
from pathlib import Path

import pytest
from image_sets import ARCHIVES, image, small_set, write

from sparsecnn.errors import UserError
from sparsecnn.study import sources
from sparsecnn.study.sources import remembered_content, source_content


def named(source: Path, name: str = "image_folder", names: str | None = None) -> dict:
    return {"name": name, "source": str(source), "names": names}


class Looks(list):
    """What was said before a source was read."""

    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def look(tmp_path):
    """Call with a source: its content, and whether it was read."""

    def content(source, **options):
        looks = Looks()
        found = source_content(named(source, **options), tmp_path / "memory", looks)
        return found, bool(looks)

    return content


def aged(path: Path) -> Path:
    """As if nobody had touched it for long."""
    long_ago = time.time() - 1000
    for file in [path, *path.rglob("*")]:
        os.utime(file, (long_ago, long_ago))
    return path


@pytest.fixture(autouse=True)
def old_enough(monkeypatch):
    """Dates of state cannot be set back: nothing is too fresh to be remembered."""
    monkeypatch.setattr(sources, "_FRESH", -(10**12))


def test_without_a_source_there_is_nothing_to_look_at(tmp_path):
    dataset = {"name": "cifar10", "source": None, "names": None}
    assert source_content(dataset, tmp_path / "memory") is None
    assert not (tmp_path / "memory").exists()


def test_what_a_set_is_packed_in_does_not_matter(tmp_path, look):
    files = small_set()
    folder, _ = look(write(tmp_path / "folder", files))
    for name in ARCHIVES:
        assert look(write(tmp_path / name, files))[0] == folder
    turned = dict(reversed(files.items())) | {"README.md": b"x", "train/cat/Thumbs.db": b"x"}
    for name in ("b.zip", "b.tar.gz"):
        below = {f"top/{path}": data for path, data in turned.items()}
        assert look(write(tmp_path / name, below))[0] == folder


CHANGES = {
    "a byte of an image": {"train/cat/0.png": image(100)},
    "an image more": {"train/cat/2.png": image(100)},
    "an image twice under two names": {"train/cat/2.png": small_set()["train/cat/0.png"]},
    "a class more": {"train/cow/0.png": image(1), "test/cow/0.png": image(2)},
    "a file that is no image": {"train/cat/2.png": b"x"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["set", "a.zip", "a.tar.xz"])
def test_other_images_are_another_content(tmp_path, look, name, change):
    before, read = look(write(tmp_path / name, small_set()))
    assert read
    after, read = look(write(tmp_path / name, small_set() | CHANGES[change]))
    assert read
    assert after != before


def test_two_images_exchanged_and_an_image_moved(tmp_path, look):
    files = small_set()
    one, other = "train/cat/0.png", "train/dog/0.png"
    contents = {
        look(write(tmp_path / f"{i}.zip", changed))[0]
        for i, changed in enumerate(
            (
                files,
                files | {one: files[other], other: files[one]},
                {k.replace("train/cat/0", "train/cat/7"): v for k, v in files.items()},
                {k.replace("train/cat/0", "train/dog/7"): v for k, v in files.items()},
                {k: v for k, v in files.items() if k != one},
            )
        )
    }
    assert len(contents) == 5


@pytest.mark.parametrize("name", ["set", "a.zip"])
def test_what_was_looked_at_is_not_read_again(tmp_path, look, name):
    source = write(tmp_path / name, small_set())
    content, read = look(source)
    assert read
    assert look(source) == (content, False)
    assert remembered_content(named(source), tmp_path / "memory") == content
    aged(source)
    assert look(source) == (content, True)
    assert look(source) == (content, False)


def test_of_a_folder_only_what_changed_is_read(tmp_path, look, monkeypatch):
    source = write(tmp_path / "set", small_set())
    look(source)
    read = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or original(path))
    (source / "train/cat/0.png").write_bytes(image(100))
    (source / "train/cat/5.png").write_bytes(image(101))
    look(source)
    assert sorted(path.name for path in read) == ["0.png", "5.png"]


def test_a_change_without_a_newer_date_is_seen_if_it_was_made_at_once(tmp_path, look, monkeypatch):
    monkeypatch.setattr(sources, "_FRESH", 2 * 10**9)
    source = write(tmp_path / "set", small_set())
    before, _ = look(source)
    assert look(source) == (before, True)  # too fresh to be sure of
    path = source / "train/cat/0.png"
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert look(source)[0] != before


def test_an_official_archive_is_known_by_its_bytes(tmp_path, look):
    source = tmp_path / "cifar.tar.gz"
    source.write_bytes(b"one")
    one, read = look(source, name="cifar10")
    assert read
    assert look(source, name="cifar10") == (one, False)
    source.write_bytes(b"two")
    assert look(source, name="cifar10")[0] != one


def test_a_source_that_is_gone_or_not_whole_is_one_line(tmp_path, look):
    with pytest.raises(UserError, match=r"dataset\.source: .*absent does not exist"):
        look(tmp_path / "absent")
    path = write(tmp_path / "a.tar", small_set())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="cannot be read"):
        look(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"listing": 3}'])
def test_a_memory_that_was_damaged_is_made_anew(tmp_path, look, text):
    source = write(tmp_path / "set", small_set())
    content, _ = look(source)
    for path in (tmp_path / "memory").iterdir():
        path.write_text(text)
    assert remembered_content(named(source), tmp_path / "memory") is None
    assert look(source) == (content, True)
    assert look(source) == (content, False)


def test_a_memory_that_cannot_be_written_costs_another_look(tmp_path, look):
    (tmp_path / "memory").write_text("a file in its place")
    source = write(tmp_path / "set", small_set())
    content, read = look(source)
    assert read
    assert look(source) == (content, True)


def test_names_of_another_encoding_are_another_memory(tmp_path):
    source = write(tmp_path / "set", small_set())
    content = source_content(named(source), tmp_path / "memory")
    assert remembered_content(named(source, names="cp949"), tmp_path / "memory") is None
    assert source_content(named(source, names="cp949"), tmp_path / "memory") == content


def test_what_is_remembered_is_small_where_every_job_reads_it(tmp_path, look):
    look(write(tmp_path / "set", small_set()))
    whole, files = sorted((tmp_path / "memory").iterdir(), key=lambda path: path.stat().st_size)
    assert set(json.loads(whole.read_text())) == {"content", "listing"}
    assert len(json.loads(files.read_text())) == 8
