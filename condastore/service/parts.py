"""What the use cases work with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from condastore.auth import Identities
from condastore.builders.links import Links
from condastore.builders.making import Making
from condastore.builders.solves import Solves
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.disk import Disk
from condastore.hooks import Hooks
from condastore.indexer import Indexer
from condastore.metrics import Metrics
from condastore.package_index import PackageIndex
from condastore.pool import Pool
from condastore.prefixes import Store
from condastore.settings import Settings
from condastore.storage import Storage
from condastore.streams import LogHub
from condastore.tally import Tally

if TYPE_CHECKING:
    # It imports the client of Redis, which few need.
    from condastore.streams.redis import RedisLogs


@dataclass(frozen=True)
class Parts:
    """The parts of a running daemon."""

    config: CondaStore
    defaults: Settings
    """The settings that the configuration starts with."""
    database: Database
    pool: Pool
    logs: LogHub
    storage: Storage
    store: Store
    identities: Identities
    solves: Solves
    making: Making
    metrics: Metrics
    hooks: Hooks
    index: PackageIndex
    indexer: Indexer
    disk: Disk
    links: Links
    tally: Tally
    redis: "RedisLogs | None" = None
    """Where other daemons' logs can be followed."""
