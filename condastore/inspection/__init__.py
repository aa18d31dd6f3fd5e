"""Whether database, disk and storage say the same, and what is done where they don't (I15).

One module a subject; each yields `Finding`s, and those that can be mended know how.
"""
