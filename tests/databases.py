"""The databases that the tests run against; another one is another entry here."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from condastore.database import Database

URLS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda directory: f"sqlite:///{directory / 'condastore.sqlite'}",
}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database with the newest schema."""
    database = Database(url)
    try:
        await database.open()
        yield database
    finally:
        await database.close()
