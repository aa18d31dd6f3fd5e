"""Make a local channel from the command line."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from devtools.localchannel.channel import ChannelIncomplete, default_cache, make_channel
from devtools.localchannel.downloads import DownloadFailed
from devtools.localchannel.relocation import UnsupportedInterpreter
from devtools.localchannel.synthetic import DEFAULT_RECORDS
from devtools.localchannel.variants import NAMES


def main() -> int:
    """Parse the command line, make the channel and say where it is."""
    arguments = _parser().parse_args()
    started = time.monotonic()
    try:
        channel = make_channel(
            arguments.variant, arguments.output, arguments.cache, records=arguments.records
        )
    except (ChannelIncomplete, DownloadFailed, UnsupportedInterpreter, OSError) as error:
        print(f"localchannel: {error}", file=sys.stderr)
        return 1
    print(f"{channel} ({time.monotonic() - started:.1f} s)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.localchannel",
        description="Make a conda channel from the running Python and wheels from PyPI.",
    )
    parser.add_argument("--variant", choices=NAMES, default="small", help="default: small")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        metavar="DIR",
        help="where downloaded wheels are kept (default: the user's cache directory)",
    )
    parser.add_argument(
        "--records",
        type=int,
        default=DEFAULT_RECORDS,
        metavar="N",
        help=f"size of the synthetic variant (default: {DEFAULT_RECORDS})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
