"""The unit for systemd, as strict as what the settings ask for allows."""

import os
import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from condastore.auth.pam import PAMAuthentication
from condastore.configuration import CondaStore, CondaStoreWorker
from condastore.errors import ConfigurationError
from condastore.http.listener import BACKLOG, RESERVED_FILES
from condastore.server_configuration import CondaStoreServer
from condastore.storage import LocalStorage
from condastore.systemd.notify import STOP_GRACE_S

USER = "condastore"
STATE = Path("/var/lib/condastore")
RUNTIME = Path("/run/condastore")
# A database may have to be brought up to date before the port opens.
START_S = 900
WATCHDOG_S = 60
# What a build's child, with the threads of its downloads, has of processes and threads.
TASKS_PER_BUILD = 512
# Those below are root's.
FIRST_FREE_PORT = 1024
_HOMES = [Path("/home"), Path("/root"), Path("/run/user")]
_PRIVATE = [Path("/tmp"), Path("/var/tmp")]

_HARDENING = """\
# What it may see and change
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RemoveIPC=yes
UMask=0077

# What it may become and ask of the kernel
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""


class Unit:
    """What `condastore.service` and `condastore.socket` say for one configuration."""

    def __init__(self, app: CondaStoreServer, options: Sequence[str], *, is_users: bool) -> None:
        """`options` are those that `app` was read with, and that the daemon gets as well.

        Raises `ConfigurationError` for what a service can't have.
        """
        self._app = app
        self._options = [o for o in options if not o.startswith(("--config=", "--data="))]
        self._is_users = is_users
        self._config = CondaStore(parent=app)
        self._worker = CondaStoreWorker(parent=app)
        self._is_default_data = "data_directory" not in app.config.get("CondaStore", {})
        if self._is_default_data and not is_users:
            self._config.data_directory = str(STATE)
        storage = self._config.storage_class(parent=app)
        self._storage_path = storage.storage_path if isinstance(storage, LocalStorage) else ""
        self._is_remote = not isinstance(storage, LocalStorage)
        self._has_pam = issubclass(app.authentication_class, PAMAuthentication)
        if not is_users:
            self._check_paths()

    def _check_paths(self) -> None:
        """Raises `ConfigurationError` for what a service of the account can't get at."""
        for path in [*self._program, *self._read, *self._written]:
            if _is_in(path, _PRIVATE):
                raise ConfigurationError(
                    f"{path} can't be used by a service: its /tmp is its own (PrivateTmp)"
                )
        for path in self._program:
            closed = next((up for up in reversed(path.parents) if _is_closed(up)), None)
            if closed is not None:
                raise ConfigurationError(
                    f"{path} is needed, and the account {USER} can't go through {closed}: install "
                    "condastore elsewhere, such as in /opt/condastore, and with a Python that "
                    "everyone can run, such as /usr/bin/python3"
                )

    def service(self) -> str:
        """Returns the service."""
        return "".join(f"{line}\n" for line in self._service())

    def socket(self) -> str:
        """Returns the socket, with which the service starts when somebody connects."""
        app = self._app
        if app.unix_socket:
            listening = [f"ListenStream={app.unix_socket}", f"SocketMode={app.unix_socket_mode}"]
        else:
            address = f"[{app.address}]" if ":" in app.address else app.address
            if not app.port:
                raise ConfigurationError("c.CondaStoreServer.port is 0: set the port to listen on")
            listening = [f"ListenStream={address}:{app.port}"]
        lines = [
            "# condastore.socket, written by `condastore systemd --socket`.",
            "[Unit]",
            "Description=Port of condastore",
            "",
            "[Socket]",
            *listening,
            f"Backlog={BACKLOG}",
            "",
            "[Install]",
            "WantedBy=sockets.target",
        ]
        return "".join(f"{line}\n" for line in lines)

    @property
    def _config_file(self) -> Path | None:
        return Path(self._app.config_file).absolute() if self._app.config_file else None

    @property
    def _written(self) -> list[Path]:
        """The directories that the daemon writes to, none of them inside of another."""
        config = self._config
        store = Path(config.store_directory)
        templates = (config.build_directory, config.environment_directory)
        found = [Path(config.data_directory), store]
        found += [_fixed(template, store) for template in templates]
        if self._storage_path:
            found.append(Path(self._storage_path).absolute())
        kind, _, database = config.database_url.partition(":///")
        if kind.startswith("sqlite"):
            found.append(Path(database).absolute().parent)
        if self._app.unix_socket and not self._is_users:
            found.append(Path(self._app.unix_socket).absolute().parent)
        distinct = sorted({Path(os.path.normpath(path)) for path in found})
        return [path for path in distinct if not any(up in distinct for up in path.parents)]

    @property
    def _prefixes(self) -> Path:
        """The directory that all builds are in."""
        return _fixed(self._config.build_directory, Path(self._config.store_directory))

    def _service(self) -> Iterator[str]:
        yield "# condastore.service, written by `condastore systemd` for these settings; write it"
        yield "# again after a change of directories, of the storage, or of how people sign in."
        yield from self._needed()
        yield "[Unit]"
        yield "Description=condastore: conda environments for everyone on this machine"
        # What it works with ends after it, so that it can still write down what it stops.
        yield f"After={' '.join(['network-online.target', *self._used()])}"
        yield "Wants=network-online.target"
        yield "StartLimitIntervalSec=0"
        if (
            not self._is_users
            and not self._app.unix_socket
            and 0 < self._app.port < FIRST_FREE_PORT
        ):
            yield "# Only systemd can open that port: see `condastore systemd --socket`."
            yield "Requires=condastore.socket"
            yield "After=condastore.socket"
        yield ""
        yield "[Service]"
        yield "Type=notify"
        yield "NotifyAccess=main"
        yield "SyslogIdentifier=condastore"
        yield f"ExecStart={self._command()}"
        yield "ExecReload=/bin/kill -HUP $MAINPID"
        yield f"TimeoutStartSec={START_S}"
        yield f"WatchdogSec={WATCHDOG_S}"
        yield "# It is started again however often it dies; not if somebody must mend something."
        yield "Restart=on-failure"
        yield "RestartSec=2"
        yield f"RestartPreventExitStatus={ConfigurationError.exit_status}"
        yield ""
        yield "# Builds get their time to finish; what is left of them then ends with the daemon."
        yield "KillMode=mixed"
        yield f"TimeoutStopSec={int(self._worker.drain_timeout) + STOP_GRACE_S}"
        yield "# A build that takes too much memory fails alone."
        yield "OOMPolicy=continue"
        yield f"LimitNOFILE={self._app.max_connections + 4 * RESERVED_FILES}"
        yield f"TasksMax={TASKS_PER_BUILD * (2 + self._tasks_at_once())}"
        yield ""
        if self._is_users:
            # The manager of a user may not do the rest.
            yield "UMask=0077"
            yield "NoNewPrivileges=yes"
            yield "LockPersonality=yes"
            yield "RestrictRealtime=yes"
            yield "SystemCallArchitectures=native"
        else:
            yield from self._account()
            yield from self._directories()
            yield from _HARDENING.splitlines()
            yield from self._privileges()
        yield ""
        yield "[Install]"
        yield "WantedBy=default.target" if self._is_users else "WantedBy=multi-user.target"

    def _used(self) -> Iterator[str]:
        """Yields the services that it uses, if they are on this machine; a unit may name others."""
        if self._is_users:
            # The manager of a user knows none of the system's.
            return
        if not self._config.database_url.startswith("sqlite"):
            yield "postgresql.service"
        if self._config.redis_url:
            yield "redis.service"

    def _needed(self) -> Iterator[str]:
        """Yields what must be there before the unit can start."""
        if self._is_users:
            return
        yield f"# It needs the account:  useradd --system --home-dir {STATE} {USER}"
        for path in self._written:
            if not _of_systemd(path):
                yield f"# and the directory:     install -d -o {USER} -g {USER} {path}"
        if self._config_file is not None:
            yield f"# which must be able to read {self._config_file}"

    def _command(self) -> str:
        words = [sys.executable, "-m", "condastore", "serve"]
        if self._config_file is not None:
            words.append(f"--config={self._config_file}")
        if not (self._is_default_data and self._is_users):
            words.append(f"--data={self._config.data_directory}")
        words += self._options
        # Percent signs and dollars have a meaning of their own in a unit.
        return " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in words)

    def _tasks_at_once(self) -> int:
        return (self._worker.concurrency or 1) + self._worker.artifact_concurrency

    def _account(self) -> Iterator[str]:
        yield f"User={USER}"
        yield f"Group={USER}"
        if self._has_pam:
            yield "# PAM's helper compares with /etc/shadow. It is no other user here, since"
            yield "# NoNewPrivileges= keeps setuid programs from being one."
            yield "SupplementaryGroups=shadow"

    def _directories(self) -> Iterator[str]:
        state, runtime, others = [], [], []
        for path in self._written:
            if path.is_relative_to("/var/lib") and path != Path("/var/lib"):
                state.append(str(path.relative_to("/var/lib")))
            elif path.is_relative_to("/run") and path.parent == Path("/run"):
                runtime.append(path.name)
            else:
                others.append(path)
        yield ""
        yield "# Where it writes. Who runs environments must be able to go through there."
        if state:
            yield f"StateDirectory={' '.join(state)}"
            yield "StateDirectoryMode=0755"
        if runtime:
            yield f"RuntimeDirectory={' '.join(runtime)}"
            # It may be condastore.socket's.
            yield "RuntimeDirectoryPreserve=yes"
        if not self._prefixes.is_relative_to(self._config.store_directory):
            yield "# Each line is a mount of its own, and build_directory is outside of the store:"
            yield "# environments can't share packages by hard links. See docs/deployment.md."
        for path in others:
            yield f"ReadWritePaths={path}"
        yield "ConfigurationDirectory=condastore"
        yield "ConfigurationDirectoryMode=0750"
        yield "LogsDirectory=condastore"
        yield "CacheDirectory=condastore"
        if any(_is_in(path, _HOMES) for path in (*others, *self._program, *self._read)):
            yield "# What it needs is in a home directory, so it sees them all."
            yield "ProtectHome=read-only"
        else:
            yield "ProtectHome=yes"
        yield ""

    @property
    def _program(self) -> list[Path]:
        return [Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix)]

    @property
    def _read(self) -> list[Path]:
        named = [self._app.config_file, self._app.certfile, self._app.keyfile]
        named += [self._app.ui_directory, self._config.conda_command, *self._worker.watch_paths]
        return [Path(name).absolute() for name in named if "/" in name]

    def _privileges(self) -> Iterator[str]:
        config = self._config
        gives_away = "default_uid" in config.config.get("CondaStore", {}) or (
            "default_gid" in config.config.get("CondaStore", {})
        )
        yield "NoNewPrivileges=yes"
        if gives_away:
            yield "# default_uid and default_gid: environments are given to another account, and"
            yield "# files that it owns are changed and removed later."
            yield "CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE"
            yield "AmbientCapabilities=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE"
            yield "SystemCallFilter=~@clock @module @raw-io @reboot @swap @obsolete"
        else:
            yield "CapabilityBoundingSet="
            yield "SystemCallFilter=~@privileged @obsolete"
        if not (gives_away or self._has_pam):
            # Other accounts would all be nobody.
            yield "PrivateUsers=yes"
        if len((config.default_permissions or "").lstrip("0")) <= 3:
            # Otherwise directories may have to hand their group on.
            yield "RestrictSUIDSGID=yes"
        if not self._is_remote:
            # S3 may take its credentials from the machine's own address in a cloud.
            yield "IPAddressDeny=link-local multicast"


def _fixed(template: str, store: Path) -> Path:
    """Returns the directory of a template that stands before all names that come later."""
    text = template.replace("{store_directory}", str(store)).partition("{")[0]
    return Path(os.path.normpath(text if text.endswith("/") else os.path.dirname(text)))


def _is_in(path: Path, directories: list[Path]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)


def _is_closed(directory: Path) -> bool:
    """Whether it is known that the account can't go through a directory."""
    try:
        mode, names = directory.stat().st_mode, (directory.owner(), directory.group())
    except (OSError, KeyError):
        return False
    return not (mode & stat.S_IXOTH or USER in names)


def _of_systemd(path: Path) -> bool:
    """Whether systemd makes a directory."""
    return path.is_relative_to("/var/lib") or path.parent == Path("/run")
