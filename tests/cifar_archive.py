"""A small archive in CIFAR's official form, and a server that serves it well and badly."""

import hashlib
import io
import struct
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import numpy as np

from sparsecnn.data.cifar import Layout

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
    """Serves by folder of the URL.

    `ok`; `slow`, in pieces; `wrong` bytes; `cut`, closes in the middle; `stalled`, says nothing
    more from the middle on; anything else: 404.
    """

    def __init__(self, content: bytes) -> None:
        self.requests: list[str] = []
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                kind = self.path.split("/")[1]
                if kind not in ("ok", "slow", "wrong", "cut", "stalled"):
                    self.send_error(404)
                    return
                body = bytes(len(content)) if kind == "wrong" else content
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                half = body[: len(body) // 2]
                if kind == "slow":
                    outer.send_slowly(self.wfile, body)
                else:
                    self.wfile.write(half if kind in ("cut", "stalled") else body)
                if kind == "stalled":
                    outer.stopped.wait()

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def send_slowly(self, stream: IO[bytes], body: bytes, pieces: int = 20) -> None:
        step = -(-len(body) // pieces)
        for start in range(0, len(body), step):
            try:
                stream.write(body[start : start + step])
            except OSError:  # the client is gone
                return
            self.stopped.wait(0.1)

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{kind}"

    def stop(self) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
