"""A real provider of OAuth 2 and OpenID Connect on loopback; it checks what it is sent."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = ("condastore", "client secret")


@cache
def own_key() -> rsa.RSAPrivateKey:
    """Returns the key that it signs with, which takes a while to make."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Provider:
    """What the provider knows, and what it shall answer."""

    url: str = ""
    user: dict[str, Any] = field(default_factory=lambda: {"name": "ada", "login": "ada-on-github"})
    claims: dict[str, Any] = field(default_factory=dict)
    """Overrides claims of the id token."""
    signs_with: Any = None
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Overrides answers by path."""
    key: Any = field(default_factory=own_key)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    def authorize(self, url: str) -> tuple[str, str]:
        """What the user's browser does: signs in, and comes back with a code and the state."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        assert query["client_id"] == CLIENT[0]
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code{len(self.codes)}"
        self.codes[code] = query
        return code, query["state"]

    def exchange(self, form: dict[str, str]) -> dict[str, Any] | None:
        """Returns tokens for a code that the right client shows with the right verifier, once."""
        query = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            query is None
            or (form.get("client_id"), form.get("client_secret")) != CLIENT
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != query["redirect_uri"]
            or challenge != query["code_challenge"]
        ):
            return None
        token = f"token{len(self.tokens)}"
        self.tokens.add(token)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT[0],
            "iat": now,
            "exp": now + 60,
            "nonce": query["nonce"],
            **self.claims,
        }
        signed = jwt.encode(claims, self.signs_with or self.key, "RS256", headers={"kid": "1"})
        return {"access_token": token, "id_token": signed}

    def keys(self) -> dict[str, Any]:
        """The published keys (RFC 7517)."""
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]}


@contextmanager
def running() -> Iterator[Provider]:
    """A provider that answers over HTTP."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {key: values[0] for key, values in parse_qs(body).items()}
            found = provider.exchange(form)
            self._answer(200 if found else 400, found or {"error": "invalid_grant"})

        def do_GET(self) -> None:
            if self.path == "/keys":
                self._answer(200, provider.keys())
                return
            known = self.headers.get("Authorization", "").removeprefix("Bearer ")
            allowed = known in provider.tokens
            self._answer(200 if allowed else 401, provider.user if allowed else {})

        def _answer(self, status: int, value: object) -> None:
            status, data = provider.answers.get(self.path, (status, msgspec.json.encode(value)))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
