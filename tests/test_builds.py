import hashlib
from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.builds import (
    FINAL,
    ArtifactType,
    BuildStatus,
    KeyVersion,
    build_id_of,
    build_key,
    cancel_marker,
    cancel_message,
    check_prefix,
    check_transition,
    media_type,
    storage_key,
)
from condastore.errors import BuildError, Conflict, InvalidInput

SHA256 = "e69ac8a59322bf8b542376283b9298de2fa69f9426d59616626bfef1891df263"
SCHEDULED_ON = datetime.fromisoformat("2026-11-22T23:55:14.610148")

LEGAL = {
    ("QUEUED", "BUILDING"),
    ("QUEUED", "FAILED"),
    ("QUEUED", "CANCELED"),
    ("BUILDING", "QUEUED"),
    ("BUILDING", "COMPLETED"),
    ("BUILDING", "FAILED"),
    ("BUILDING", "CANCELED"),
}


@pytest.mark.parametrize(("old", "new"), list(product(BuildStatus, BuildStatus)))
def test_builds_move_along_the_table_only(old: BuildStatus, new: BuildStatus) -> None:
    if (old, new) in LEGAL:
        check_transition(old, new)
    else:
        with pytest.raises(Conflict, match=f"a build that is {old} can't become {new}"):
            check_transition(old, new)


def test_a_finished_build_stays_as_it_is() -> None:
    assert {"COMPLETED", "FAILED", "CANCELED"} == FINAL


def key(version: KeyVersion, build_id: int = 2, name: str = "simple") -> str:
    """The key of the contract's example."""
    return build_key(
        version,
        sha256=SHA256,
        scheduled_on=SCHEDULED_ON,
        build_id=build_id,
        name=name,
        namespace="default",
    )


def test_the_keys_of_the_contract() -> None:
    assert key(1) == f"{SHA256}-20261122-235514-610148-2-simple"
    assert key(2) == "e69ac8a5-1795391714-2-simple"
    hashed = hashlib.sha256(f"default{SHA256}17953917142".encode()).hexdigest()
    assert key(3) == hashed[:32]


@given(
    st.sampled_from([1, 2]),
    st.integers(1, 2**40),
    st.from_regex("[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,30}", fullmatch=True),
)
def test_a_key_holds_its_id(version: KeyVersion, build_id: int, name: str) -> None:
    assert build_id_of(key(version, build_id, name)) == build_id


def test_a_key_of_version_3_holds_no_id() -> None:
    assert build_id_of(key(3)) is None


@pytest.mark.parametrize(
    "text", ["-", "a-b", "e69ac8a5-1-x-y", "e69ac8a5-1-2", f"e69ac8a5-1-{'9' * 5000}-x", "../a-b"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        build_id_of(text)


def test_seconds_are_whole_and_utc() -> None:
    later = SCHEDULED_ON.replace(microsecond=999_999) + timedelta(microseconds=1)
    arguments = {"sha256": SHA256, "build_id": 2, "name": "simple", "namespace": "default"}
    assert build_key(2, scheduled_on=later, **arguments) == "e69ac8a5-1795391715-2-simple"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("artifact", "where", "content_type"),
    [
        (ArtifactType.LOGS, "logs/K.log", "text/plain"),
        (ArtifactType.LOCKFILE, "lockfile/K.yml", "application/json"),
        (ArtifactType.YAML, "yaml/K.yml", "text/yaml"),
        (ArtifactType.CONDA_PACK, "archive/K.tar.gz", "application/gzip"),
        (ArtifactType.CONSTRUCTOR_INSTALLER, "installer/K.sh", "application/octet-stream"),
    ],
)
def test_where_artifacts_are_and_what_they_are(
    artifact: ArtifactType, where: str, content_type: str
) -> None:
    assert storage_key(artifact, "K") == where
    assert media_type(artifact) == content_type


def test_F32_a_prefix_may_have_255_characters() -> None:
    check_prefix("/" + "a" * 254)
    with pytest.raises(BuildError, match="build_path too long: must be <= 255 characters"):
        check_prefix("/" + "a" * 255)


def test_the_texts_of_a_cancel() -> None:
    assert cancel_message(7) == "build 7 canceled"
    assert cancel_marker(7) == (
        "build 7 marked as CANCELED due to being canceled from the REST API"
    )
