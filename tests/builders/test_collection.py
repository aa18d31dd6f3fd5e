"""What no image needs goes, after a while, and nothing else does (oci-registry §8, case 27)."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from condastore.builders import collection
from condastore.builders.collection import Collector
from condastore.builds import BuildStatus
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.image_configuration import ContainerRegistry
from condastore.image_rows import add_manifest, keep_blob, reuse_layers
from condastore.oci import blob_key, digest_of, digest_of_key
from condastore.pool import Run
from condastore.setting_rows import configured
from condastore.storage import LocalStorage
from condastore.tables import Blob, Build, Layer, Manifest, utcnow
from condastore.tasks import Claim
from tests.images import Made, artifact, give, image, index, store
from tests.rows import add_build

RUN = Run(Claim(1, "collect_blobs", "", None, {}, 1))
DAYS = timedelta(days=2)


@dataclass(frozen=True)
class Scene:
    """A collector, and what it works on."""

    database: Database
    storage: LocalStorage
    collector: Collector

    async def build(self, made: Made) -> int:
        """Adds a build with an image."""
        build_id = await add_build(self.database, status=BuildStatus.COMPLETED)
        await give(self.database, self.storage, build_id, made)
        return build_id

    async def forget(self, build_id: int) -> None:
        """Takes a build away, and so its image."""
        async with self.database.write() as session:
            await session.execute(delete(Build).where(Build.id == build_id))

    async def pass_time(self) -> None:
        """Makes everything two days older."""
        async with self.database.write() as session:
            for column in (Blob.doomed_on, Layer.used_on, Manifest.created_on, Manifest.pulled_on):
                rows = await session.execute(select(column.class_))
                for (row,) in rows.all():
                    value = getattr(row, column.key)
                    setattr(row, column.key, value - DAYS if value else None)
        for path in self._files():
            old = path.stat().st_mtime - DAYS.total_seconds()
            os.utime(path, (old, old))

    async def collect(self) -> None:
        await self.collector.run(RUN)

    async def collect_all(self) -> None:
        """Collects as often, and as late, as it takes."""
        await self.pass_time()
        await self.collect()
        await self.pass_time()
        await self.collect()

    async def blobs(self) -> set[str]:
        """Returns the blobs that are there; rows and files must be the same."""
        async with self.database.read() as session:
            rows = set(await session.scalars(select(Blob.digest)))
        assert rows == self.files()
        return rows

    async def manifests(self) -> set[str]:
        async with self.database.read() as session:
            return set(await session.scalars(select(Manifest.digest)))

    def files(self) -> set[str]:
        found = [
            digest_of_key(path.relative_to(self.storage.storage_path).as_posix())
            for path in self._files()
        ]
        return {digest for digest in found if digest}

    def _files(self) -> list[Path]:
        return [path for path in Path(self.storage.storage_path).rglob("*") if path.is_file()]


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return make_scene(database, tmp_path)


def make_scene(database: Database, tmp_path: Path, layer_cache_bytes: int = 0) -> Scene:
    storage = LocalStorage(storage_path=str(tmp_path / "storage"))
    config = ContainerRegistry(layer_cache_bytes=layer_cache_bytes)
    collector = Collector(config, configured(CondaStore()), database, storage)
    return Scene(database, storage, collector)


COMMON = {"common": b"x" * 100}
A = image(COMMON, {"a": b"a"})
B = image(COMMON, {"b": b"b"})


async def test_only_what_no_image_needs_goes(scene: Scene) -> None:
    first, second = await scene.build(A), await scene.build(B)
    await scene.collect_all()
    assert await scene.blobs() == A.blobs.keys() | B.blobs.keys()
    await scene.forget(first)
    await scene.collect_all()
    assert await scene.blobs() == B.blobs.keys()
    assert await scene.manifests() == {B.digest}
    await scene.forget(second)
    await scene.collect_all()
    assert await scene.blobs() == set()
    assert await scene.manifests() == set()


async def test_nothing_goes_before_its_grace_is_over(scene: Scene) -> None:
    build_id = await scene.build(A)
    await scene.pass_time()
    await scene.forget(build_id)
    await scene.collect()
    assert await scene.manifests() == set()
    assert await scene.blobs() == A.blobs.keys()
    await scene.collect()
    assert await scene.blobs() == A.blobs.keys()


async def test_what_was_pulled_a_moment_ago_stays(scene: Scene) -> None:
    build_id = await scene.build(A)
    await scene.pass_time()
    await scene.forget(build_id)
    async with scene.database.write() as session:
        await session.execute(update(Manifest).values(pulled_on=utcnow()))
    await scene.collect()
    assert await scene.manifests() == {A.digest}
    await scene.collect_all()
    assert await scene.blobs() == set()


async def test_the_image_of_a_deleted_build_goes_unless_it_is_being_pulled(scene: Scene) -> None:
    await scene.build(A)
    await scene.pass_time()
    async with scene.database.write() as session:
        await session.execute(update(Manifest).values(pulled_on=utcnow()))
        await session.execute(update(Build).values(deleted_on=utcnow()))
    await scene.collect()
    assert await scene.manifests() == {A.digest}
    await scene.collect_all()
    assert await scene.manifests() == set()


async def test_what_an_image_leads_to_stays_with_it(scene: Scene) -> None:
    whole = index(A, B)
    statement = artifact(A.descriptor, "test/sbom", b"sbom")
    signature = artifact(statement.descriptor, "test/signature", b"signature")
    orphan = artifact({**A.descriptor, "digest": digest_of(b"gone")}, "test/orphan", b"orphan")
    build_id = await scene.build(whole)
    await store(scene.database, scene.storage, statement, signature, orphan)
    await scene.collect_all()
    expected = [whole, A, B, statement, signature]
    assert await scene.manifests() == {made.digest for made in expected}
    assert await scene.blobs() == {digest for made in expected for digest in made.blobs}
    await scene.forget(build_id)
    await scene.collect_all()
    assert await scene.manifests() == set()
    assert await scene.blobs() == set()


async def test_who_makes_an_image_takes_back_what_was_doomed(scene: Scene) -> None:
    build_id = await scene.build(A)
    await scene.pass_time()
    await scene.forget(build_id)
    await scene.collect()
    await scene.pass_time()
    async with scene.database.write() as session:
        for digest in A.blobs:
            await keep_blob(session, digest, len(A.blobs[digest]))
    await scene.collect()
    assert await scene.blobs() == A.blobs.keys()
    async with scene.database.write() as session:
        # It had gone, and what it needs was there to be had.
        await add_manifest(session, A.body)
    await scene.collect()
    assert await scene.manifests() == {A.digest}


async def test_layers_are_kept_for_images_to_come_up_to_a_quota(
    database: Database, tmp_path: Path
) -> None:
    layers = {name: image({name: name.encode() * 5000}) for name in "abc"}
    sizes = [made.document["layers"][0]["size"] for made in layers.values()]
    scene = make_scene(database, tmp_path, layer_cache_bytes=sum(sizes[1:]))
    for number, made in enumerate(layers.values()):
        await scene.forget(await scene.build(made))
        async with database.write() as session:
            key = select(Layer).where(Layer.blob_digest == made.document["layers"][0]["digest"])
            row = await session.scalar(key)
            assert row is not None
            row.used_on = utcnow() + timedelta(minutes=number)
    await scene.collect_all()
    kept = {layers[name].document["layers"][0]["digest"] for name in "bc"}
    assert await scene.blobs() == kept


async def test_a_layer_that_is_wanted_right_now_is_never_evicted(scene: Scene) -> None:
    await scene.forget(await scene.build(A))
    await scene.pass_time()
    async with scene.database.write() as session:
        keys = (await session.scalars(select(Layer.key))).all()
        assert len(await reuse_layers(session, keys)) == len(keys) == 2
    await scene.collect()
    async with scene.database.read() as session:
        assert set(await session.scalars(select(Layer.key))) == set(keys)
        doomed = await session.scalars(
            select(Blob.digest)
            .join(Layer, Layer.blob_digest == Blob.digest)
            .where(Blob.doomed_on.is_not(None))
        )
        assert not doomed.all()


async def test_files_without_rows_go_when_they_are_very_old(scene: Scene) -> None:
    """F40: to a database of yesterday all blobs of today are such files."""
    data = b"from a daemon that was killed"
    await scene.storage.put_bytes(blob_key(digest_of(data)), data)
    await scene.storage.put_bytes("blobs/sha256/00/no-digest", b"x")
    await scene.storage.put_bytes("logs/a.log", b"x")
    for _ in range(7):
        await scene.collect()
        assert scene.files() == {digest_of(data)}
        await scene.pass_time()
    await scene.collect()
    assert scene.files() == set()
    assert await scene.storage.size("logs/a.log") == 1
    assert await scene.storage.size("blobs/sha256/00/no-digest") == 1


async def test_a_blob_that_is_stored_anew_while_its_row_goes_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maker of an image comes between the row and the file."""
    await scene.forget(await scene.build(A))
    await scene.pass_time()
    await scene.collect()
    await scene.pass_time()
    delete_older = scene.storage.delete_older
    (wanted, *_) = A.blobs

    async def late(key: str, age_s: float) -> int:
        if key == blob_key(wanted):
            await scene.storage.put_bytes(key, A.blobs[wanted])
            freed = await delete_older(key, age_s)
            async with scene.database.write() as session:
                await keep_blob(session, wanted, len(A.blobs[wanted]))
            return freed
        return await delete_older(key, age_s)

    monkeypatch.setattr(scene.storage, "delete_older", late)
    await scene.collect()
    assert await scene.blobs() == {wanted}
    pieces = [piece async for piece in scene.storage.read(blob_key(wanted))]
    assert b"".join(pieces) == A.blobs[wanted]


async def test_a_pull_that_has_begun_ends(scene: Scene) -> None:
    data = os.urandom(2_000_000)
    big = image({"big": data})
    (digest,) = (entry["digest"] for entry in big.document["layers"])
    await scene.forget(await scene.build(big))
    await scene.pass_time()
    await scene.collect()
    await scene.pass_time()
    reading = scene.storage.read(blob_key(digest))
    first = await anext(reading)
    await scene.collect()
    assert await scene.blobs() == set()
    rest = [piece async for piece in reading]
    assert b"".join([first, *rest]) == big.blobs[digest]


async def test_many_rows_go_in_several_transactions(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "BATCH", 3)
    for number in range(5):
        parts = [image({"x": f"{number}-{part}".encode()}) for part in range(2)]
        await scene.forget(await scene.build(index(*parts)))
    await scene.collect_all()
    assert await scene.manifests() == set()
    assert await scene.blobs() == set()
