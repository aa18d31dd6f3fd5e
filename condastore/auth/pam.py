"""Signing in as a user of the workstation, by PAM."""

import asyncio
import grp
import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from traitlets import Bool, Dict, Integer, List, Unicode

from condastore.auth.authentication import ADMIN, Identity, PasswordAuthentication
from condastore.errors import ConfigurationError, Unavailable

# PAM takes seconds to refuse, on purpose.
AT_ONCE = 4
WAITING = 50


class PAMAuthentication(PasswordAuthentication):
    """Signing in as a user of the workstation; the primary namespace is the user's name."""

    service = Unicode("login", help="PAM service that checks the password.").tag(config=True)

    allowed_groups = List(
        Unicode(), help="Groups of the system whose members may sign in; empty for everybody."
    ).tag(config=True)

    admin_groups = List(
        Unicode(), help="Groups of the system whose members are administrators."
    ).tag(config=True)

    group_role_bindings = Dict(
        help="""Roles of the members of the system's groups: a dictionary of the group's name to
        `{pattern: [role, ...]}`.""",
    ).tag(config=True)

    allow_root = Bool(False, help="Let root sign in.").tag(config=True)

    timeout = Integer(30, min=1, help="Seconds that PAM may take.").tag(config=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pam")
        self._asked = 0

    def check(self) -> None:
        """Raises `ConfigurationError` if PAM can't be used."""
        try:
            import pamela  # noqa: F401
        except (ImportError, OSError) as error:
            raise ConfigurationError(
                f"PAMAuthentication needs pamela and libpam ({error}): install condastore[pam]"
            ) from error

    async def authenticate(self, username: str, password: str) -> Identity | None:
        """Returns a user of the workstation whose password and account PAM accepts.

        Raises `Unavailable` when PAM does not answer, or too many wait for it.
        """
        if self._asked >= AT_ONCE + WAITING:
            raise Unavailable("too many sign in at once; try again in a minute")
        self._asked += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._groups_of, username, password
        )
        work.add_done_callback(self._answered)
        try:
            groups = await asyncio.wait_for(asyncio.shield(work), self.timeout)
        except TimeoutError:
            raise Unavailable("PAM does not answer; try again") from None
        return None if groups is None else self._identity(username, groups)

    def _answered(self, _: object) -> None:
        self._asked -= 1

    def _identity(self, username: str, groups: set[str]) -> Identity | None:
        identity = self.identity(username)
        if identity is None or (self.allowed_groups and not groups & set(self.allowed_groups)):
            return None
        bindings = dict(identity.role_bindings)
        for group in sorted(groups & set(self.group_role_bindings)):
            for pattern, roles in self.group_role_bindings[group].items():
                bindings[pattern] = (*bindings.get(pattern, ()), *roles)
        if groups & set(self.admin_groups):
            bindings["*/*"] = ADMIN
        return Identity(identity.primary_namespace, bindings)

    def _groups_of(self, username: str, password: str) -> set[str] | None:
        """Returns the groups of a user; None if the password or the account is refused."""
        import pamela

        # PAM reads C strings: what follows a NUL would be ignored.
        if not username or "\0" in username + password:
            return None
        try:
            # It checks the account too, which may be locked while its password is right.
            pamela.authenticate(username, password, service=self.service, resetcred=0)
            user = pwd.getpwnam(username)
        except (pamela.PAMError, KeyError, UnicodeError):
            return None
        if user.pw_uid == 0 and not self.allow_root:
            return None
        return {_group_name(gid) for gid in os.getgrouplist(username, user.pw_gid)}


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
