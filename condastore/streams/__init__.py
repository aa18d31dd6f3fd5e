"""Live logs of builds: append-only text that many read while one writes."""

from condastore.streams.hub import LogHub
from condastore.streams.log import BuildLog, Ended, Happened, Position, Text
from condastore.streams.stored import read_file, search_start, whole_characters

__all__ = [
    "BuildLog",
    "Ended",
    "Happened",
    "LogHub",
    "Position",
    "Text",
    "read_file",
    "search_start",
    "whole_characters",
]
