"""What is deleted is gone at once; its bytes come free in the background, at a pace."""

from pathlib import Path

from tests.acceptance.harness import Daemon, eventually, is_clean, running

PATIENCE_S = 120
FILES = 500
FILE_BYTES = 1000


def add_files(prefix: Path) -> None:
    """Makes a prefix that takes long to remove at one file a second."""
    for number in range(FILES):
        (prefix / f"own-{number}").write_bytes(bytes(FILE_BYTES))


def trash(daemon: Daemon) -> list[Path]:
    return list((daemon.store / ".trash").iterdir())


def test_a_removal_takes_its_time_and_survives_a_restart(tmp_path: Path, tiny: str) -> None:
    slow, fast = (f"--CondaStoreWorker.removal_rate={rate}" for rate in (1, 0))
    with running(tmp_path / "data", slow) as daemon:
        builds = {}
        for name in ("one", "two"):
            specification = {"name": name, "channels": [tiny], "dependencies": ["harmless"]}
            builds[name] = daemon.submit(specification)
            daemon.completed(builds[name])
            add_files(daemon.link(name).resolve())
        assert daemon.request("DELETE", f"/build/{builds['one']}/").status_code == 200
        assert daemon.request("DELETE", "/environment/default/two/").status_code == 200
        # Also the second is out of the way, while the first is still being removed.
        eventually(lambda: daemon.prefixes() == [], PATIENCE_S)
        assert len(trash(daemon)) == 2

        # Neither a stop waits for it nor a switch of another environment.
        again = daemon.submit({"name": "three", "channels": [tiny], "dependencies": ["harmless"]})
        daemon.completed(again)
        assert daemon.link("three").is_dir()
        assert daemon.stop() == 0
        assert len(trash(daemon)) == 2

        daemon.arguments = (fast,)
        daemon.start()
        eventually(lambda: daemon.build(builds["one"])["status_info"], PATIENCE_S)
        info = daemon.build(builds["one"])["status_info"]
        assert info.startswith("deleted; ") and info.endswith(" bytes came free")
        # What the first daemon removed is not counted again; packages' files are shared.
        assert 0 < int(info.split()[1]) <= FILES * FILE_BYTES + 20_000
        eventually(lambda: is_clean(daemon), PATIENCE_S, what=daemon.litter)
        assert "environment two is gone" in daemon.output.read_text()
