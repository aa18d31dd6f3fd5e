"""The one error tree: the class decides the HTTP status, the message says what to do next.

CondaStoreError                    500
├── InvalidInput                   400  what was sent breaks a rule
│   └── InvalidSpecification       400  an environment.yaml or lockfile that can't be used
├── Unauthorized                   403  no permission, or not there
├── NotFound                       404
├── TooSlow                        408  a body that does not come
├── Conflict                       409
├── TooLarge                       413
├── Unprocessable                  422  a path, query or body that can't be parsed
├── Unavailable                    503  not now; try again later
│   ├── DatabaseUnavailable        503  the database
│   │   ├── DatabaseConflict       503  a deadlock with others
│   │   └── DatabaseFull           507  its disk is full
│   └── StorageUnavailable         503  the storage of artifacts; also an OSError
├── DiskFull                       507  nothing begins that takes space
├── RegistryError                       what a registry's client is told; its code has the status
├── ConfigurationError                  the daemon can't start like this
│   └── NotYet                          it may be able to later, by itself
└── BuildError                          a build failed; the text is shown to its user
"""

import errno
from typing import Any

# What keeps a file from being used until somebody mends it. Anything else, such as a server of
# files that does not answer, a disk with trouble or a full one, may pass.
_TO_BE_MENDED = (
    errno.EACCES,
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTDIR,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EROFS,
)

REGISTRY_CODES = {
    "BLOB_UNKNOWN": 404,
    "DENIED": 401,
    "DIGEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
}
"""The statuses of the codes that a registry answers with."""


class CondaStoreError(Exception):
    """An expected failure with a text that may be shown to whoever asked."""

    status = 500


class InvalidInput(CondaStoreError):
    """What was sent breaks a rule."""

    status = 400


class InvalidSpecification(InvalidInput):
    """A specification or lockfile that can't be used; one line per problem."""


class Unauthorized(CondaStoreError):
    """The caller lacks a permission."""

    status = 403

    def __init__(self, message: str = "request not authorized") -> None:
        super().__init__(message)


class NotFound(CondaStoreError):
    """What was named does not exist."""

    status = 404


class TooSlow(CondaStoreError):
    """A body that does not come."""

    status = 408


class Conflict(CondaStoreError):
    """The request contradicts the state of what it names."""

    status = 409


class TooLarge(CondaStoreError):
    """A body beyond its limit."""

    status = 413


class Unprocessable(CondaStoreError):
    """A path, query or body that can't be parsed; `detail` has FastAPI's shape (rest-api §2)."""

    status = 422

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(entry.get("msg", "")) for entry in detail))
        self.detail = detail


class Unavailable(CondaStoreError):
    """The daemon can't do it now."""

    status = 503
    retry_after_s = 10


class DatabaseUnavailable(Unavailable):
    """The database can't be used now; what was to be written was not."""

    def __init__(self, message: str = "the database can't be used now; try again later") -> None:
        super().__init__(message)


class DatabaseConflict(DatabaseUnavailable):
    """Others changed the same at the same time, and this transaction was rolled back for it."""


class DatabaseFull(DatabaseUnavailable):
    """The database's disk is full; what was to be written was not."""

    status = 507

    def __init__(
        self,
        message: str = "the disk of the database is full, or takes no more; nothing was changed. "
        "Try again: deleting and cancelling have some space kept for them",
    ) -> None:
        super().__init__(message)


class DiskFull(CondaStoreError):
    """There is no room for what is to be begun; the message says where, and what to do."""

    status = 507


class StorageUnavailable(Unavailable, OSError):
    """The storage can't be used now; whoever stores a file sees it as a disk's failure."""


class RegistryError(CondaStoreError):
    """What a container registry's client is told, with a code of the OCI distribution spec."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or REGISTRY_CODES[code]


class ConfigurationError(CondaStoreError):
    """The daemon can't start with this configuration or this state directory."""

    exit_status = 78
    """What it then ends with (EX_CONFIG): somebody has to mend something first."""


class NotYet(ConfigurationError):
    """Something that the daemon needs is not there now, and may be later."""

    exit_status = 1


def unusable(place: object, error: OSError, advice: str, what: str = "used") -> ConfigurationError:
    """Returns why the daemon can't start with a file or directory, and what to do about it.

    The advice is for what does not pass by itself.
    """
    if error.errno in _TO_BE_MENDED:
        return ConfigurationError(f"{place} can't be {what}: {error.strerror}; {advice}")
    return NotYet(f"{place} can't be {what} now: {error.strerror}; mend that, or try again later")


class BuildError(CondaStoreError):
    """A build failed for a reason that its user can read.

    `kind` is one of the child protocol's error kinds (docs/architecture.md).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
