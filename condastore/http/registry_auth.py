"""Who pulls: challenges, tokens, and the endpoint that gives them (the Docker token protocol)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from condastore.access import Caller
from condastore.auth.registry_tokens import Grant, RegistryTokens, now
from condastore.errors import CondaStoreError, RegistryError
from condastore.http.context import header_credentials, parts_of
from condastore.http.form_data import read_form
from condastore.http.problems import json_response
from condastore.image_configuration import ContainerRegistry
from condastore.oci import is_repository
from condastore.service.repositories import PULL, Repository, actions, parse_name

SERVICE = "condastore"
TOKEN_PATH = "/registry/token"
# Of one token; clients ask for one or two.
MAX_SCOPES = 20
ANONYMOUS = "anonymous"
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")


@dataclass(frozen=True)
class Puller:
    """Who pulls, and what he may do with a repository."""

    name: str
    allows: Callable[[Repository], frozenset[str]]


class TokenAnswer(msgspec.Struct):
    """A token for pulling, under both names that clients look for."""

    token: str
    access_token: str
    expires_in: int
    issued_at: str


class RegistryAuth:
    """Finds out who pulls, and tells whoever may not where to get a token."""

    def __init__(self, tokens: RegistryTokens, config: ContainerRegistry, url_prefix: str) -> None:
        self._tokens = tokens
        self._config = config
        self._path = url_prefix + TOKEN_PATH

    async def puller(self, request: Request) -> Puller:
        """Returns who sends a request: nobody in particular, without credentials.

        Raises `RegistryError` if its credentials are not valid. Tokens of the API are passwords.
        """
        scheme, token = header_credentials(request)
        if scheme == "bearer" and token:
            grant = self._tokens.read(token)
            if grant is not None:
                return Puller(grant.name, lambda asked: grant.scopes.get(asked.name, frozenset()))
        elif scheme in ("", "basic"):
            return _puller(await _caller(request, token if scheme else None, is_given=bool(scheme)))
        raise RegistryError("UNAUTHORIZED", "the token is not valid, or has ended; log in again")

    def challenge(self, request: Request, error: RegistryError, repository: str | None) -> str:
        """Returns what tells a client where it gets a token, and for what."""
        parameters = {"realm": self._realm(request), "service": SERVICE}
        # What is no name of a repository may be anything, also what no header can carry.
        if repository is not None and is_repository(repository):
            parameters["scope"] = f"repository:{repository}:{PULL}"
        if "authorization" in request.headers:
            denied = error.code == "DENIED"
            parameters["error"] = "insufficient_scope" if denied else "invalid_token"
        return "Bearer " + ",".join(f'{key}="{value}"' for key, value in parameters.items())

    async def token(self, request: Request) -> Response:
        """`GET` and `POST /registry/token`: a token for what is asked for and allowed."""
        try:
            caller, scopes = await self._asked(request)
        except CondaStoreError as error:
            code = error.code if isinstance(error, RegistryError) else "UNSUPPORTED"
            response = problem(RegistryError(code, str(error), error.status))
            if response.status_code == 401:
                response.headers["WWW-Authenticate"] = f'Basic realm="{SERVICE}"'
            return response
        issued = now()
        grant = Grant(_name(caller), self._granted(caller, scopes))
        text = self._tokens.sign(grant, issued)
        response = json_response(
            TokenAnswer(text, text, self._tokens.lifetime_s, issued.strftime("%Y-%m-%dT%H:%M:%SZ"))
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _asked(self, request: Request) -> tuple[Caller, list[str]]:
        scheme, password = header_credentials(request)
        if request.method != "POST":
            scopes = request.query_params.getlist("scope")
            return await _caller(request, password, is_given=bool(scheme)), scopes
        form = await read_form(request)
        match form.get("grant_type", [""])[0]:
            case "password":
                password = form.get("password", [""])[0]
            case "refresh_token":
                password = form.get("refresh_token", [""])[0]
            case other:
                raise RegistryError(
                    "UNSUPPORTED", f"grant_type {other[:50]!r} should be password", 400
                )
        return await _caller(request, password, is_given=True), form.get("scope", [])

    def _granted(self, caller: Caller, scopes: Iterable[str]) -> dict[str, frozenset[str]]:
        """Returns what a token is good for: what is asked for, as far as the caller has it."""
        granted: dict[str, frozenset[str]] = {}
        for scope in " ".join(scopes).split():
            kind, _, rest = scope.partition(":")
            name, _, wanted = rest.rpartition(":")
            if kind != "repository" or not {PULL, "*"} & set(wanted.split(",")):
                continue
            try:
                found = actions(caller, self.repository(name))
            except RegistryError:
                continue
            if found and len(granted) < MAX_SCOPES:
                granted[name] = found
        return granted

    def repository(self, name: str) -> Repository:
        """Returns the repository of a name. Raises `RegistryError`."""
        config = self._config
        namespace = config.on_demand_namespace if config.on_demand else None
        return parse_name(name, namespace, config.max_on_demand_packages)

    def _realm(self, request: Request) -> str:
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            host = request.url.netloc if _HOST.fullmatch(request.url.netloc) else "localhost"
        return f"{request.url.scheme}://{host}{self._path}"


def problem(error: RegistryError) -> Response:
    """Returns an error as registries say it."""
    entry = {"code": error.code, "message": str(error), "detail": None}
    return json_response({"errors": [entry]}, error.status)


async def _caller(request: Request, token: str | None, *, is_given: bool) -> Caller:
    """Returns whose token it is; credentials that are wrong are never taken for none."""
    caller = await parts_of(request).identities.caller(token)
    if is_given and not caller.authenticated:
        raise RegistryError(
            "UNAUTHORIZED",
            "the password is not valid: it should be a token of the API, which has not ended; the "
            "user's name does not matter",
        )
    return caller


def _puller(caller: Caller) -> Puller:
    return Puller(_name(caller), lambda asked: actions(caller, asked))


def _name(caller: Caller) -> str:
    return caller.user or caller.primary_namespace if caller.authenticated else ANONYMOUS
