"""Bills of materials: valid, complete, and the same each time."""

import json
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.engine.conftest import Job, Place, Record, run

PIP = {
    "name": "alpha",
    "version": "1.0",
    "url": "https://files.example/alpha-1.0-py3-none-any.whl",
    "hash": {"sha256": "a" * 64},
}


def inventory_job(place: Place, records: list[Record], output: Path) -> Job:
    output.mkdir()
    return {
        "v": 1,
        "job": "inventory",
        "name": "0" * 64,
        "packages_dir": str(place.packages),
        "output_dir": str(output),
        "packages": {"linux-64": records},
        "pip": {"linux-64": [PIP]},
    }


def test_both_bills_are_valid_and_name_every_package(place: Place, small_channel: Path) -> None:
    records = place.solve(small_channel, "six", "python 3.11.*")
    assert place.build(records).status == 0
    outputs = [place.root / name for name in "ab"]
    for output in outputs:
        assert run(inventory_job(place, records, output)).status == 0
    for name in ("cyclonedx.json", "spdx.json"):
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes()

    cyclonedx = (outputs[0] / "cyclonedx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(cyclonedx) is None
    components = json.loads(cyclonedx)["components"]
    names = {record["name"] for record in records} | {"alpha"}
    assert {component["name"] for component in components} == names
    by_name = {component["name"]: component for component in components}
    assert by_name["six"]["purl"].startswith("pkg:conda/six@1.17.0?build=pyh")
    assert by_name["six"]["licenses"][0]["license"]["name"]
    assert by_name["alpha"]["purl"] == "pkg:pypi/alpha@1.0"
    assert str(place.root) not in cyclonedx and str(small_channel.parent) not in cyclonedx

    document = parse_file(str(outputs[0] / "spdx.json"))
    assert validate_full_spdx_document(document) == []
    assert {package.name for package in document.packages} == names
