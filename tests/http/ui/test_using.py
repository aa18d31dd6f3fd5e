"""Commands to copy: what is in them by who may see the environment, and what is made of it."""

import shlex
from dataclasses import replace

from condastore.builds import ArtifactType
from condastore.http.ui.using import Usable, Way, ways

PUBLIC = Usable(
    namespace="lab",
    name="odd name'",
    build_id=7,
    link="/store/lab/envs/odd name'",
    server="https://host/prefix",
    image="host/lab/odd:latest",
    tag="1-2-3-odd",
    packages=frozenset({"python", "ipykernel"}),
    forms={
        ArtifactType.CONDA_PACK: "archive/key.tar.gz",
        ArtifactType.CONSTRUCTOR_INSTALLER: "installer/key.sh",
        ArtifactType.LOCKFILE: "lockfile/key.yml",
    },
    is_public=True,
)
PRIVATE = replace(PUBLIC, is_public=False)


def found(usable: Usable) -> dict[str, Way]:
    return {way.title: way for way in ways(usable)}


def test_names_stay_one_word() -> None:
    for way in found(PUBLIC).values():
        words = shlex.split(way.text)
        assert "name'" not in words
        assert "odd" not in words


def test_only_who_must_shows_a_token() -> None:
    assert not any("TOKEN" in way.text for way in ways(PUBLIC))
    texts = [way.text for way in ways(PRIVATE)]
    assert sum("Authorization: Bearer $CONDA_STORE_TOKEN" in text for text in texts) == 3
    assert sum("docker login" in text for text in texts) == 1
    assert sum("--src-creds" in text for text in texts) == 1
    assert sum("CONDA_STORE_AUTH=token" in text for text in texts) == 1


def test_what_is_not_made_is_not_shown_as_a_command() -> None:
    bare = replace(PUBLIC, forms={}, image=None, packages=frozenset())
    assert [way.missing for way in ways(bare) if way.missing] == [
        ArtifactType.CONDA_PACK,
        ArtifactType.CONDA_PACK,
        ArtifactType.CONSTRUCTOR_INSTALLER,
    ]
    assert [way.title for way in ways(bare) if way.text] == ["In a shell on this machine"]
    assert "ipykernel" in found(bare)["In Jupyter, as a kernel"].note


def test_an_archive_is_named_as_it_is_packed() -> None:
    forms = {ArtifactType.CONDA_PACK: "archive/key.tar.zst"}
    zstd = [way.text for way in ways(replace(PUBLIC, forms=forms))]
    assert any(".tar.zst" in text for text in zstd)
    # The conda-store command reads no other than gzip.
    assert not any("conda-store run" in text for text in zstd)


def test_plain_http_is_said_to_the_tools() -> None:
    plain = replace(PUBLIC, server="http://host:1", image="host:1/lab/odd:latest")
    shown = found(plain)
    assert "--src-tls-verify=false" in shown["As an image in a file, with skopeo"].text
    assert "insecure-registries" in shown["As an image, with Docker or Podman"].note
    local = replace(plain, image="127.0.0.1:1/lab/odd:latest")
    assert "insecure" not in found(local)["As an image, with Docker or Podman"].note


def test_a_script_has_no_first_line_that_kernels_cut() -> None:
    title = "As the first line of a script"
    assert title not in found(PUBLIC)
    assert found(replace(PUBLIC, link="/store/x"))[title].text == "#!/store/x/bin/python"
    assert title not in found(replace(PUBLIC, link="/" + 127 * "x"))
