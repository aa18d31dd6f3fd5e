"""Who asks, and what they may do.

Roles and bindings come with users; until then there is the administrator, who holds the admin
token, and everybody else on this machine, who may read.
"""

from dataclasses import dataclass

from condastore.errors import Unauthorized


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request."""

    is_admin: bool

    def require(self, permission: str, arn: str) -> None:
        """Raises `Unauthorized` unless the caller has a permission (rest-api §12) on `arn`."""
        if not self.is_admin and not permission.endswith("::read"):
            raise Unauthorized


ANONYMOUS = Caller(is_admin=False)
ADMINISTRATOR = Caller(is_admin=True)
