"""A storage that sends clients elsewhere for its bytes, as an object store does."""

import os

from condastore.storage import LocalStorage

VARIABLE = "CONDASTORE_TEST_ELSEWHERE"


class RedirectingStorage(LocalStorage):
    """Keeps files as ever; another server hands them out."""

    async def url(self, key: str, *, media_type: str, filename: str | None) -> str | None:
        del media_type, filename
        return f"{os.environ[VARIABLE]}/{key}"
