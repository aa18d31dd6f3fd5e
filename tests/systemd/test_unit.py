"""The unit: as strict as it can be, and no stricter than what the settings ask for."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from condastore.cli import main
from condastore.server_configuration import CondaStoreServer

HIGHEST_EXPOSURE = 2.0
PAM = "--CondaStoreServer.authentication_class=condastore.auth.pam.PAMAuthentication"
UNUSUAL = {
    "plain": [],
    "other directories": [
        "--data=/srv/condastore",
        "--CondaStore.store_directory=/data/environments",
        "--CondaStore.database_url=sqlite:////var/lib/condastore-db/db.sqlite",
    ],
    "another account": ["--CondaStore.default_uid=1234"],
    "PAM": [PAM],
    "a group's directories": ["--CondaStore.default_permissions=2775"],
    "S3": ["--CondaStore.storage_class=condastore.storage.s3.S3Storage"],
    "a Unix socket": ["--CondaStoreServer.unix_socket=/run/condastore/http.sock"],
}
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on this machine"
)


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation where one would be; that of the tests may be in a home directory."""
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/usr")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    CondaStoreServer.clear_instance()
    yield
    CondaStoreServer.clear_instance()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run: below /tmp, say, no service can have its data."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    CondaStoreServer.clear_instance()
    status = main(["systemd", *arguments])
    output = capsys.readouterr()
    assert status == 0, output.err
    return output.out


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@needs_systemd
@pytest.mark.parametrize("name", UNUSUAL)
def test_the_exposure_is_low(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    path = tmp_path / "condastore.service"
    path.write_text(printed(capsys, *UNUSUAL[name]))
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    level = next(line for line in found.stdout.splitlines() if "Overall exposure level" in line)
    exposure = float(level.partition(": ")[2].split()[0])
    assert exposure <= HIGHEST_EXPOSURE, found.stdout


@needs_systemd
@pytest.mark.parametrize("kind", ["--user", "--socket", "--CondaStore.default_uid=5"])
def test_systemd_understands_every_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "condastore.service").write_text(
        printed(capsys, *([] if kind == "--socket" else [kind]))
    )
    names = ["condastore.service"]
    if kind == "--socket":
        (tmp_path / "condastore.socket").write_text(printed(capsys, kind))
        names.append("condastore.socket")
    for name in names:
        found = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"./{name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        complaints = [line for line in found.stderr.splitlines() if f"{name}:" in line]
        assert found.returncode == 0 and not complaints, found.stderr


def test_directories_are_where_the_settings_say(capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(printed(capsys, *UNUSUAL["other directories"]))
    assert "ReadWritePaths=/srv/condastore" in found
    assert "ReadWritePaths=/data/environments" in found
    assert "StateDirectory=condastore-db" in found
    assert "ProtectHome=yes" in found
    plain = lines(printed(capsys))
    assert "StateDirectory=condastore" in plain
    assert not any(line.startswith("ReadWritePaths") for line in plain)
    assert any(
        line.startswith("ExecStart=/usr/bin/python3 ")
        and line.endswith("--data=/var/lib/condastore")
        for line in plain
    )
    home = lines(printed(capsys, "--CondaStoreWorker.watch_paths=/home/ann/environments"))
    assert "ProtectHome=read-only" in home


def test_templates_of_paths_count(capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(
        printed(
            capsys,
            "--CondaStore.build_directory=/fast/{namespace}",
            "--CondaStore.environment_directory=/shared/envs-{namespace}/{name}",
        )
    )
    assert "ReadWritePaths=/fast" in found
    assert "ReadWritePaths=/shared" in found


def test_what_would_break_something_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    pam = lines(printed(capsys, PAM))
    assert "SupplementaryGroups=shadow" in pam and "PrivateUsers=yes" not in pam
    given = lines(printed(capsys, *UNUSUAL["another account"]))
    assert "PrivateUsers=yes" not in given
    assert "AmbientCapabilities=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE" in given
    assert "RestrictSUIDSGID=yes" not in lines(printed(capsys, *UNUSUAL["a group's directories"]))
    assert not any("IPAddressDeny" in line for line in lines(printed(capsys, *UNUSUAL["S3"])))
    users = lines(printed(capsys, "--user"))
    assert not any(line.startswith(("User=", "ProtectSystem=")) for line in users)
    assert "WantedBy=default.target" in users


def test_what_it_works_with_ends_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    servers = [
        "--CondaStore.database_url=postgresql://somebody@localhost/condastore",
        "--CondaStore.redis_url=redis://localhost",
    ]
    every = "After=network-online.target"
    assert f"{every} postgresql.service redis.service" in lines(printed(capsys, *servers))
    assert every in lines(printed(capsys))
    assert every in lines(printed(capsys, "--user", *servers))


def test_the_socket(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ListenStream=127.0.0.1:8080" in lines(printed(capsys, "--socket"))
    found = lines(printed(capsys, "--socket", "--CondaStoreServer.address=::1", "--port=90"))
    assert "ListenStream=[::1]:90" in found
    found = lines(printed(capsys, "--socket", *UNUSUAL["a Unix socket"]))
    assert found[3:5] == ["ListenStream=/run/condastore/http.sock", "SocketMode=666"]
    service = lines(printed(capsys, *UNUSUAL["a Unix socket"]))
    assert "RuntimeDirectory=condastore" in service
    # The service must leave the socket where it is when it stops.
    assert "RuntimeDirectoryPreserve=yes" in service
    needed = "Requires=condastore.socket"
    assert needed in lines(printed(capsys, "--port=443"))
    assert needed not in service and needed not in lines(printed(capsys))


def test_a_program_that_the_account_can_not_run_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("condastore.systemd.unit._PRIVATE", [])
    (tmp_path / "closed" / "python").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "closed" / "python"))
    assert main(["systemd"]) == 1
    assert "the account condastore can't go through" in capsys.readouterr().err
    assert main(["systemd", "--user"]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data=/tmp/data"], "its /tmp is its own"),
        (["--socket", "--port=0"], "port is 0"),
        (["--config=/nowhere/config.py"], "there is no such file"),
    ],
)
def test_what_a_service_can_not_have_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["systemd", *arguments]) == 1
    assert sentence in capsys.readouterr().err
