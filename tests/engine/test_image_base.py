"""What images stand on: this machine, a file, or an image of a registry."""

import base64
import hashlib
import http.server
import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from condastore.engine.image.libraries import interpreter, needed_libraries
from tests.engine.conftest import Outcome, Place
from tests.engine.images import find_base, tar_of, unpacked, write_layout

TOKEN = "Bearer given-to-whoever-asks"


LAYERS = [tar_of(first=b"1"), tar_of(second=b"2" * 1000)]


def assert_is_the_base(place: Place, outcome: Outcome) -> None:
    result = outcome.result
    assert [unpacked(place.root / "base", layer) for layer in result["layers"]] == LAYERS
    assert result["config"]["config"]["WorkingDir"] == "/work"
    assert not [path for path in (place.root / "base").iterdir() if path.name.startswith(".")]


# This machine


def test_the_host_is_a_base_with_all_that_a_program_needs(place: Place) -> None:
    result = find_base(place, "host").result
    [layer] = result["layers"]
    with tarfile.open(fileobj=io.BytesIO(unpacked(place.root / "base", layer))) as archive:
        members = {member.name: member for member in archive}
    names = "\n".join(members)
    for pattern in (
        *(r"libc\.so\.6", r"libm\.so\.6", r"libstdc\+\+\.so\.6", r"libgcc_s\.so\.1"),
        *(r"libnss_dns\.so\.2", r"bin/dash|bin/bash", r"usr/bin/env", r"etc/passwd"),
        *(r"etc/nsswitch\.conf", r"ld-linux", r"C\.(utf8|UTF-8)/LC_CTYPE"),
    ):
        assert re.search(pattern, names), pattern
    assert members["tmp"].mode == 0o1777
    assert members["root"].mode == 0o700
    assert not any(member.mode & (stat.S_ISUID | stat.S_ISGID) for member in members.values())
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert result["glibc"] == os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]
    assert all(os.path.isfile(source) for source in result["sources"])
    # Every link leads to something, once those of the directories on its way are followed.
    folders = {f"/{m.name}": f"/{m.linkname.lstrip('/')}" for m in members.values() if m.issym()}
    for member in members.values():
        if member.issym():
            place_of = os.path.dirname(f"/{member.name}")
            target = os.path.normpath(os.path.join(place_of, member.linkname))
            top = "/" + target.split("/")[1]
            target = folders.get(top, top) + target[len(top) :]
            assert target.lstrip("/") in members, member.name


def test_the_host_is_the_same_base_twice(place: Place) -> None:
    first, second = (find_base(place, "host").result["layers"] for _ in range(2))
    assert first == second


def test_the_host_is_no_base_for_another_platform(place: Place) -> None:
    error = find_base(place, "host", platform="linux-aarch64").error
    assert error["kind"] == "spec" and "c.Images.base" in error["text"]


def test_libraries_are_read_from_programs(tmp_path: Path) -> None:
    assert "libc.so.6" in needed_libraries("/bin/sh")
    assert "ld" in (interpreter("/bin/sh") or "")
    damaged = tmp_path / "damaged"
    whole = Path("/bin/sh").read_bytes()
    for data in (b"", b"\x7fELF\x02\x01", whole[:100], whole[:64] + bytes(5000), b"text"):
        damaged.write_bytes(data)
        assert needed_libraries(damaged) == []


# Files


def test_a_layout_is_a_base(place: Place) -> None:
    write_layout(place.root / "layout", LAYERS)
    assert_is_the_base(place, find_base(place, str(place.root / "layout")))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_of_a_layout_is_a_base(place: Place, mode: Any) -> None:
    write_layout(place.root / "layout", LAYERS)
    archive = place.root / "archive.tar"
    with tarfile.open(archive, mode) as output:
        output.add(place.root / "layout", ".")
    assert_is_the_base(place, find_base(place, str(archive)))


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_of_docker_is_a_base(place: Place, compressed: bool) -> None:
    import gzip

    layers = {f"{n}/layer.tar": data for n, data in enumerate(LAYERS)}
    config: dict[str, Any] = {
        "architecture": "amd64",
        "config": {"WorkingDir": "/work"},
        "rootfs": {"diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in LAYERS]},
    }
    manifest = [{"Config": "config.json", "Layers": list(layers), "RepoTags": ["x:y"]}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": json.dumps(config).encode(),
        **{name: gzip.compress(data) if compressed else data for name, data in layers.items()},
    }
    (place.root / "docker.tar").write_bytes(tar_of(**files))
    assert_is_the_base(place, find_base(place, str(place.root / "docker.tar")))


@pytest.mark.parametrize(
    "content", [None, b"", b"no archive", tar_of(other=b""), tar_of(**{"index.json": b"{"})]
)
def test_what_is_no_image_is_refused(place: Place, content: bytes | None) -> None:
    path = place.root / "file"
    if content is not None:
        path.write_bytes(content)
    error = find_base(place, str(path)).error
    assert error["kind"] == "spec" and str(path) in error["text"]


def test_a_blob_with_another_content_is_refused(place: Place) -> None:
    folder = place.root / "layout"
    write_layout(folder, LAYERS)
    for path in (folder / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            path.write_bytes(data[:-1] + b"!")
    assert find_base(place, str(folder)).error["kind"] == "hash"
    assert list((place.root / "base").iterdir()) == []


def test_an_image_for_another_platform_is_refused(place: Place) -> None:
    write_layout(place.root / "layout", LAYERS, "arm64")
    error = find_base(place, str(place.root / "layout")).error
    assert error["kind"] == "spec" and "linux-64" in error["text"]


@pytest.mark.parametrize("reference", ["debian:12", "no registry/x", "host:port/x", "a/../b", ""])
def test_what_names_no_image_is_refused(place: Place, reference: str) -> None:
    assert find_base(place, reference).error["kind"] == "spec"


# Registries


class _Handler(http.server.BaseHTTPRequestHandler):
    """A registry that wants a token, and has its blobs elsewhere."""

    layout: Path
    leaked: list[str]
    password: str | None

    @property
    def port(self) -> int:
        assert isinstance(self.server, http.server.HTTPServer)
        return self.server.server_port

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization")
        if self.path.startswith("/elsewhere/"):
            if authorization:
                self.leaked.append(authorization)
            self._send(200, self._blob(self.path.rpartition("/")[2]))
        elif self.path.startswith("/token?"):
            expected = self.password and base64.b64encode(f"me:{self.password}".encode()).decode()
            wrong = expected is not None and authorization != f"Basic {expected}"
            token = {"token": TOKEN.removeprefix("Bearer ")}
            self._send(401 if wrong else 200, json.dumps(token).encode())
        elif authorization != TOKEN:
            realm = f'Bearer realm="http://127.0.0.1:{self.port}/token",service="s",scope="pull"'
            self._send(401, b"", {"WWW-Authenticate": realm})
        elif "/manifests/sha256:" in self.path:
            self._send(200, self._blob(self.path.rpartition(":")[2]))
        elif "/manifests/" in self.path:
            self._send(200, (self.layout / "index.json").read_bytes())
        else:
            digest = self.path.rpartition(":")[2]
            # Another name for the same machine is another host.
            url = f"http://localhost:{self.port}/elsewhere/{digest}"
            self._send(307, b"", {"Location": url})

    def _blob(self, digest: str) -> bytes:
        return (self.layout / "blobs" / "sha256" / digest).read_bytes()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def registry(layout: Path, password: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serves a layout; yields the registry's name, and what was sent where it must not be."""
    leaked: list[str] = []
    fields = {"layout": layout, "leaked": leaked, "password": password}
    handler = type("Handler", (_Handler,), fields)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", leaked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("suffix", ["", ":tag", "@digest"])
def test_an_image_of_a_registry_is_a_base(place: Place, suffix: str) -> None:
    digest = write_layout(place.root / "layout", LAYERS)
    with registry(place.root / "layout") as (name, leaked):
        suffix = suffix.replace("digest", digest)
        outcome = find_base(place, f"{name}/some/image{suffix}")
    assert_is_the_base(place, outcome)
    assert "@sha256:" in outcome.result["name"]
    assert leaked == []


def test_credentials_are_for_their_registry(place: Place) -> None:
    write_layout(place.root / "layout", LAYERS)
    with registry(place.root / "layout", "secret") as (name, leaked):
        right = {"url": f"http://{name}/", "username": "me", "password": "secret"}
        assert_is_the_base(place, find_base(place, f"{name}/x", credentials=[right]))
        for wrong in ({**right, "password": "no"}, {**right, "url": "http://127.0.0.1:1/"}):
            assert find_base(place, f"{name}/x", credentials=[wrong]).error["kind"] == "auth"
    assert leaked == []


def test_a_registry_that_is_away_is_told(place: Place) -> None:
    error = find_base(place, "127.0.0.1:1/some/image").error
    assert error["kind"] == "network"
