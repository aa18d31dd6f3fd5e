"""What the tests of the registry put into a daemon's storage and database, and how they ask."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import update

from condastore import oci
from condastore.builds import BuildStatus
from condastore.database import Database
from condastore.storage import LocalStorage
from condastore.tables import Task, TaskState, utcnow
from tests import images, rows
from tests.acceptance.harness import Daemon
from tests.images import Made
from tests.patience import PATIENCE_S

T = TypeVar("T")
VERSION = "docker-distribution-api-version"
CODES = {
    "BLOB_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNSUPPORTED",
}


class Content:
    """A hand on a daemon's storage and database."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def build(self, namespace: str, name: str, made: Made | None = None, *, lock: str = "") -> int:
        """Adds a completed build, with an image if there is one; returns its id."""

        async def add(database: Database, storage: LocalStorage) -> int:
            build_id = await rows.add_build(
                database,
                status=BuildStatus.COMPLETED,
                namespace=namespace,
                name=name,
                current=True,
            )
            if made is not None:
                await images.give(database, storage, build_id, made, lock)
            return build_id

        return self._do(add)

    def give(self, build_id: int, made: Made) -> None:
        """Makes an image that of a build."""
        self._do(lambda database, storage: images.give(database, storage, build_id, made))

    def store(self, *made: Made) -> None:
        """Stores manifests that are no image's."""
        self._do(lambda database, storage: images.store(database, storage, *made))

    def add_task(self, build_id: int, state: TaskState, error: str | None = None) -> None:
        """Adds a task that makes an image, as if another daemon had it, or had had it."""

        async def add(database: Database, _: LocalStorage) -> None:
            async with database.write() as session:
                session.add(
                    Task(
                        kind="image",
                        namespace="default",
                        build_id=build_id,
                        state=state,
                        error=error,
                        lease_owner="another daemon",
                        ended_on=None if state == TaskState.RUNNING else utcnow(),
                    )
                )

        self._do(add)

    def end_task(self, build_id: int, state: TaskState, error: str | None = None) -> None:
        """Ends such a task."""

        async def end(database: Database, _: LocalStorage) -> None:
            async with database.write() as session:
                await session.execute(
                    update(Task)
                    .where(Task.kind == "image", Task.build_id == build_id)
                    .values(state=state, error=error, ended_on=utcnow())
                )

        self._do(end)

    def _do(self, work: Callable[[Database, LocalStorage], Awaitable[T]]) -> T:
        async def run() -> T:
            database = Database(self._daemon.database_url)
            storage = LocalStorage(storage_path=str(self._daemon.data / "storage"))
            await database.open()
            try:
                return await work(database, storage)
            finally:
                await database.close()

        return asyncio.run(run())


class Puller:
    """A registry's client: it gets itself a token when it is told where."""

    def __init__(self, daemon: Daemon, password: str | None = None) -> None:
        self._url = daemon.url
        self._auth = None if password is None else httpx.BasicAuth("anybody", password)
        self.client = httpx.Client(timeout=PATIENCE_S)

    def __enter__(self) -> "Puller":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks for what is below `/v2/`; once more with a token, if one is needed."""
        url = f"{self._url}/v2/{path}"
        answer = self.client.request(method, url, **options)
        if answer.status_code != 401:
            return answer
        token = self.token(answer.headers["www-authenticate"])
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {token}"}
        return self.client.request(method, url, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def token(self, challenge: str) -> str:
        """Returns a token for what a challenge asks for."""
        parameters = parse_challenge(challenge)
        realm = parameters.pop("realm")
        parameters.pop("error", None)
        answer = self.client.get(realm, params=parameters, auth=self._auth)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token

    def manifest(self, name: str, reference: str, **options: Any) -> httpx.Response:
        return self.get(f"{name}/manifests/{reference}", **options)

    def blob(self, name: str, digest: str, **options: Any) -> httpx.Response:
        return self.get(f"{name}/blobs/{digest}", **options)


def parse_challenge(text: str) -> dict[str, str]:
    """Returns the parameters of a Bearer challenge."""
    scheme, _, rest = text.partition(" ")
    assert scheme == "Bearer"
    found = {}
    for entry in rest.split('",'):
        key, _, value = entry.partition('="')
        found[key] = value.rstrip('"')
    return found


def assert_refused(answer: httpx.Response, status: int, code: str) -> str:
    """Looks at an error in the registry's form; returns its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers[VERSION] == "registry/2.0"
    if answer.request.method == "HEAD":
        assert answer.content == b""
        return ""
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json()["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert error["code"] == code
    assert code in CODES
    message: str = error["message"]
    assert message
    return message


def linked(answer: httpx.Response) -> str | None:
    """Returns the path after `/v2/` and the query of the next page."""
    link = answer.headers.get("link")
    if link is None:
        return None
    target, _, relation = link.partition(">; ")
    assert relation == 'rel="next"'
    parts = urlsplit(target.removeprefix("<"))
    assert parts.path.startswith("/v2/")
    assert parse_qs(parts.query)
    return f"{parts.path.removeprefix('/v2/')}?{parts.query}"


def assert_pulls(puller: Puller, name: str, made: Made) -> None:
    """Gets everything of an image through a repository, by digest."""
    answer = puller.manifest(name, made.digest)
    assert answer.status_code == 200, answer.text
    assert answer.content == made.body
    for child in made.children:
        assert_pulls(puller, name, child)
    for digest, data in made.blobs.items():
        answer = puller.blob(name, digest)
        assert answer.status_code == 200, answer.text
        assert answer.content == data
        assert oci.digest_of(answer.content) == digest
