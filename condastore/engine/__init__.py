"""Everything that runs in a child process; it imports nothing of the rest of condastore.

`python -I -m condastore.engine` reads one job from its standard input and writes events to file
descriptor 3 (docs/architecture.md, "The child protocol").
"""
