"""The files in which conda, mamba and micromamba look for credentials."""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

from condastore.engine.jobs import Credential


def write_credentials(home: Path, credentials: Sequence[Credential]) -> dict[str, str]:
    """Writes the credentials below a tool's home; returns the variables that lead to them.

    No secret gets onto a command line or into a variable. conda reads users with passwords from
    `.netrc` and tokens from a directory of its own, and knows no bearer tokens; mamba and
    micromamba have one file for all.
    """
    for credential in credentials:
        if "token" in credential:
            name = quote_plus(credential["url"].rstrip("/")) + ".token"
            _write(home / "binstar" / "data" / name, credential["token"])
    netrc = home / ".netrc"
    _write(netrc, "".join(map(_netrc_line, credentials)))
    logins = {_place(each): _login(each) for each in credentials}
    _write(home / ".mamba" / "auth" / "authentication.json", json.dumps(logins))
    return {"NETRC": str(netrc), "BINSTAR_CONFIG_DIR": str(home / "binstar")}


def _netrc_line(credential: Credential) -> str:
    if "username" not in credential:
        return ""
    host = urlsplit(credential["url"]).hostname
    password = credential.get("password", "")
    return f"machine {host} login {credential['username']} password {password}\n"


def _place(credential: Credential) -> str:
    parts = urlsplit(credential["url"])
    return f"{parts.netloc}{parts.path}".rstrip("/")


def _login(credential: Credential) -> dict[str, str]:
    if "token" in credential:
        return {"type": "CondaToken", "token": credential["token"]}
    if "bearer" in credential:
        return {"type": "BearerToken", "token": credential["bearer"]}
    password = base64.b64encode(credential.get("password", "").encode()).decode()
    return {
        "type": "BasicHTTPAuthentication",
        "user": credential["username"],
        "password": password,
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
