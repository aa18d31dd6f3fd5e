"""What a login back end makes of a name."""

import pytest

from condastore.auth import DummyAuthentication, TokenAuthentication
from condastore.auth.authentication import Authentication
from condastore.errors import ConfigurationError


def test_everybody_is_the_admin_of_his_own_namespace() -> None:
    identity = Authentication().identity("ada")
    assert identity is not None
    assert identity.primary_namespace == "ada"
    assert identity.role_bindings == {"ada/*": ("admin",)}


def test_administrators_are_named() -> None:
    identity = Authentication(admin_users=["ada"]).identity("ada")
    assert identity is not None
    assert identity.role_bindings == {"ada/*": ("admin",), "*/*": ("admin",)}


@pytest.mark.parametrize("name", ["", "a/b", "*", "..", "a b", "x" * 300])
def test_a_name_that_can_be_no_namespace_is_nobody(name: str) -> None:
    assert Authentication().identity(name) is None


async def test_there_is_no_default_password() -> None:
    with pytest.raises(ConfigurationError, match=r"set c\.DummyAuthentication\.password"):
        DummyAuthentication().check()
    assert await DummyAuthentication(password="").authenticate("ada", "any") is not None
    assert await DummyAuthentication(password="é").authenticate("ada", "é") is not None
    assert await DummyAuthentication(password="é").authenticate("ada", "e") is None


def test_the_default_back_end_needs_no_configuration() -> None:
    TokenAuthentication().check()
