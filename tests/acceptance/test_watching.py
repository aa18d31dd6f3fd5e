"""Metrics, health, and what workers do, as monitoring sees them (rest-api §6)."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.harness import Daemon, eventually, running


def metrics(daemon: Daemon) -> dict[tuple[str, ...], float]:
    answer = daemon.client.get(f"{daemon.url}/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def phases_in(found: dict[tuple[str, ...], float]) -> set[str]:
    return {key[1] for key in found if key[0] == "condastore_build_phase_duration_seconds_count"}


def test_metrics_of_a_build(daemon: Daemon, tiny: str) -> None:
    specification = {"name": "env", "channels": [tiny], "dependencies": ["harmless"]}
    daemon.completed(daemon.submit(specification))
    daemon.data_of("/build/1/")
    found = metrics(daemon)
    assert found["conda_store_build_completed",] == 1
    assert found["conda_store_build_failed",] == 0
    assert found["conda_store_environments",] == 1
    assert 0 < found["conda_store_disk_free",] < found["conda_store_disk_total",]
    assert found["condastore_pool_size", "housekeeping"] == 1
    # The last of a build's phases ends just after the build.
    eventually(lambda: phases_in(metrics(daemon)) >= {"solve", "fetch", "link", "export"})
    requests = "condastore_http_request_duration_seconds_count"
    assert found[requests, "GET", "/api/v1/build/{build_id}/", "2xx"] >= 1
    assert found[requests, "POST", "/api/v1/specification/", "2xx"] == 1


def test_no_request_makes_a_label_of_its_own(shared_daemon: Daemon) -> None:
    for number in range(3):
        shared_daemon.request("GET", f"/build/{10**6 + number}/")
        shared_daemon.client.request(f"ODD{number}", f"{shared_daemon.url}/odd{number}")
    labels = {label for key in metrics(shared_daemon) for label in key[1:]}
    assert "other" in labels
    assert not any("odd" in label.lower() or str(10**6) in label for label in labels)


def test_plain_lines_have_a_name_and_a_value(shared_daemon: Daemon) -> None:
    lines = shared_daemon.client.get(f"{shared_daemon.url}/metrics").text.splitlines()
    assert any(line.startswith("conda_store_disk_usage ") for line in lines)


def test_what_workers_do(shared_daemon: Daemon) -> None:
    body = shared_daemon.client.get(f"{shared_daemon.url}/celery").json()
    assert list(body) == [
        "availability",
        "stats",
        "registered_tasks",
        "active_tasks",
        "scheduled_tasks",
    ]
    (kinds,) = body["registered_tasks"].values()
    assert "build" in kinds


def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--CondaStoreServer.enable_metrics=False") as daemon:
        for path in ("/metrics", "/celery"):
            assert daemon.client.get(daemon.url + path).status_code == 404


def test_a_healthy_daemon(shared_daemon: Daemon) -> None:
    answer = shared_daemon.client.get(
        f"{shared_daemon.url}/api/v1/health/", headers={"Authorization": ""}
    )
    assert answer.status_code == 200
    assert answer.json()["data"] == {
        "database": None,
        "storage": None,
        "store": None,
        "disk": None,
        "lost": None,
    }


@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_a_daemon_whose_store_is_gone(daemon: Daemon, path: str) -> None:
    daemon.store.rename(daemon.store.with_name("moved"))
    try:
        answer = daemon.request("GET", path, follow_redirects=True)
    finally:
        daemon.store.with_name("moved").rename(daemon.store)
    assert answer.status_code == 503
    assert answer.json()["status"] == "error"
    assert "the store can't be used" in answer.json()["message"]
    assert str(daemon.data) not in answer.text
