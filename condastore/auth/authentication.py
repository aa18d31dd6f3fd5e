"""How people sign in: `CondaStoreServer.authentication_class` is one of these classes."""

import hmac
from dataclasses import dataclass

from traitlets import Dict, Integer, List, Unicode
from traitlets.config import LoggingConfigurable

from condastore.access import Bindings
from condastore.auth.tokens import AdminToken
from condastore.errors import ConfigurationError, InvalidInput
from condastore.names import check_name

ADMIN = ("admin",)


@dataclass(frozen=True)
class Identity:
    """Who somebody proved to be by signing in."""

    primary_namespace: str
    role_bindings: Bindings


class Authentication(LoggingConfigurable):
    """What all login back ends share."""

    cookie_name = Unicode("conda-store-auth", help="Name of the cookie with the token.").tag(
        config=True
    )

    cookie_domain = Unicode(
        None, allow_none=True, help="Domain of the cookie. Default: the host of the request."
    ).tag(config=True)

    login_html = Unicode(help="Text for the login page, as HTML that is trusted.").tag(config=True)

    login_lifetime = Integer(
        24 * 3600, min=60, help="Seconds for which somebody stays signed in."
    ).tag(config=True)

    admin_users = List(Unicode(), help="Users that are administrators.").tag(config=True)

    user_role_bindings = Dict(
        {"{username}/*": ["admin"]},
        help="Roles of everybody who signs in, by arn pattern; `{username}` is the user's name.",
    ).tag(config=True)

    def check(self) -> None:
        """Raises `ConfigurationError` if nobody could sign in like this."""

    def identity(self, username: str) -> Identity | None:
        """Returns what a user may do; None for a name that can't be that of a namespace."""
        try:
            name = check_name(username)
        except InvalidInput:
            return None
        bindings = {
            pattern.replace("{username}", name): tuple(roles)
            for pattern, roles in self.user_role_bindings.items()
        }
        if name in self.admin_users:
            bindings["*/*"] = ADMIN
        return Identity(name, bindings)


class PasswordAuthentication(Authentication):
    """Signing in with a name and a password."""

    async def authenticate(self, username: str, password: str) -> Identity | None:
        """Returns who this is; None if it isn't so."""
        raise NotImplementedError


class TokenAuthentication(PasswordAuthentication):
    """Signing in with the admin token, which the daemon prints at its start, as the password."""

    admin_token: AdminToken
    """Set by the daemon."""

    user_role_bindings = Dict(
        {"*/*": ["admin"]},
        help="Roles of whoever has the admin token, by arn pattern; `{username}` is his name.",
    ).tag(config=True)

    async def authenticate(self, username: str, password: str) -> Identity | None:
        """Returns an administrator if the password is the admin token."""
        return self.identity(username) if self.admin_token.is_text(password) else None


class DummyAuthentication(PasswordAuthentication):
    """One password for everybody, who all are administrators: for tests and demonstrations."""

    password = Unicode(
        None,
        allow_none=True,
        help="The password, which has no default; an empty one lets everybody in.",
    ).tag(config=True)

    user_role_bindings = Dict(
        {"*/*": ["admin"]},
        help="Roles of everybody who signs in, by arn pattern; `{username}` is the user's name.",
    ).tag(config=True)

    def check(self) -> None:
        """Raises `ConfigurationError` without a password."""
        if self.password is None:
            raise ConfigurationError(
                "DummyAuthentication has no password: set c.DummyAuthentication.password; an empty "
                "one lets everybody in"
            )

    async def authenticate(self, username: str, password: str) -> Identity | None:
        """Returns an administrator if the password is right."""
        right = not self.password or hmac.compare_digest(password.encode(), self.password.encode())
        return self.identity(username) if right else None
