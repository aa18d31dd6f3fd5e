"""The daemon's log: in systemd's journal, or on standard error. It never holds the daemon up."""

import logging
import os
import select
from contextlib import suppress

from condastore import correlation
from condastore.systemd.journal import JournalHandler, PlainFormatter, is_journal, priority, text_of

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2
# So much a pipe that says that it can be written to takes for sure (PIPE_BUF).
_PIECE = 4096


def begin(level: int) -> None:
    """Begins to log."""
    logging.basicConfig(handlers=[_handler()])
    set_level(level)


def set_level(level: int) -> None:
    """Sets the lowest level of what is logged; libraries tell of what is wrong only."""
    logging.getLogger().setLevel(level)
    for library in ("aiosqlite", "alembic", "hypercorn"):
        logging.getLogger(library).setLevel(max(level, logging.WARNING))


def keep_standard_streams() -> None:
    """Opens standard streams that are closed: otherwise the next file would take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)


def write(descriptor: int, data: bytes) -> bool:
    """Writes as far as it goes without waiting; returns whether it could be written whole."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        for start in range(0, len(data), _PIECE):
            if not poll.poll(0):
                return False
            os.write(descriptor, data[start : start + _PIECE])
    except OSError:
        return False
    return True


def _handler() -> logging.Handler:
    """Returns what is best for who reads the log."""
    in_journal = is_journal(os.environ)
    if in_journal:
        with suppress(OSError):
            return JournalHandler()
    return DescriptorHandler(STANDARD_ERROR, in_journal=in_journal)


class DescriptorHandler(logging.Handler):
    """Writes lines to a descriptor as far as it takes them; what it doesn't is lost, and counted.

    The reader of a pipe may have gone, or not read any more.
    """

    def __init__(self, descriptor: int, *, in_journal: bool = False) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._in_journal = in_journal
        self._lost = 0
        self.setFormatter(_Formatter(in_journal=in_journal))

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        line = text_of(self, record)
        if self._lost:
            line = f"({self._lost} lines before this one could not be written)\n{line}"
        if write(self._descriptor, f"{line}\n".encode("utf-8", "replace")):
            self._lost = 0
        else:
            self._lost += 1


class _Formatter(PlainFormatter):
    """A line for people, with the ids of what it belongs to; the journal has the time itself."""

    def __init__(self, *, in_journal: bool) -> None:
        form = "%(name)s: %(ids)s%(message)s"
        super().__init__(form if in_journal else f"%(asctime)s %(levelname)s {form}")
        self._in_journal = in_journal

    def format(self, record: logging.LogRecord) -> str:
        """Returns it."""
        record.ids = "".join(f"[{name} {value}] " for name, value in correlation.current())
        text = super().format(record)
        if self._in_journal:
            mark = f"<{priority(record.levelno)}>"
            text = "\n".join(f"{mark}{line}" for line in text.split("\n"))
        return text
