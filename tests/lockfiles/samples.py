"""Packages and a lockfile for the tests of all forms."""

import copy
import json
from typing import Any

MD5 = "d7c89558ba9fa0495403155b64376d81"
SHA256 = "fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726"
CHANNEL = "https://conda.anaconda.org/conda-forge"

POSTED: dict[str, Any] = {
    "version": 1,
    "metadata": {
        "content_hash": {"linux-64": "5514"},
        "channels": [{"url": "conda-forge", "used_env_vars": []}],
        "platforms": ["linux-64"],
        "sources": ["environment.yaml"],
    },
    "package": [
        {
            "name": "_libgcc_mutex",
            "version": "0.1",
            "manager": "conda",
            "platform": "linux-64",
            "dependencies": {},
            "url": f"{CHANNEL}/linux-64/_libgcc_mutex-0.1-conda_forge.tar.bz2",
            "hash": {"md5": MD5, "sha256": SHA256},
            "category": "main",
            "optional": False,
        },
        {
            "name": "flask",
            "version": "3.0.0",
            "manager": "pip",
            "platform": "linux-64",
            "dependencies": {"jinja2": ">=3.1.2"},
            "url": "https://files.example.org/flask-3.0.0-py3-none-any.whl",
            "hash": {"sha256": SHA256},
            "category": "main",
            "optional": False,
        },
    ],
}

RECORD: dict[str, Any] = {
    "name": "numpy",
    "version": "1.26.4",
    "build": "py311_0",
    "build_number": 0,
    "subdir": "linux-64",
    "channel": CHANNEL,
    "url": f"{CHANNEL}/linux-64/numpy-1.26.4-py311_0.conda",
    "fn": "numpy-1.26.4-py311_0.conda",
    "md5": MD5,
    "sha256": SHA256,
    "depends": ["python >=3.11,<3.12.0a0", "python_abi 3.11.* *_cp311", "libblas"],
}
TZDATA: dict[str, Any] = {
    **RECORD,
    "name": "tzdata",
    "subdir": "noarch",
    "url": f"{CHANNEL}/noarch/tzdata-2024a-0.conda",
    "version": "2024a",
    "depends": [],
}
WHEEL = {
    "name": "flask",
    "version": "3.0.0",
    "url": "https://files.example.org/flask-3.0.0-py3-none-any.whl",
    "hash": {"sha256": SHA256},
    "requires": ["jinja2>=3.1.2"],
}


def changed(path: list[str | int], value: object) -> str:
    """The posted lockfile's text with another value at one place; `...` takes it away."""
    posted = copy.deepcopy(POSTED)
    place: Any = posted
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(posted)
