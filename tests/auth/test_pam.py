"""Signing in as a user of this machine, by its real PAM."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from condastore.auth.pam import PAMAuthentication

SERVICES = Path("/etc/pam.d")

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not SERVICES.is_dir() or shutil.which("useradd") is None,
    reason="only root can make a user of the machine",
)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A PAM service that asks for the system's passwords."""
    path = SERVICES / f"condastore-{uuid.uuid4().hex[:8]}"
    path.write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
    try:
        yield path.name
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    """A user of the machine whose password is `right`."""
    name = f"cs{uuid.uuid4().hex[:8]}"
    subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:right\n", text=True, check=True)
        yield name
    finally:
        subprocess.run(["userdel", "--force", name], check=True, capture_output=True)


async def test_a_user_signs_in_with_the_systems_password(service: str, user: str) -> None:
    pam = PAMAuthentication(service=service)
    pam.check()
    identity = await pam.authenticate(user, "right")
    assert identity is not None
    assert identity.primary_namespace == user
    assert identity.role_bindings == {f"{user}/*": ("admin",)}


@pytest.mark.parametrize("password", ["wrong", "", "right\0", "\udcff", "x" * 100_000])
async def test_no_other_password_does(service: str, user: str, password: str) -> None:
    assert await PAMAuthentication(service=service).authenticate(user, password) is None


@pytest.mark.parametrize("name", ["", "nobody-of-this-name", "a/b", "root", "-x", "x\0"])
async def test_no_other_name_does(service: str, name: str) -> None:
    assert await PAMAuthentication(service=service).authenticate(name, "right") is None


async def test_groups_of_the_system_are_roles(service: str, user: str) -> None:
    grouped = PAMAuthentication(
        service=service, group_role_bindings={user: {"lab/*": ["developer"]}, "other": {}}
    )
    identity = await grouped.authenticate(user, "right")
    assert identity is not None
    assert identity.role_bindings == {f"{user}/*": ("admin",), "lab/*": ("developer",)}
    admin = await PAMAuthentication(service=service, admin_groups=[user]).authenticate(
        user, "right"
    )
    assert admin is not None and admin.role_bindings["*/*"] == ("admin",)
    closed = PAMAuthentication(service=service, allowed_groups=["other"])
    assert await closed.authenticate(user, "right") is None


@pytest.fixture
def locked(user: str) -> Iterator[str]:
    """The user, whose account has ended long ago."""
    subprocess.run(["chage", "--expiredate", "1", user], check=True)
    yield user
    subprocess.run(["chage", "--expiredate", "-1", user], check=True)


async def test_a_locked_account_is_refused(service: str, locked: str) -> None:
    """The password is still right."""
    assert await PAMAuthentication(service=service).authenticate(locked, "right") is None
