"""How an environment is used: commands that work as they are copied; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from shlex import quote
from urllib.parse import quote as quoted

from condastore.builds import ArtifactType, file_suffix
from condastore.http.ui.phrases import kernel_name

NAMES = {
    ArtifactType.LOGS: "Log",
    ArtifactType.LOCKFILE: "Lockfile",
    ArtifactType.YAML: "Pinned environment.yaml",
    ArtifactType.CONDA_PACK: "Archive",
    ArtifactType.CONSTRUCTOR_INSTALLER: "Installer",
    ArtifactType.DOCKER_MANIFEST: "Image",
}
PATHS = {
    ArtifactType.LOGS: "logs",
    ArtifactType.LOCKFILE: "lockfile",
    ArtifactType.YAML: "yaml",
    ArtifactType.CONDA_PACK: "archive",
    ArtifactType.CONSTRUCTOR_INSTALLER: "installer",
    ArtifactType.DOCKER_MANIFEST: "docker",
}
DOWNLOADS = (
    ArtifactType.LOCKFILE,
    ArtifactType.YAML,
    ArtifactType.CONDA_PACK,
    ArtifactType.CONSTRUCTOR_INSTALLER,
)

# Older kernels cut a script's first line there.
MAX_INTERPRETER = 127
TOKEN = "$CONDA_STORE_TOKEN"


@dataclass(frozen=True)
class Usable:
    """A completed build that is the active one of its environment, and where it can be had."""

    namespace: str
    name: str
    build_id: int
    link: str
    """The path on the daemon's machine that leads to it."""
    server: str
    """The daemon's address, up to the API's path."""
    image: str | None
    """What to pull; None where there is no registry, or no image can have this name."""
    tag: str
    """The tag of exactly this build."""
    packages: frozenset[str]
    forms: Mapping[ArtifactType, str]
    """The storage keys of what is made of it."""
    is_public: bool
    """Whether it can be had without signing in."""


@dataclass(frozen=True)
class Way:
    """One way to use it: what is copied, or what is missing for it."""

    title: str
    text: str
    note: str = ""
    missing: ArtifactType | None = None
    """What has to be made first."""


def ways(usable: Usable) -> Iterator[Way]:
    """Yields the ways that there are, the nearest first."""
    yield Way(
        "In a shell on this machine",
        f"conda activate {quote(usable.link)}",
        "The path stays the same; it always leads to the active build. mamba and micromamba take "
        "it too.",
    )
    yield _kernel(usable)
    if _is_interpreter(usable):
        yield Way("As the first line of a script", f"#!{usable.link}/bin/python")
    yield from _command(usable)
    if usable.image is not None:
        yield from _images(usable, usable.image)
    yield from _files(usable)


def _kernel(usable: Usable) -> Way:
    title = "In Jupyter, as a kernel"
    if "ipykernel" not in usable.packages:
        return Way(title, "", "Add the package ipykernel to the environment for that.")
    python = quote(f"{usable.link}/bin/python")
    name = kernel_name(f"{usable.namespace}-{usable.name}")
    shown = quote(f"{usable.namespace}/{usable.name}")
    return Way(
        title,
        f"{python} -m ipykernel install --user --name {name} --display-name {shown}",
        "On this machine, once; the kernel follows the active build.",
    )


def _is_interpreter(usable: Usable) -> bool:
    line = f"#!{usable.link}/bin/python"
    return "python" in usable.packages and len(line.encode()) <= MAX_INTERPRETER and " " not in line


def _command(usable: Usable) -> Iterator[Way]:
    title = "On another machine, by the conda-store command"
    key = usable.forms.get(ArtifactType.CONDA_PACK)
    if key is None:
        yield Way(title, "", "It runs the archive.", ArtifactType.CONDA_PACK)
    elif key.endswith(".tar.gz"):
        lines = [f"export CONDA_STORE_URL={quote(usable.server)}"]
        if not usable.is_public:
            lines.append("export CONDA_STORE_AUTH=token")
        program = "python" if "python" in usable.packages else "sh"
        lines.append(f"conda-store run {quote(f'{usable.namespace}/{usable.name}')} -- {program}")
        yield Way(title, "\n".join(lines), "pip install conda-store brings the command.")


def _images(usable: Usable, image: str) -> Iterator[Way]:
    host = image.partition("/")[0]
    is_plain = usable.server.startswith("http:")
    login = f'echo "{TOKEN}" | docker login --username token --password-stdin {host}\n'
    note = (
        "It is made when it is pulled for the first time. The tag "
        f"{usable.tag} is exactly this build."
    )
    if is_plain and host.partition(":")[0] not in ("localhost", "127.0.0.1"):
        note += f" The daemon speaks plain HTTP: Docker needs {host} among its insecure-registries."
    yield Way(
        "As an image, with Docker or Podman",
        f"{'' if usable.is_public else login}docker pull {quote(image)}",
        note,
    )
    options = "--src-tls-verify=false " if is_plain else ""
    if not usable.is_public:
        options += f'--src-creds "token:{TOKEN}" '
    yield Way(
        "As an image in a file, with skopeo",
        f"skopeo copy {options}{quote(f'docker://{image}')} "
        f"{quote(f'docker-archive:./{usable.name}.tar')}",
    )


def _files(usable: Usable) -> Iterator[Way]:
    api = f"{usable.server}/api/v1/build/{usable.build_id}"
    here = quote(f"./{usable.name}")
    title = "As an archive that is unpacked"
    key = usable.forms.get(ArtifactType.CONDA_PACK)
    if key is None:
        yield Way(title, "", "", ArtifactType.CONDA_PACK)
    else:
        file = quote(f"./{usable.name}{file_suffix(ArtifactType.CONDA_PACK, key)}")
        lines = (
            _fetch(usable, f"{api}/archive/", file),
            f"mkdir -p {here} && tar -xf {file} -C {here}",
            f". {here}/bin/activate && conda-unpack",
        )
        yield Way(title, "\n".join(lines), "It needs no conda.")
    title = "By an installer"
    if ArtifactType.CONSTRUCTOR_INSTALLER not in usable.forms:
        yield Way(title, "", "", ArtifactType.CONSTRUCTOR_INSTALLER)
    else:
        file = quote(f"./{usable.name}.sh")
        fetch = _fetch(usable, f"{api}/installer/", file)
        target = f'"$HOME"/environments/{quote(usable.name)}'
        yield Way(title, f"{fetch}\nsh {file} -b -p {target}", "It needs no conda.")
    if ArtifactType.LOCKFILE in usable.forms:
        place = f"{quoted(usable.namespace, safe='')}/{quoted(usable.name, safe='')}"
        url = f"{usable.server}/api/v1/environment/{place}/conda-lock.yml"
        name = quote(usable.name)
        yield Way(
            "Exactly these packages, by the lockfile",
            f"{_fetch(usable, url, 'conda-lock.yml')}\n"
            f"conda-lock install --name {name} conda-lock.yml",
            f"Or, without conda-lock: micromamba create --name {name} --file conda-lock.yml",
        )


def _fetch(usable: Usable, url: str, file: str) -> str:
    """Returns the command that saves what is at an address."""
    header = "" if usable.is_public else f'-H "Authorization: Bearer {TOKEN}" '
    return f"curl -fL {header}-o {file} {quote(url)}"
