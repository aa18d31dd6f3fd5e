"""Sockets that systemd opened before it started the daemon (sd_listen_fds)."""

import os
from collections.abc import MutableMapping

from condastore.errors import ConfigurationError

FIRST = 3


def inherited(environment: MutableMapping[str, str]) -> int | None:
    """Returns the descriptor of the inherited socket; None if there is none for this process.

    The variables go, so that no child believes that it is meant. Raises `ConfigurationError` for
    more than one socket.
    """
    process = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise ConfigurationError(
            f"{count} sockets were passed on, and condastore listens on one: leave one Listen... "
            "line in condastore.socket"
        )
    os.set_inheritable(FIRST, False)
    return FIRST
