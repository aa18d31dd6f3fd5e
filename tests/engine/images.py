"""Makes images as the daemon's children do, and reads them as a container engine would."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from tests.engine.conftest import Job, Outcome, Place, Record, run

PREFIX = "/opt/env"


@dataclass
class Made:
    """The layers of an image, from the bottom up."""

    outcome: Outcome
    blobs: Path
    keys: list[str]
    layers: list[dict[str, Any]] = field(default_factory=list)

    def tar(self, number: int) -> bytes:
        """The uncompressed layer."""
        return unpacked(self.blobs, self.layers[number])

    def members(self, number: int) -> dict[str, tarfile.TarInfo]:
        """The members of a layer by path; a path that is there twice fails."""
        with tarfile.open(fileobj=io.BytesIO(self.tar(number))) as archive:
            found = archive.getmembers()
        assert len({member.name for member in found}) == len(found)
        return {member.name: member for member in found}

    def content(self, number: int, path: str) -> bytes:
        """What is in a file of a layer."""
        with tarfile.open(fileobj=io.BytesIO(self.tar(number))) as archive:
            opened = archive.extractfile(path)
            assert opened is not None
            return opened.read()

    def tree(self) -> dict[str, bytes | str]:
        """What one sees in a container: contents of files, and targets of links as text."""
        found: dict[str, bytes | str] = {}
        for number in range(len(self.layers)):
            with tarfile.open(fileobj=io.BytesIO(self.tar(number))) as archive:
                for member in archive:
                    if member.issym():
                        found[member.name] = member.linkname
                    elif not member.isdir():
                        opened = archive.extractfile(member)
                        assert opened is not None
                        found[member.name] = opened.read()
        return found

    @property
    def digests(self) -> list[str]:
        return [layer["digest"] for layer in self.layers]


def unpacked(blobs: Path, layer: dict[str, Any]) -> bytes:
    """A blob's tar; its digest, size and diff id are what was said of them."""
    data = (blobs / layer["digest"].removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
    assert len(data) == layer["size"]
    if layer["media_type"].endswith("zstd"):
        tar = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    else:
        tar = gzip.decompress(data)
    assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == layer["diff_id"]
    return tar


def image_job(place: Place, records: list[Record], **changes: Any) -> Job:
    """A job that makes each package a layer of its own."""
    blobs = place.root / "blobs"
    blobs.mkdir(exist_ok=True)
    layers = [
        {"key": record["name"], "packages": [number], "known": False}
        for number, record in enumerate(records)
    ]
    made = {
        "job": "image",
        "blobs_dir": str(blobs),
        "prefix": PREFIX,
        "layers": layers,
        "codec": "gzip",
        "level": 1,
        "python_prefix": str(place.prefix) if place.prefix.exists() else None,
        "pip": None,
        "variables": {},
        "host_libraries": False,
        "glibc": None,
    }
    return place.build_job(records, **{**made, **changes})


def make_image(place: Place, records: list[Record], **changes: Any) -> Made:
    """Makes the layers of an image, which must go well."""
    job = image_job(place, records, **changes)
    outcome = run(job)
    result = outcome.result
    told = {event["key"]: event for event in outcome.events if event["t"] == "layer"}
    keys = [layer["key"] for layer in job["layers"] if not layer["known"]]
    made = Made(outcome, Path(job["blobs_dir"]), keys, [told[key] for key in keys])
    made.layers += [result[name] for name in ("libraries", "environment") if result[name]]
    return made


def find_base(place: Place, reference: str, **changes: Any) -> Outcome:
    """Looks for a base."""
    blobs = place.root / "base"
    blobs.mkdir(exist_ok=True)
    job = {
        "v": 1,
        "job": "base",
        "reference": reference,
        "platform": "linux-64",
        "blobs_dir": str(blobs),
        "codec": "gzip",
        "level": 1,
        "credentials": [],
        "offline": False,
    }
    return run({**job, **changes})


def tar_of(**files: bytes) -> bytes:
    """A tar of some files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_layout(folder: Path, layers: list[bytes], architecture: str = "amd64") -> str:
    """Adds an image to an OCI layout, and returns the digest of its manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def store(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/base/bin", "BASE=yes"], "WorkingDir": "/work"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **store(json.dumps(config).encode()),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                **store(gzip.compress(layer, mtime=0)),
            }
            for layer in layers
        ],
    }
    entry = {"mediaType": manifest["mediaType"], **store(json.dumps(manifest).encode())}
    platform = {"architecture": architecture, "os": "linux"}
    path = folder / "index.json"
    others = json.loads(path.read_bytes())["manifests"] if path.exists() else []
    entries = [*others, {**entry, "platform": platform}]
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(entry["digest"])
