"""Fixtures of the tests of the development tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devtools.localchannel import make_channel


@pytest.fixture(scope="session")
def small_channel() -> Path:
    """Return the small channel, made once and kept between runs."""
    default = Path.home() / ".cache" / "condastore-tests"
    cache = Path(os.environ.get("CONDASTORE_TEST_CACHE") or default)
    return make_channel("small", cache / "channels" / "small", cache / "wheels")
