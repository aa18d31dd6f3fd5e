"""The daemon's log in systemd's journal, by its native protocol: a datagram of fields a line.

`journalctl CONDASTORE_BUILD_ID=17` then shows what happened in one build.
"""

import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping

from condastore import correlation

SOCKET = "/run/systemd/journal/socket"
# A datagram has to fit into a socket's buffer, 200 kB as a rule.
MESSAGE_CHARACTERS = 32 * 1024
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG = 7
# Control characters, separators of lines, and marks of a text's direction.
_UNSEEN = (range(0x20), range(0x7F, 0xA0), range(0x2028, 0x202F), range(0x2066, 0x206A))
_SHOWN = {number: ascii(chr(number))[1:-1] for numbers in _UNSEEN for number in numbers} | {
    ord("\t"): "\t",
    ord("\n"): "\n    ",
}


def is_journal(environment: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether what is written to a descriptor, standard error, goes to the journal."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def priority(level: int) -> int:
    """Returns syslog's number for a level of the log."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


class PlainFormatter(logging.Formatter):
    """What the record says, as text that can't pass for another line of the log.

    A message may quote a package or a request. So what follows its first line is indented, and
    characters that move the cursor or turn the writing round are shown by their numbers.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Returns it."""
        return super().format(record).translate(_SHOWN)


def text_of(handler: logging.Handler, record: logging.LogRecord) -> str:
    """Returns a line as a handler has it, also one whose arguments don't fit it."""
    try:
        return handler.format(record)
    except Exception as error:
        return f"{record.msg!r} can't be written with its arguments: {error}"


class JournalHandler(logging.Handler):
    """Sends lines to the journal. What it does not take at once is lost, and counted."""

    def __init__(self, path: str = SOCKET) -> None:
        """Raises `OSError` if there is no journal at this path."""
        super().__init__()
        # The rest is in fields of its own.
        self.setFormatter(PlainFormatter())
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileNotFoundError(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._path = path
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a line."""
        fields = dict(self._fields(record, text_of(self, record)))
        if self._lost:
            fields["CONDASTORE_LOST_LINES"] = str(self._lost)
        try:
            self._socket.sendto(datagram(fields), self._path)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def _fields(self, record: logging.LogRecord, text: str) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", text[:MESSAGE_CHARACTERS]
        yield "PRIORITY", str(priority(record.levelno))
        yield "SYSLOG_IDENTIFIER", "condastore"
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", record.funcName or ""
        for name, value in correlation.current():
            yield f"CONDASTORE_{name.upper()}_ID", value

    def close(self) -> None:
        """Ends it."""
        self._socket.close()
        super().close()


def datagram(fields: Mapping[str, str]) -> bytes:
    """Returns fields as the journal's native protocol has them."""
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    # A value of several lines says how long it is.
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
