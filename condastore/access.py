"""Who may do what, where: permissions, roles, and bindings of roles to patterns (rest-api §12).

An arn names what a permission is about: `namespace/environment`, `namespace`, or nothing for the
whole daemon. A binding gives roles on all arns that its pattern matches.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from condastore.errors import InvalidInput, Unauthorized
from condastore.names import matches_pattern, shorten

Bindings = Mapping[str, tuple[str, ...]]
"""Roles by arn pattern."""

PERMISSIONS = {
    "environment:create": "queue builds of an environment",
    "environment::read": "see an environment, its builds, logs and artifacts",
    "environment::update": "rebuild an environment, and choose its current build",
    "environment::delete": "delete an environment",
    "environment::solve": "solve a specification without building it",
    "build::cancel": "cancel a build",
    "build::delete": "delete a build's files",
    "namespace::create": "make a namespace",
    "namespace::read": "see a namespace",
    "namespace::update": "change a namespace's metadata",
    "namespace::delete": "delete a namespace with all it holds",
    "namespace-role-mapping::create": "open a namespace to others",
    "namespace-role-mapping::read": "see who a namespace is open to",
    "namespace-role-mapping::update": "change what others may do in a namespace",
    "namespace-role-mapping::delete": "close a namespace to others",
    "setting::read": "see settings",
    "setting::update": "change settings",
}
_VIEWER = {"environment::read", "namespace::read", "namespace-role-mapping::read"}
_DEVELOPER = _VIEWER | {
    "environment:create",
    "environment::update",
    "environment::solve",
    "build::cancel",
    "setting::read",
}
DEFAULT_ROLES: dict[str, list[str]] = {
    "viewer": sorted(_VIEWER),
    "editor": sorted(_DEVELOPER),
    "admin": sorted(PERMISSIONS),
}

# What a binding to some environments of a namespace allows on the namespace itself.
_FROM_INSIDE = frozenset({"namespace::read"})
EVERYTHING = "*/*"
ANONYMOUS = "anonymous"
ADMIN_TOKEN = "admin token"
MAX_PATTERN_LENGTH = 255


def role_name(role: str) -> str:
    """Returns the stored name of a role: `editor` is the newer word for `developer`."""
    return "developer" if role == "editor" else role


def check_pattern(pattern: str) -> str:
    """Returns an arn pattern, or raises `InvalidInput` if it isn't `namespace/name` with `*`."""
    namespace, slash, name = pattern.partition("/")
    if (
        not slash
        or len(pattern) > MAX_PATTERN_LENGTH
        or not all(matches_pattern(part.replace("*", "x")) for part in (namespace, name))
    ):
        raise InvalidInput(f"invalid entity={shorten(pattern)}")
    return pattern


def matches(pattern: str, arn: str) -> bool:
    """Whether a pattern matches an arn; one without a name is matched by its namespace alone."""
    pattern_namespace, _, pattern_name = pattern.partition("/")
    namespace, slash, name = arn.partition("/")
    return _matches_part(pattern_namespace, namespace) and (
        not slash or _matches_part(pattern_name, name)
    )


def covers(pattern: str, other: str) -> bool:
    """Whether everything that `other` matches is matched by `pattern`."""
    return all(map(_glob, pattern.split("/"), other.split("/")))


def _matches_part(pattern: str, name: str) -> bool:
    return (not name or matches_pattern(name)) and _glob(pattern, name)


def _glob(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern with `*`; no backtracking, so no pattern is slow."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    *middle, last = others
    end = len(text) - len(last)
    position = len(first)
    if position > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request, and what they may do."""

    primary_namespace: str
    bindings: Bindings
    grants: Mapping[str, frozenset[str]]
    """Permissions by arn pattern: the bindings with their roles spelled out."""
    user: str | None = None
    """Who signed in; nobody for anonymous callers, minted tokens and the admin token."""
    authenticated: bool = True
    expiration: datetime | None = None
    """When the token ends, with an offset; None if it doesn't, or there is none."""
    actor: str = ANONYMOUS
    """Who answers for what is done, in the audit log: a user, also for the tokens he made."""
    token_id: int | None = None
    """The minted token that is used, by the number that its maker sees."""

    @property
    def signature(self) -> str:
        """Who did something, and with which token, for people."""
        used = "" if self.token_id is None else f" (token {self.token_id})"
        return f"{self.actor}{used}"

    def allows(self, permission: str, arn: str) -> bool:
        """Whether the caller has a permission on an arn."""
        return any(
            permission in _reaching(pattern, arn, granted)
            for pattern, granted in self.grants.items()
            if matches(pattern, arn)
        )

    def require(self, permission: str, arn: str) -> None:
        """Raises `Unauthorized` unless the caller has a permission on an arn."""
        if not self.allows(permission, arn):
            raise Unauthorized

    def allows_somewhere(self, permission: str) -> bool:
        """Whether there is anything that the caller has a permission on."""
        return any(permission in granted for granted in self.grants.values())

    def patterns(self, permission: str) -> Iterator[str]:
        """Yields the patterns of what the caller has a permission on."""
        return (pattern for pattern, granted in self.grants.items() if permission in granted)

    def may_grant(self, pattern: str, permissions: Iterable[str]) -> bool:
        """Whether the caller has all these permissions on all that a pattern matches."""
        held = [granted for own, granted in self.grants.items() if covers(own, pattern)]
        return frozenset(permissions) <= frozenset().union(*held)


def _reaching(pattern: str, arn: str, granted: frozenset[str]) -> frozenset[str]:
    """What a matching binding grants there: a part of a namespace is not the namespace."""
    if "/" in arn or not pattern.partition("/")[2].strip("*"):
        return granted
    return granted & _FROM_INSIDE


@dataclass(frozen=True)
class AccessPolicy:
    """What roles mean, and what is bound to everybody."""

    roles: Mapping[str, frozenset[str]]
    unauthenticated: Bindings
    authenticated: Bindings

    @classmethod
    def of(
        cls,
        role_mappings: Mapping[str, Iterable[str]],
        unauthenticated: Mapping[str, Iterable[str]],
        authenticated: Mapping[str, Iterable[str]],
    ) -> "AccessPolicy":
        """Returns a policy from what the configuration says. Raises `InvalidInput`."""
        roles = {role_name(role): frozenset(given) for role, given in role_mappings.items()}
        for role, given in roles.items():
            unknown = sorted(given - PERMISSIONS.keys())
            if unknown:
                raise InvalidInput(f"role {role!r} has unknown permissions {unknown}")
        policy = cls(roles, {}, {})
        return cls(roles, policy.checked(unauthenticated), policy.checked(authenticated))

    def checked(self, bindings: Mapping[str, Iterable[str]]) -> Bindings:
        """Returns bindings with the stored names of their roles. Raises `InvalidInput`."""
        return {
            check_pattern(pattern): tuple(self.check_role(role) for role in roles)
            for pattern, roles in bindings.items()
        }

    def check_role(self, role: str) -> str:
        """Returns the stored name of a role. Raises `InvalidInput` if there is none."""
        name = role_name(role)
        if name not in self.roles:
            raise InvalidInput(f"invalid role={shorten(role)}")
        return name

    def permissions(self, roles: Iterable[str]) -> frozenset[str]:
        """Returns what roles allow; one that the configuration has no longer allows nothing."""
        return frozenset().union(*(self.roles.get(role_name(role), ()) for role in roles))

    def caller(
        self,
        primary_namespace: str,
        *layers: Bindings,
        user: str | None = None,
        expiration: datetime | None = None,
        actor: str = ANONYMOUS,
        token_id: int | None = None,
    ) -> Caller:
        """Returns a signed-in caller; in the layers, later ones replace a pattern's roles."""
        bindings = dict(self.authenticated)
        for layer in layers:
            bindings |= layer
        return Caller(
            primary_namespace,
            bindings,
            self._grants(bindings),
            user,
            expiration=expiration,
            actor=actor,
            token_id=token_id,
        )

    def anonymous(self, default_namespace: str) -> Caller:
        """Returns who sends no valid token."""
        return Caller(
            default_namespace,
            self.unauthenticated,
            self._grants(self.unauthenticated),
            authenticated=False,
        )

    def _grants(self, bindings: Bindings) -> dict[str, frozenset[str]]:
        return {pattern: self.permissions(roles) for pattern, roles in bindings.items()}


ADMINISTRATOR = Caller(
    "default",
    {EVERYTHING: ("admin",)},
    {EVERYTHING: frozenset(PERMISSIONS)},
    actor=ADMIN_TOKEN,
)
"""Who holds the admin token, and the daemon itself."""
