from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cifar_archive import Server, members_of, write_archive
from sparsecnn.data import cifar
from sparsecnn.data.cifar import CIFAR10, CIFAR100, Layout, download, read_archive, verify
from sparsecnn.data.dataset import check
from sparsecnn.errors import UserError


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return write_archive(tmp_path / "origin.tar.gz", CIFAR10, members_of(CIFAR10))


@pytest.fixture
def server(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server((tmp_path / "origin.tar.gz").read_bytes())
    yield server
    server.stop()


@pytest.mark.parametrize("official", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_archive_is_read_as_written(tmp_path: Path, official: Layout) -> None:
    members = members_of(official)
    path = tmp_path / "a.tar.gz"
    layout = write_archive(path, official, members)
    verify(path, layout)
    dataset = read_archive(path, layout)
    check(dataset)
    assert dataset.classes == ("airplane", "cat")
    assert dataset.train_images.shape == (4 * len(official.train), 3, 32, 32)
    assert dataset.train_labels.tolist() == [0, 1, 1, 0] * len(official.train)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 256, (4, 3072), dtype=np.uint8) for _ in (*layout.train, *layout.test)]
    # The archive's own description: 1024 red, then green, then blue values, row by row.
    assert dataset.test_images[2, 1, 5, 7] == rows[-1][2, 1024 + 5 * 32 + 7]
    assert np.array_equal(dataset.train_images[:4].numpy().reshape(4, -1), rows[0])


def test_part_missing_from_archive(tmp_path: Path) -> None:
    members = members_of(CIFAR10)
    del members[CIFAR10.test[0]]
    path = tmp_path / "a.tar.gz"
    layout = write_archive(path, CIFAR10, members)
    with pytest.raises(UserError, match=r"a\.tar\.gz.*test_batch"):
        read_archive(path, layout)


def test_local_source_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.tar.gz"
    layout = write_archive(path, CIFAR10, members_of(CIFAR10))
    with pytest.raises(UserError, match=rf"{layout.md5}, expected {CIFAR10.md5}.*cifar-10-python"):
        cifar.read_cifar10(path, tmp_path)
    with pytest.raises(UserError, match="is not a file"):
        cifar.read_cifar100(tmp_path / "absent", tmp_path)
    monkeypatch.setattr(cifar, "CIFAR10", layout)
    assert len(cifar.read_cifar10(path, tmp_path / "cache").train_labels) == 20
    assert not (tmp_path / "cache").exists()


def test_without_source_the_mirrors_are_used(
    tmp_path: Path, layout: Layout, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "CIFAR10", layout)
    monkeypatch.setattr(cifar, "MIRRORS", (server.url("ok"),))
    assert len(cifar.read_cifar10(None, tmp_path / "cache").test_labels) == 4


def test_download(tmp_path: Path, layout: Layout, server: Server) -> None:
    cache = tmp_path / "new" / "cache"
    path = download(layout, cache, [server.url("ok")])
    assert path == cache / "cifar-10-python.tar.gz"
    assert path.read_bytes() == (tmp_path / "origin.tar.gz").read_bytes()
    assert list(cache.iterdir()) == [path]


def test_archive_in_cache_is_not_downloaded_again(
    tmp_path: Path, layout: Layout, server: Server
) -> None:
    download(layout, tmp_path, [server.url("ok")])
    before = len(server.requests)
    download(layout, tmp_path, [server.url("ok")])
    assert before > 0
    assert len(server.requests) == before


def test_damaged_archive_in_cache_is_replaced(
    tmp_path: Path, layout: Layout, server: Server
) -> None:
    (tmp_path / layout.filename).write_bytes(b"half a file")
    path = download(layout, tmp_path, [server.url("ok")])
    assert path.read_bytes() == (tmp_path / "origin.tar.gz").read_bytes()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("absent", "404"), ("wrong", "corrupted"), ("cut", "corrupted|IncompleteRead")],
)
def test_failed_download_leaves_nothing(
    tmp_path: Path, layout: Layout, server: Server, kind: str, reason: str
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=reason) as caught:
        download(layout, cache, [server.url(kind)])
    assert server.requests
    assert list(cache.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        str(cache / layout.filename),
        "no network?",
        "dataset.source",
        "studies/demo.yaml",
    ):
        assert part in message


def test_second_mirror_serves_when_the_first_is_down(
    tmp_path: Path, layout: Layout, server: Server
) -> None:
    closed = Server(b"")
    closed.stop()
    path = download(layout, tmp_path, [closed.url("ok"), server.url("wrong"), server.url("ok")])
    assert path.read_bytes() == (tmp_path / "origin.tar.gz").read_bytes()


def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cifar, "STALLED_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match="timed out"):
            download(layout, tmp_path, [f"http://127.0.0.1:{port}"])
    assert socket.getdefaulttimeout() is None
