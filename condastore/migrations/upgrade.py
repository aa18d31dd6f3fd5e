"""Brings a database to the newest revision."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from condastore.errors import ConfigurationError
from condastore.faults import fault


def configuration() -> Config:
    """Returns Alembic's configuration; there is no alembic.ini, the daemon is its only user."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def upgrade(connection: Connection, current: str | None) -> None:
    """Runs the revisions that the database lacks, inside the connection's transaction.

    Raises `ConfigurationError` if this program doesn't know the revision `current`.
    """
    config = configuration()
    if current is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(current)
        except CommandError:
            raise ConfigurationError(
                f"the database's schema {current} is newer than this program: "
                "install the condastore that wrote it, or restore a backup from before"
            ) from None
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    fault("upgrade.migrated")
