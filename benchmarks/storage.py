"""What an upload to S3 costs beside aiobotocore's own loop, and a claim in a long queue."""

import asyncio
import io
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from condastore.database import Database
from condastore.storage.multipart import PART_BYTES
from condastore.storage.s3 import S3Storage
from condastore.tables import Task, TaskState
from condastore.tasks import TaskQueue
from devtools.servers import PostgreSQLServer, S3Server, running

GIB = 1024**3
QUEUED = 10_000
NAMESPACES = 20
CLAIMS = 50
MS = 1e3


def measure(scene: Scene) -> Table:
    """Uploads in turns with the loop; claims on both databases."""
    table = scene.table("Back ends", "aiobotocore's multipart loop, to the same server")
    asyncio.run(_uploads(scene, table))
    asyncio.run(_claims(scene, table))
    return table


async def _uploads(scene: Scene, table: Table) -> None:
    source = scene.fresh("upload") / "file"
    source.parent.mkdir(parents=True, exist_ok=True)
    _fill(source)
    server = S3Server(scene.fresh("s3"))
    with running(server):
        storage = S3Storage(**server.settings())
        await storage.open()
        ours, bare, grown = [], [], []
        for _ in range(max(scene.rounds, 3)):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.perf_counter()
            await storage.put_file("archive/a", source)
            ours.append(time.perf_counter() - began)
            grown.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
            began = time.perf_counter()
            await _bare(storage._client, storage.bucket_name, source)
            bare.append(time.perf_counter() - began)
        await storage.delete("archive/a")
        await storage.close()
    table.ratio("upload of 1 GiB", ours, bare, most=1 / 0.7)
    table.value("most memory that an upload added", [max(grown) / 1024**2], "MiB", most=64)


def _fill(path: Path) -> None:
    piece = os.urandom(PART_BYTES)
    with path.open("wb") as file:
        for _ in range(GIB // PART_BYTES):
            file.write(piece)


async def _bare(client: Any, bucket: str, path: Path) -> None:
    where = {"Bucket": bucket, "Key": "bare"}
    begun = await client.create_multipart_upload(**where)
    where["UploadId"] = begun["UploadId"]
    parts: list[dict[str, Any]] = []
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            number = len(parts) + 1
            answer = await client.upload_part(**where, PartNumber=number, Body=io.BytesIO(data))
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    await client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


async def _claims(scene: Scene, table: Table) -> None:
    await _claim_many(f"sqlite:///{scene.fresh('sqlite') / 'a.sqlite'}", "SQLite", table)
    # The user that PostgreSQL runs as must see its directory.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        server = PostgreSQLServer(Path(directory) / "server")
        with running(server):
            await _claim_many(server.url(), "PostgreSQL", table)


async def _claim_many(url: str, name: str, table: Table) -> None:
    database = Database(url)
    await database.open()
    rows = [{"kind": "build", "namespace": f"n{n % NAMESPACES}"} for n in range(QUEUED)]
    async with database.write() as session:
        await session.execute(insert(Task), rows)
    queue = TaskQueue(database, "benchmark")
    taken = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        claim = await queue.claim(["build"])
        taken.append((time.perf_counter() - began) * MS)
        assert claim is not None
        await queue.finish(claim.id, TaskState.DONE)
    await database.close()
    table.value(f"claim of one of {QUEUED} tasks on {name}", taken, "ms", most=5)


if __name__ == "__main__":
    run(measure)
