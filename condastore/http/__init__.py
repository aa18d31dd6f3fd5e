"""The HTTP side: parse, one service call, serialise."""
