"""The role `inventory`: bills of materials of an environment, in CycloneDX and in SPDX.

They say what is in an image and say it the same each time: nothing in them depends on a clock.
"""

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from condastore.engine.events import Events
from condastore.engine.image.entries import EPOCH
from condastore.engine.image.metadata import public_origin
from condastore.engine.jobs import InventoryJob, Record
from condastore.engine.records import archive_stem, channel, file_name
from condastore.engine.store import PackageStore

CYCLONEDX, SPDX = "cyclonedx.json", "spdx.json"
_MADE_ON = datetime.fromtimestamp(EPOCH, UTC)
_TOOL = "condastore"


@dataclass(frozen=True)
class _Item:
    """One package on one platform."""

    name: str
    version: str
    platform: str
    url: str
    purl: str
    hashes: dict[str, str]
    license: str | None


def take_inventory(job: InventoryJob, events: Events) -> None:
    """Writes the two bills of an environment into a directory."""
    store = PackageStore(Path(job["packages_dir"]))
    items = [*_conda_items(job, store), *_pip_items(job)]
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"condastore {job['name']}")
    output = Path(job["output_dir"])
    (output / CYCLONEDX).write_text(_cyclonedx(items, identity))
    (output / SPDX).write_text(_spdx(items, identity, job["name"]))
    events.result(cyclonedx=CYCLONEDX, spdx=SPDX)


def load_libraries() -> None:
    """Imports what an inventory needs, which takes a third of a second, before one is asked for."""
    for name in ("packageurl", "cyclonedx.output.json", "spdx_tools.spdx.writer.json.json_writer"):
        import_module(name)


def _conda_items(job: InventoryJob, store: PackageStore) -> Iterator[_Item]:
    from packageurl import PackageURL

    for platform, records in job["packages"].items():
        for record in records:
            record = {**record, "channel": channel(record), "fn": file_name(record)}
            origin = public_origin(record)
            qualifiers = {
                "build": archive_stem(record).rpartition("-")[2],
                "channel": origin["channel"],
                "subdir": record["subdir"],
                "type": "conda" if record["fn"].endswith(".conda") else "tar.bz2",
            }
            purl = PackageURL("conda", None, record["name"], record["version"], qualifiers)
            hashes = {kind: record[kind] for kind in ("sha256", "md5") if record.get(kind)}
            yield _Item(
                record["name"],
                record["version"],
                platform,
                origin["url"],
                purl.to_string(),
                hashes,
                _license(record, store),
            )


def _pip_items(job: InventoryJob) -> Iterator[_Item]:
    from packageurl import PackageURL

    for platform, records in job["pip"].items():
        for record in records:
            purl = PackageURL("pypi", None, record["name"], record["version"])
            hashes = {kind: value for kind, value in record["hash"].items() if value}
            yield _Item(
                record["name"],
                record["version"],
                platform,
                record["url"] if not record["url"].startswith("file:") else "",
                purl.to_string(),
                hashes,
                None,
            )


def _license(record: Record, store: PackageStore) -> str | None:
    try:
        found: Any = store.read_index(str(record.get("sha256"))).get("license")
    except (OSError, ValueError):
        return None
    return str(found) if found else None


def _cyclonedx(items: list[_Item], identity: uuid.UUID) -> str:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    algorithms = {"sha256": HashAlgorithm.SHA_256, "md5": HashAlgorithm.MD5}
    components = [
        Component(
            name=item.name,
            version=item.version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{item.platform} {item.purl}",
            purl=PackageURL.from_string(item.purl),
            hashes=[HashType(alg=algorithms[k], content=v) for k, v in item.hashes.items()],
            # What packages say is no expression of SPDX as often as not.
            licenses=[DisjunctiveLicense(name=item.license)] if item.license else None,
            properties=[Property(name="condastore:platform", value=item.platform)],
        )
        for item in items
    ]
    tool = Component(name=_TOOL, type=ComponentType.APPLICATION, bom_ref=_TOOL)
    metadata = BomMetaData(timestamp=_MADE_ON)
    metadata.tools.components.add(tool)
    bom = Bom(components=components, serial_number=identity, metadata=metadata)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _spdx(items: list[_Item], identity: uuid.UUID, name: str) -> str:
    from spdx_tools.spdx.model.actor import Actor, ActorType
    from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
    from spdx_tools.spdx.model.document import CreationInfo, Document
    from spdx_tools.spdx.model.package import (
        ExternalPackageRef,
        ExternalPackageRefCategory,
        Package,
    )
    from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
    from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

    algorithms = {"sha256": ChecksumAlgorithm.SHA256, "md5": ChecksumAlgorithm.MD5}
    packages = [
        Package(
            spdx_id=f"SPDXRef-Package-{number}",
            name=item.name,
            version=item.version,
            download_location=item.url if item.url.startswith("http") else SpdxNoAssertion(),
            files_analyzed=False,
            checksums=[Checksum(algorithms[k], v) for k, v in item.hashes.items()],
            license_comment=item.license,
            comment=f"on {item.platform}",
            external_references=[
                ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", item.purl)
            ],
        )
        for number, item in enumerate(items)
    ]
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id="SPDXRef-DOCUMENT",
        name=f"environment {name}",
        document_namespace=f"urn:uuid:{identity}",
        creators=[Actor(ActorType.TOOL, _TOOL)],
        created=_MADE_ON,
    )
    relations = [
        Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, package.spdx_id)
        for package in packages
    ]
    stream = io.StringIO()
    document = Document(info, packages, relationships=relations)
    # Its own validation takes seconds; a test does it.
    write_document_to_stream(document, stream, validate=False)
    return json.dumps(json.loads(stream.getvalue()), indent=1, sort_keys=True) + "\n"
