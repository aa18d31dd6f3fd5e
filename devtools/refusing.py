"""`python -m devtools.refusing EMLINK COMMAND...`: runs a command in which hard links fail.

As on a file system that has none (EPERM), between two (EXDEV), or of a file that has as many as
there may be (EMLINK). The kernel itself refuses, by a seccomp filter, so it does for Rust as well.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06
_ALLOWED, _ERROR = 0x7FFF0000, 0x00050000
# link, which arm64 does not have, and linkat.
_CALLS = {"x86_64": (86, 265), "aarch64": (37,)}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_hard_links(number: int) -> None:
    """Lets every hard link fail with an error number, in this process and those that it starts."""
    calls = _CALLS[platform.machine()]
    steps = [(_LOAD, 0, 0, 0)]
    steps += [(_EQUALS, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _ALLOWED), (_RETURN, 0, 0, _ERROR | number)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or prctl(_SECCOMP, _FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def main() -> None:
    """Becomes the command."""
    refuse_hard_links(getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
