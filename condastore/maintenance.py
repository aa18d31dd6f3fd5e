"""What an operator does while no daemon runs: `condastore db` and `condastore storage`."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from traitlets.utils.importstring import import_item

from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.errors import ConfigurationError
from condastore.locks import DirectoryLock
from condastore.migrations import HEAD
from condastore.server_configuration import CondaStoreServer
from condastore.storage import LocalStorage, Storage
from condastore.transfer import copy_database, copy_storage
from condastore.wakeups import alone

DB_HELP = "say one of: condastore db upgrade, condastore db check, condastore db copy URL"
STORAGE_HELP = (
    "say: condastore storage copy FROM TO, where each is a class of storage that the configuration "
    "describes, such as LocalStorage or S3Storage"
)


def database_command(app: CondaStoreServer, words: Sequence[str]) -> int:
    """Brings the schema up to date, looks at it, or copies everything to another database."""
    config = CondaStore(parent=app)
    match words:
        case ["upgrade"]:
            return asyncio.run(_upgrade(config))
        case ["check"]:
            return asyncio.run(_check(config))
        case ["copy", url]:
            return asyncio.run(_copy_database(config, url))
    raise ConfigurationError(DB_HELP)


def storage_command(app: CondaStoreServer, words: Sequence[str]) -> int:
    """Copies all artifacts from one storage to another."""
    match words:
        case ["copy", source, target]:
            return asyncio.run(_copy_storage(app, source, target))
    raise ConfigurationError(STORAGE_HELP)


async def _upgrade(config: CondaStore) -> int:
    async with AsyncExitStack() as stack:
        _keep_daemons_out(config, stack)
        database = await _opened_alone(Database(config.database_url), stack)
        print(f"the schema is {await database.schema_version()}")
    return 0


async def _check(config: CondaStore) -> int:
    """Says which schema the database has; 1 if a daemon would have to change or refuse it."""
    async with AsyncExitStack() as stack:
        database = Database(config.database_url)
        stack.push_async_callback(database.close)
        found = await database.check()
        for problem in found:
            print(problem)
        if not found:
            print(f"the schema is {HEAD}, which this program works with, and the rows are sound")
    return 1 if found else 0


async def _copy_database(config: CondaStore, url: str) -> int:
    async with AsyncExitStack() as stack:
        _keep_daemons_out(config, stack)
        source = await _source(config, stack)
        target = await _opened_alone(Database(url), stack)
        for table, count in (await copy_database(source, target)).items():
            print(f"{table}: {count} rows")
    print("everything is copied; now set c.CondaStore.database_url")
    return 0


async def _copy_storage(app: CondaStoreServer, source: str, target: str) -> int:
    config = CondaStore(parent=app)
    data = Path(config.data_directory)
    async with AsyncExitStack() as stack:
        _keep_daemons_out(config, stack)
        if await asyncio.to_thread(lambda: any(data.glob("unstored/*.json"))):
            raise ConfigurationError(
                f"{data / 'unstored'} holds files that S3 has not taken yet: start the daemon once "
                "more, until condastore_storage_waiting is 0"
            )
        database = await _source(config, stack)
        storages = _storage(app, data, source), _storage(app, data, target)
        for storage in storages:
            await storage.open()
            stack.push_async_callback(storage.close)
        copied, missing = await copy_storage(database, *storages, data)
    print(f"{copied} artifacts copied; {missing} were missing in {source}")
    print("the rest was there already; now set c.CondaStore.storage_class")
    return 0


def _storage(app: CondaStoreServer, data: Path, name: str) -> Storage:
    try:
        found: Any = import_item(name if "." in name else f"condastore.storage.{name}")
    except (ImportError, AttributeError):
        raise ConfigurationError(f"there is no storage {name}; {STORAGE_HELP}") from None
    if not (isinstance(found, type) and issubclass(found, Storage)):
        raise ConfigurationError(f"{name} is no storage; {STORAGE_HELP}")
    storage = found(parent=app)
    if isinstance(storage, LocalStorage) and not storage.storage_path:
        storage.storage_path = str(data / "storage")
    return storage


async def _source(config: CondaStore, stack: AsyncExitStack) -> Database:
    return await _opened_alone(Database(config.database_url, upgrade=config.upgrade_db), stack)


async def _opened_alone(database: Database, stack: AsyncExitStack) -> Database:
    """Opens a database and keeps daemons out of it, also those of other machines."""
    stack.push_async_callback(database.close)
    await stack.enter_async_context(alone(database))
    await database.open()
    return database


def _keep_daemons_out(config: CondaStore, stack: AsyncExitStack) -> None:
    """Raises `ConfigurationError` if a daemon runs on the data directory."""
    lock = DirectoryLock(Path(config.data_directory) / "daemon.lock")
    lock.acquire()
    stack.callback(lock.release)
