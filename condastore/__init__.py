"""condastore builds, versions and serves conda environments for everyone on a workstation."""

__version__ = "0.1.0"
