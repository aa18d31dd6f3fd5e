"""The route table and the middleware, outermost first."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from condastore import __version__
from condastore.auth import AdminToken
from condastore.http import builds, environments, logs, namespaces, shapes, specifications
from condastore.http.problems import HANDLERS, json_response
from condastore.service.parts import Parts

# A page on another site can make a browser call loopback under that site's own name.
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "::1", "[::1]"]


async def about(_: Request) -> Response:
    """Says which program this is."""
    return json_response(shapes.data({"version": __version__}))


API: list[BaseRoute] = [
    Route("/", about),
    Route("/namespace/", namespaces.list_),
    Route("/namespace/{namespace}/", namespaces.get),
    Route("/namespace/{namespace}/", namespaces.create, methods=["POST"]),
    Route("/namespace/{namespace}/", namespaces.delete, methods=["DELETE"]),
    Route("/specification/", specifications.create, methods=["POST"]),
    Route("/environment/", environments.list_),
    Route("/environment/{namespace}/{environment}/", environments.get),
    Route("/environment/{namespace}/{environment}/", environments.update, methods=["PUT"]),
    Route("/environment/{namespace}/{environment}/", environments.delete, methods=["DELETE"]),
    Route("/environment/{namespace}/{environment}/lockfile/", environments.lockfile),
    Route("/environment/{namespace}/{environment}/conda-lock.yml", environments.lockfile),
    Route("/environment/{namespace}/{environment}/conda-lock.yaml", environments.lockfile),
    Route("/build/", builds.list_),
    Route("/build/{build_id}/", builds.get),
    Route("/build/{build_id}/", builds.rebuild, methods=["PUT"]),
    Route("/build/{build_id}/", builds.delete, methods=["DELETE"]),
    Route("/build/{build_id}/cancel/", builds.cancel, methods=["PUT"]),
    Route("/build/{build_id}/packages/", builds.packages),
    Route("/build/{build_id}/logs/", logs.text),
    WebSocketRoute("/build/{build_id}/logs/ws", logs.websocket),
    Route("/build/{build_id}/lockfile/", builds.lockfile),
    Route("/build/{build_id}/conda-lock.yml", builds.lockfile),
    Route("/build/{build_id}/conda-lock.yaml", builds.lockfile),
    Route("/build/{build_id}/yaml/", builds.yaml),
]


def create_app(parts: Parts, admin_token: AdminToken, url_prefix: str) -> Starlette:
    """Returns the application; `url_prefix` is without a slash at its end."""
    app = Starlette(
        routes=[Mount(f"{url_prefix}/api/v1", routes=API)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)],
        exception_handlers=HANDLERS,
    )
    app.state.parts = parts
    app.state.admin_token = admin_token
    return app
