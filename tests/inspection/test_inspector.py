"""What an inspection says of rows, on SQLite and on PostgreSQL."""

from pathlib import Path

import pytest
from sqlalchemy import Table, delete, func, select, update

from condastore.build_rows import add_artifact, find_build, log_key, prefix_of
from condastore.builds import ArtifactType, BuildStatus
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.image_rows import add_manifest
from condastore.inspection.findings import mend_all
from condastore.inspection.inspector import inspect
from condastore.inspection.prefixes import MANY_LOST
from condastore.inspection.scene import Scene
from condastore.oci import blob_key, canonical, digest_of
from condastore.prefixes import Store
from condastore.storage import LocalStorage
from condastore.tables import (
    Base,
    Blob,
    Build,
    Image,
    Layer,
    Manifest,
    Task,
    TaskState,
    manifest_blobs,
    manifest_children,
)
from condastore.tasks import TaskQueue, enqueue
from tests.mounts import mounted
from tests.rows import add_build

LOST, THERE = (f"sha256:{number:064x}" for number in (1, 2))


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    store = Store.of(CondaStore(data_directory=str(tmp_path)))
    store.make()
    storage = LocalStorage(storage_path=str(tmp_path / "storage"))
    unfinished = tmp_path / "storage/.unfinished"
    return Scene(database, store, storage, tmp_path, unfinished, 3600, "here")


async def mended(scene: Scene) -> list[str]:
    """Mends everything, looks that nothing is left, and returns the kinds of what there was."""
    found = await inspect(scene)
    assert await mend_all(found) == {}
    assert await inspect(scene) == []
    return sorted({finding.kind for finding in found})


async def count(scene: Scene, table: type[Base]) -> int:
    async with scene.database.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def add_completed(scene: Scene) -> int:
    """Adds a build that has its prefix and its link."""
    build_id = await add_build(scene.database, status=BuildStatus.COMPLETED, current=True)
    prefix = scene.store.root / "default" / f"prefix-{build_id}"
    (prefix / "conda-meta").mkdir(parents=True)
    async with scene.database.write() as session:
        add_artifact(await find_build(session, build_id), ArtifactType.DIRECTORY, str(prefix))
    scene.store.publish(scene.store.environment_link("default", "env"), prefix)
    return build_id


async def add_image(scene: Scene, build_id: int) -> str:
    """Adds an index of one manifest with two layers, and returns its digest."""
    layers = [{"digest": digest} for digest in (LOST, THERE)]
    below = canonical({"mediaType": "x", "layers": layers})
    above = canonical({"mediaType": "x", "manifests": [{"digest": digest_of(below)}]})
    async with scene.database.write() as session:
        session.add_all(Blob(digest=digest, size=5) for digest in (LOST, THERE))
        await session.flush()
        session.add(Layer(key="k", diff_id=LOST, media_type="x", blob_digest=LOST))
        for body in (below, above):
            digest = await add_manifest(session, body)
        session.add(Image(build_id=build_id, key="k", lock_hash="l", manifest_digest=digest))
        add_artifact(await find_build(session, build_id), ArtifactType.DOCKER_MANIFEST, digest)
    return digest


async def test_an_image_whose_blob_is_lost_is_made_again(scene: Scene) -> None:
    build_id = await add_completed(scene)
    await scene.storage.put_bytes(blob_key(THERE), b"there")
    await add_image(scene, build_id)

    assert await mended(scene) == ["blob without its bytes"]

    assert [await count(scene, table) for table in (Image, Manifest, Layer, Blob)] == [0, 0, 0, 1]
    async with scene.database.read() as session:
        tasks = (await session.execute(select(Task.kind, Task.build_id))).all()
    assert [tuple(task) for task in tasks] == [("image", build_id)]


@pytest.mark.parametrize("table", [manifest_children, manifest_blobs])
async def test_I15_what_a_manifest_needs_is_recorded_again(scene: Scene, table: Table) -> None:
    """Or it would be collected."""
    for digest in (LOST, THERE):
        await scene.storage.put_bytes(blob_key(digest), b"there")
    await add_image(scene, await add_completed(scene))
    async with scene.database.write() as session:
        before = (await session.execute(select(table))).all()
        await session.execute(delete(table))

    assert await mended(scene) == ["manifest of which not all is recorded"]

    async with scene.database.read() as session:
        assert sorted(await session.execute(select(table))) == sorted(before)


async def test_I15_a_build_of_whose_packages_some_are_not_recorded_is_told(scene: Scene) -> None:
    build_id = await add_completed(scene)
    prefix = scene.store.root / "default" / f"prefix-{build_id}"
    (prefix / "conda-meta" / "python-3.14-0.json").touch()
    [found] = await inspect(scene)
    assert found.kind == "build of whose packages some are not recorded"
    assert found.subject == f"build {build_id}: 0 of 1"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_work_of_a_dead_daemon_waits_again(scene: Scene, where: str) -> None:
    build_id = await add_build(scene.database, status=BuildStatus.BUILDING)
    async with scene.database.write() as session:
        enqueue(session, "build", "default", build_id=build_id)
    assert await TaskQueue(scene.database, f"{where}-dead").claim(["build"]) is not None
    if where == "elsewhere":
        if not scene.database.is_sqlite:
            assert await mended(scene) == [], "it may be alive"
        async with scene.database.write() as session:
            await session.execute(update(Task).values(lease_until=0.0))

    assert await mended(scene) == ["build that nothing works on", "task that claims to run"]

    async with scene.database.read() as session:
        task = (await session.scalars(select(Task))).one()
        build = await session.get_one(Build, build_id)
    # One attempt is spent: what kills daemons is given up at last.
    assert (task.state, task.attempts, build.status) == (TaskState.QUEUED, 1, BuildStatus.QUEUED)


async def test_a_build_whose_task_is_lost_gets_another(scene: Scene) -> None:
    await add_build(scene.database)
    assert await mended(scene) == ["build that nothing works on"]
    assert await count(scene, Task) == 1


async def test_what_is_recorded_and_not_yet_completed_is_finished(scene: Scene) -> None:
    build_id = await add_completed(scene)
    async with scene.database.write() as session:
        await session.execute(update(Build).values(status=BuildStatus.BUILDING))
    assert await mended(scene) == ["build that nothing works on"]
    async with scene.database.read() as session:
        assert (await session.get_one(Build, build_id)).status == BuildStatus.COMPLETED


async def test_what_somebody_else_keeps_beside_prefixes_stays(scene: Scene) -> None:
    """As in a store that is a file system of its own, or has the storage within it."""
    build_id = await add_completed(scene)
    others = ["default/notes", "default/12345678", "storage/blobs", "lost+found/#17"]
    for name in (*others, "conda/conda-meta", "a" * 64):
        (scene.store.root / name).mkdir(parents=True)
    stray, unknown = "default/12345678-1-99-stray", "0123456789abcdef" * 2
    (scene.store.root / stray).mkdir()
    (scene.store.root / unknown / "conda-meta").mkdir(parents=True)

    assert await mended(scene) == ["files without a build"]

    assert all((scene.store.root / name).is_dir() for name in others)
    assert (scene.store.root / "default" / f"prefix-{build_id}").is_dir()
    kept = {path.name for path in scene.lost.iterdir()}
    assert kept == {f"{scene.store.root.name}-{unknown}", "default-12345678-1-99-stray"}


async def test_F26_prefixes_on_another_file_system_are_put_away_there(
    database: Database, tmp_path: Path
) -> None:
    with mounted("tmpfs", tmp_path / "other", 8) as other:
        config = CondaStore(data_directory=str(tmp_path), build_directory=f"{other}/{{namespace}}")
        store = Store.of(config)
        store.make()
        storage = LocalStorage(storage_path=str(tmp_path / "storage"))
        scene = Scene(database, store, storage, tmp_path, None, 3600, "here")
        stray = other / "default/12345678-1-99-stray"
        build_id = await add_build(database, status=BuildStatus.BUILDING)
        async with database.read() as session:
            half_built = prefix_of(store, await find_build(session, build_id))
        for prefix in (stray, half_built):
            (prefix / "conda-meta").mkdir(parents=True)

        found = await inspect(scene)
        assert await mend_all(found) == {}

        kinds = {finding.kind for finding in found}
        assert kinds == {"build that nothing works on", "files without a build"}
        # Whoever mends empties the trash afterwards.
        assert {finding.kind for finding in await inspect(scene)} == {"file on its way out"}
        assert (other / "default/.lost" / stray.name / "conda-meta").is_dir()
        assert not half_built.exists()


async def test_what_was_put_away_before_is_not_overwritten(scene: Scene) -> None:
    for content in (b"first", b"second"):
        await scene.storage.put_bytes("yaml/12345678-1-99-stray.yml", content)
        (scene.data / "logs").mkdir(exist_ok=True)
        (scene.data / "logs/12345678-1-99-stray.log").write_bytes(content)
        assert await mended(scene) == ["log without a build", "stored file without a row"]
    kept = sorted(path.read_bytes() for path in (scene.data / "lost").iterdir())
    assert kept == [b"first", b"first", b"second", b"second"]


async def test_a_log_is_not_stored_over_that_of_who_took_the_build_over(scene: Scene) -> None:
    build_id = await add_completed(scene)
    async with scene.database.read() as session:
        key = log_key(await find_build(session, build_id))
    await scene.storage.put_bytes(key, b"whole")
    (scene.data / "logs").mkdir()
    (scene.data / key).write_bytes(b"broken off")
    of_another = not scene.database.is_sqlite
    async with scene.database.write() as session:
        add_artifact(await find_build(session, build_id), ArtifactType.LOGS, key)

    kind = "log that another daemon has stored" if of_another else "log that is not stored"
    assert await mended(scene) == [kind]

    stored = b"".join([piece async for piece in scene.storage.read(key)])
    assert stored == (b"whole" if of_another else b"broken off")
    assert (scene.data / "lost" / Path(key).name).is_file() == of_another


async def test_builds_whose_file_system_is_away_are_not_given_up(scene: Scene) -> None:
    build_ids = [await add_completed(scene) for _ in range(MANY_LOST + 1)]
    away = scene.store.root / "default"
    away.rename(scene.store.root / ".away")
    found = [one for one in await inspect(scene) if one.kind == "build without its files"]
    assert [one.mend for one in found] == [None] * len(build_ids)
    await mend_all(await inspect(scene))
    async with scene.database.read() as session:
        statuses = set(await session.scalars(select(Build.status)))
    assert statuses == {BuildStatus.COMPLETED}


async def test_only_our_own_half_written_files_are_litter(scene: Scene) -> None:
    links = scene.store.root / "lab" / "envs"
    links.mkdir(parents=True)
    theirs = [scene.data / "environment.yml.new", scene.data / ".profile.new", links / ".a.new"]
    for path in theirs:
        path.touch()
    ours = [scene.data / ".condastore-abcdefgh.new", links / ".b.new"]
    ours[0].touch()
    ours[1].symlink_to(scene.data)
    if scene.database.is_sqlite:
        [file] = [path for path in scene.data.iterdir() if path.name.endswith(".sqlite")]
        theirs.append(file.with_name("other.sqlite.0001.new"))
        ours.append(file.with_name(f"{file.name}.0001.new"))
        for path in (theirs[-1], ours[-1]):
            path.touch()

    found = await inspect(scene)

    assert sorted(finding.subject for finding in found) == sorted(map(str, ours))
    assert await mend_all(found) == {}
    assert all(path.is_file() for path in theirs)
    assert not any(path.is_symlink() or path.exists() for path in ours)
