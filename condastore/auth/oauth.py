"""Signing in with an account elsewhere: OAuth 2 (RFC 6749) with PKCE (RFC 7636), OpenID Connect.

The browser is sent to the provider with a challenge; the code that it comes back with is worth
something only together with what the challenge was made from.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import jwt
from jwt import PyJWKSet
from traitlets import Bool, Unicode, Union, default
from traitlets import Callable as CallableTrait

from condastore.auth.authentication import Authentication, Identity
from condastore.errors import ConfigurationError, Unauthorized

TIMEOUT_S = 10.0
ANSWER_BYTES = 1024 * 1024
_ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256"]

Json = dict[str, Any]


class GenericOAuthAuthentication(Authentication):
    """Signing in at a provider that speaks OAuth 2 or OpenID Connect."""

    authorize_url = Unicode(help="The provider's page to sign in at.").tag(config=True)

    access_token_url = Unicode(help="Where a code is exchanged for an access token.").tag(
        config=True
    )

    client_id = Unicode(help="Name of this server at the provider.").tag(config=True)

    client_secret = Unicode(help="Secret of this server at the provider.").tag(config=True)

    access_scope = Unicode(
        help="Scopes to ask for, such as `openid profile`; empty asks for none."
    ).tag(config=True)

    user_data_url = Unicode(help="Where the user's data is read with the access token.").tag(
        config=True
    )

    user_data_key = Unicode(help="Key of the user's name in that data.").tag(config=True)

    oauth_callback_url = Union(
        [Unicode(), CallableTrait()],
        default_value="",
        help="""URL that the provider sends back to, or a function that makes it of the request.
        Default: `/oauth_callback/` of this server.""",
    ).tag(config=True)

    tls_verify = Bool(True, help="Check the provider's certificate.").tag(config=True)

    issuer = Unicode(help="Issuer of id tokens (OpenID Connect); needs `jwks_url`.").tag(
        config=True
    )

    jwks_url = Unicode(
        help="""Where the provider publishes its keys. If it is set, an id token is demanded and
        checked."""
    ).tag(config=True)

    def check(self) -> None:
        """Raises `ConfigurationError` if a setting is missing."""
        for name in ("authorize_url", "access_token_url", "client_id", "user_data_url"):
            if not getattr(self, name):
                raise ConfigurationError(f"set c.{type(self).__name__}.{name}")
        if bool(self.issuer) != bool(self.jwks_url):
            raise ConfigurationError(
                f"set both c.{type(self).__name__}.issuer and jwks_url, or neither"
            )

    def authorization(self, redirect_uri: str, state: str, verifier: str, nonce: str) -> str:
        """Returns the URL of the provider's page to sign in at."""
        digest = hashlib.sha256(verifier.encode()).digest()
        return f"{self.authorize_url}?" + urlencode(
            {
                "client_id": self.client_id,
                "redirect_uri": redirect_uri,
                "response_type": "code",
                "scope": self.access_scope,
                "state": state,
                "nonce": nonce,
                "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
                "code_challenge_method": "S256",
            }
        )

    async def identify(
        self, code: str, redirect_uri: str, verifier: str, nonce: str
    ) -> Identity | None:
        """Returns who came back with a code. Raises `Unauthorized` if the provider won't say."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self.tls_verify)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            form = {
                "code": code,
                "grant_type": "authorization_code",
                "client_id": self.client_id,
                "client_secret": self.client_secret,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            }
            answer = await _json(session, "POST", self.access_token_url, data=form)
            if self.jwks_url:
                keys = await _json(session, "GET", self.jwks_url)
                self._check_id_token(answer.get("id_token"), keys, nonce)
            token = answer.get("access_token")
            if not isinstance(token, str):
                raise Unauthorized("the login provider gave no access token")
            headers = {"Authorization": f"Bearer {token}"}
            user = await _json(session, "GET", self.user_data_url, headers=headers)
        return await self.authenticate(user)

    async def authenticate(self, user_data: Json) -> Identity | None:
        """Returns who the provider's data is about; to be overridden for other rules."""
        name = user_data.get(self.user_data_key)
        return self.identity(name) if isinstance(name, str) else None

    def redirect_uri(self, request: Any, fallback: str) -> str:
        """Returns where the provider sends back to."""
        configured: str | Callable[[Any], str] = self.oauth_callback_url
        if callable(configured):
            return str(configured(request))
        return configured or fallback

    def _check_id_token(self, id_token: object, keys: Json, nonce: str) -> None:
        """Checks signature, issuer, audience, times and nonce (OpenID Connect Core §3.1.3.7)."""
        try:
            if not isinstance(id_token, str):
                raise Unauthorized("the login provider gave no id token")
            kid = jwt.get_unverified_header(id_token).get("kid")
            key_set = PyJWKSet.from_dict(keys).keys
            key = next(key for key in key_set if kid is None or key.key_id == kid)
            claims = jwt.decode(
                id_token,
                key,
                algorithms=_ALGORITHMS,
                audience=self.client_id,
                issuer=self.issuer,
                options={"require": ["exp", "iat", "iss", "aud"]},
                leeway=60,
            )
        except (jwt.PyJWTError, StopIteration, AttributeError, TypeError) as error:
            raise Unauthorized("the login provider's id token is not valid") from error
        if claims.get("nonce") != nonce:
            raise Unauthorized("the login provider's id token is for another login")


class GithubOAuthAuthentication(GenericOAuthAuthentication):
    """Signing in with an account of GitHub."""

    github_url = Unicode("https://github.com", help="URL of GitHub.").tag(config=True)

    github_api = Unicode("https://api.github.com", help="URL of GitHub's API.").tag(config=True)

    @default("authorize_url")
    def _authorize_url(self) -> str:
        return f"{self.github_url}/login/oauth/authorize"

    @default("access_token_url")
    def _access_token_url(self) -> str:
        return f"{self.github_url}/login/oauth/access_token"

    @default("access_scope")
    def _access_scope(self) -> str:
        return "user:email"

    @default("user_data_url")
    def _user_data_url(self) -> str:
        return f"{self.github_api}/user"

    @default("user_data_key")
    def _user_data_key(self) -> str:
        return "login"


class JupyterHubOAuthAuthentication(GenericOAuthAuthentication):
    """Signing in with an account of a JupyterHub."""

    jupyterhub_url = Unicode(help="URL of the JupyterHub, without `/hub/`.").tag(config=True)

    def check(self) -> None:
        """Raises `ConfigurationError` if a setting is missing."""
        if not self.jupyterhub_url:
            raise ConfigurationError("set c.JupyterHubOAuthAuthentication.jupyterhub_url")
        super().check()

    @default("authorize_url")
    def _authorize_url(self) -> str:
        return f"{self.jupyterhub_url}/hub/api/oauth2/authorize"

    @default("access_token_url")
    def _access_token_url(self) -> str:
        return f"{self.jupyterhub_url}/hub/api/oauth2/token"

    @default("access_scope")
    def _access_scope(self) -> str:
        return "profile"

    @default("user_data_url")
    def _user_data_url(self) -> str:
        return f"{self.jupyterhub_url}/hub/api/user"

    @default("user_data_key")
    def _user_data_key(self) -> str:
        return "name"


async def _json(session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> Json:
    """Returns a provider's JSON object; its texts are never shown to anybody."""
    options["headers"] = {"Accept": "application/json", **options.get("headers", {})}
    try:
        async with session.request(method, url, allow_redirects=False, **options) as response:
            if response.status != 200:
                raise Unauthorized(f"the login provider answered with status {response.status}")
            data = await _limited(response)
        value = json.loads(data)
    except (TimeoutError, aiohttp.ClientError, ValueError, RecursionError) as error:
        raise Unauthorized("the login provider can't be reached or understood") from error
    if not isinstance(value, dict):
        raise Unauthorized("the login provider's answer is no JSON object")
    return value


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > ANSWER_BYTES:
            raise Unauthorized(f"the login provider's answer is longer than {ANSWER_BYTES} bytes")
    return bytes(data)
