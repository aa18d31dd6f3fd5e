"""`condastore check`: the inspection of a data directory whose daemon does not run."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from traitlets.config import Configurable

from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.errors import CondaStoreError, ConfigurationError
from condastore.image_configuration import ContainerRegistry
from condastore.inspection.findings import Finding, mend_all
from condastore.inspection.inspector import empty_trash, inspect
from condastore.inspection.packages import inspect_packages
from condastore.inspection.report import Progress, as_json, as_text
from condastore.inspection.scene import Scene
from condastore.locks import DirectoryLock
from condastore.migrations import HEAD
from condastore.prefixes import Store
from condastore.storage import LocalStorage, Storage
from condastore.storage.outbox import Outbox

CLEAN, FOUND, NOT_CHECKED = 0, 1, 2
# What is mended may uncover something else, such as the link of an environment without a build.
_ROUNDS = 3


def check_command(app: Configurable, *, repair: bool, json: bool, hashes: bool) -> int:
    """Prints what is wrong; returns 0 if nothing is left of it, 1 if something is.

    With `hashes` it also reads every file of the package store.

    Raises `ConfigurationError` where it can't be checked, as while a daemon runs.
    """
    findings, failures, left = asyncio.run(_check(app, repair=repair, hashes=hashes))
    problems = _problems(left)
    if json:
        print(as_json(findings, failures))
    else:
        _print(findings, problems, failures, repair=repair)
    return FOUND if problems else CLEAN


def _print(
    findings: Sequence[Finding], left: Sequence[Finding], failures: Sequence[str], *, repair: bool
) -> None:
    count = len(_problems(findings))
    if findings:
        print(as_text(findings))
    if not count:
        print("database, disk and storage agree, and nothing is left over")
        return
    for sentence in failures:
        print(sentence, file=sys.stderr)
    if not repair:
        print(f"{count} problems; condastore check --repair mends what it can")
    elif left:
        print(f"{count - len(left)} problems are mended; these are left:\n{as_text(left)}")
    else:
        print(f"all {count} problems are mended")


def _problems(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.is_problem]


async def _check(
    app: Configurable, *, repair: bool, hashes: bool
) -> tuple[list[Finding], list[str], list[Finding]]:
    """What was found, what could not be mended, and what is left."""
    try:
        async with _scene(app) as scene:
            by_hash = await inspect_packages(scene, Progress()) if hashes else []
            findings = left = [*await inspect(scene), *by_hash]
            failures: dict[Finding, str] = {}
            for _ in range(_ROUNDS if repair else 0):
                if not any(finding.mend for finding in left):
                    break
                failures = await mend_all(left)
                await empty_trash(scene)
                # Hashing everything once more would find what is left of this.
                by_hash = [each for each in by_hash if each.mend is None or each in failures]
                left = [*await inspect(scene), *by_hash]
            return findings, list(failures.values()), left
    except (SQLAlchemyError, sqlite3.Error, CondaStoreError, OSError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"this can't be checked: {error}") from error


@asynccontextmanager
async def _scene(app: Configurable) -> AsyncIterator[Scene]:
    config = CondaStore(parent=app)
    data, store = Path(config.data_directory), Store.of(config)
    for directory in (data, store.scratch, store.trash):
        if not directory.is_dir():
            raise ConfigurationError(f"there is no {directory}; set c.CondaStore.data_directory")
    async with AsyncExitStack() as stack:
        lock, store_lock = (
            DirectoryLock(path) for path in (data / "daemon.lock", store.root / ".daemon.lock")
        )
        for each in (lock, store_lock):
            each.acquire()
            stack.callback(each.release)
        database = Database(config.database_url, upgrade=False)
        stack.push_async_callback(database.close)
        await _check_schema(database)
        await database.open()
        storage = _storage(app, config, data)
        unfinished = _unfinished(storage)
        if storage.is_remote:
            # Opening files would remove what is half written, before it is seen.
            await storage.open()
            stack.push_async_callback(storage.close)
        grace_s = ContainerRegistry(parent=app).unknown_blob_grace
        identity = lock.identity()
        yield Scene(database, store, storage, data, unfinished, grace_s, identity)


def _storage(app: Configurable, config: CondaStore, data: Path) -> Storage:
    storage: Storage = config.storage_class(parent=app)
    if isinstance(storage, LocalStorage) and not storage.storage_path:
        storage.storage_path = str(data / "storage")
    return Outbox(storage, data / "unstored") if storage.is_remote else storage


def _unfinished(storage: Storage) -> Path | None:
    if not isinstance(storage, LocalStorage):
        return None
    return Path(storage.storage_path, ".unfinished")


async def _check_schema(database: Database) -> None:
    version = await database.schema_version() if database.is_made() else None
    if version is None:
        raise ConfigurationError("there is no database yet, so there is nothing to check")
    if version != HEAD:
        raise ConfigurationError(
            f"the schema is {version}, this program needs {HEAD}: see condastore db check"
        )
