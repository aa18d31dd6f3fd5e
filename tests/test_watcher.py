"""What files that are watched come to when something else is at fault."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.duties import Turn
from condastore.service.parts import Parts
from condastore.watcher import Watcher
from devtools.servers import free_port


async def test_a_file_is_taken_again_until_the_database_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("name: env\ndependencies: [python]\n")
    (tmp_path / "bad.yaml").write_text("name: [")
    database = Database(f"postgresql://somebody@127.0.0.1:{free_port()}/away")
    parts = SimpleNamespace(config=CondaStore(data_directory=str(tmp_path)), database=database)
    watcher = Watcher(cast(Parts, parts), [tmp_path], cast(Turn, None))
    for _ in range(2):
        await watcher.scan()
    assert caplog.text.count(f"{path} is not built yet: the database can't be used now") == 2
    assert caplog.text.count("bad.yaml is not built: ") == 1
    await database.close()
