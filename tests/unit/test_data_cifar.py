import hashlib
import io
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from sparsecnn.data import cifar
from sparsecnn.data.cifar import CIFAR10, CIFAR100, Layout, download, read_archive, verify
from sparsecnn.data.dataset import check
from sparsecnn.errors import UserError

CLASSES = ["airplane", "cat"]


def python2_pickle(value: object) -> bytes:
    """What Python 2 wrote: byte strings, and NumPy's dtype spelled with integers."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: object) -> bytes:
    match value:
        case str() | bytes():
            data = value.encode() if isinstance(value, str) else value
            return b"T" + struct.pack("<i", len(data)) + data
        case int():
            return b"J" + struct.pack("<i", value)
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
        case np.ndarray():
            shape = b"".join(map(_opcodes, value.shape)) + b"\x86"
            dtype = b"cnumpy\ndtype\n" + _opcodes("u1") + b"K\x00K\x01\x87R"
            dtype += b"(K\x03" + _opcodes("|") + b"NNN" + _opcodes(-1) * 2 + b"K\x00tb"
            empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            empty += _opcodes("b") + b"\x87R"
            return empty + b"(K\x01" + shape + dtype + b"\x89" + _opcodes(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def write_archive(path: Path, layout: Layout, members: dict[str, bytes]) -> Layout:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return replace(layout, md5=hashlib.md5(path.read_bytes()).hexdigest())


def members_of(layout: Layout, seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    members = {layout.meta: python2_pickle({layout.names_key: CLASSES})}
    for name in (*layout.train, *layout.test):
        batch = {
            "data": rng.integers(0, 256, (4, 3072), dtype=np.uint8),
            layout.label_key: [0, 1, 1, 0],
            "coarse_labels": [7, 7, 7, 7],
        }
        members[name] = python2_pickle(batch)
    return members


class Server:
    """Serves by folder of the URL: `ok`, `wrong` bytes, `cut` in the middle, else 404."""

    def __init__(self, content: bytes) -> None:
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                kind = self.path.split("/")[1]
                if kind not in ("ok", "wrong", "cut"):
                    self.send_error(404)
                    return
                body = bytes(len(content)) if kind == "wrong" else content
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{kind}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


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
