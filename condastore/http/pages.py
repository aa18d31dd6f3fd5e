"""HTML pages: templates that escape what they show, under a strict policy for what they load."""

import json
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_POLICY = {
    "default-src": "'none'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def page(
    request: Request,
    template: str,
    status: int = 200,
    *,
    allow: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """Returns a page. Its styles and scripts are its own, by a nonce (CSP level 3).

    `allow` adds sources to directives of the policy, or directives.
    """
    nonce = secrets.token_urlsafe(16)
    shown = {**request.app.state.template_vars, **values, "nonce": nonce}
    policy = {**_POLICY, "style-src": f"'nonce-{nonce}'", "script-src": f"'nonce-{nonce}'"}
    for directive, sources in (allow or {}).items():
        # Beside a nonce, browsers don't count 'unsafe-inline'.
        given = "" if "'unsafe-inline'" in sources else policy.get(directive, "")
        policy[directive] = f"{given} {sources}".strip()
    headers = {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "Cache-Control": "no-store",
    }
    return HTMLResponse(_environment().get_template(template).render(shown), status, headers)


@cache
def _environment() -> Any:
    # It takes a tenth of a second to import, which the start saves.
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2)
    environment.filters["shown"] = _type_text
    return environment


def _type_text(schema: dict[str, Any]) -> str:
    """Returns a JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_type_text, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type_text(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))
