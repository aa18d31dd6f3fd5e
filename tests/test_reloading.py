"""A configuration that is read again is whole, or a `ConfigurationError`: the daemon goes on."""

from pathlib import Path

import pytest

from condastore.errors import ConfigurationError
from condastore.reloading import Configuration

LOGIN = """
from condastore.auth import DummyAuthentication
class Own(DummyAuthentication):
    def check(self):
        raise KeyError("realm")
c.CondaStoreServer.authentication_class = Own
"""


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("exit()", "SystemExit: None"),
        (LOGIN, "KeyError: 'realm'"),
        ("c.CondaStoreServer.port = 'x'", "line 1: .*port"),
        ("1 / 0", "line 1: ZeroDivisionError"),
    ],
    ids=["leaves", "ends", "login", "value", "program"],
)
def test_whatever_is_wrong_is_an_error_of_the_configuration(
    tmp_path: Path, text: str, explained: str
) -> None:
    config = tmp_path / "config.py"
    config.write_text(text)
    with pytest.raises(ConfigurationError, match=explained):
        Configuration.read([f"--config={config}"])
    config.write_text("c.CondaStoreServer.port = 81")
    assert Configuration.read([f"--config={config}"]).app.port == 81
