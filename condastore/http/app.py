"""The route table and the middleware, outermost first."""

from collections.abc import Awaitable, Callable

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


Handler = Callable[[Request], Awaitable[Response]]


def resource(path: str, **handlers: Handler) -> Route:
    """Returns the route of everything that can be done at a path: its methods, and no HEAD."""

    async def handle(request: Request) -> Response:
        return await handlers[request.method](request)

    route = Route(path, handle, methods=sorted(handlers))
    # Starlette adds HEAD to GET.
    route.methods = set(handlers)
    return route


ENVIRONMENT = "/environment/{namespace}/{environment}"
BUILD = "/build/{build_id}"
API: list[BaseRoute] = [
    resource("/", GET=about),
    resource("/namespace/", GET=namespaces.list_),
    resource(
        "/namespace/{namespace}/",
        GET=namespaces.get,
        POST=namespaces.create,
        DELETE=namespaces.delete,
    ),
    resource("/specification/", POST=specifications.create),
    resource("/environment/", GET=environments.list_),
    resource(
        f"{ENVIRONMENT}/",
        GET=environments.get,
        PUT=environments.update,
        DELETE=environments.delete,
    ),
    resource(f"{ENVIRONMENT}/lockfile/", GET=environments.lockfile),
    resource(f"{ENVIRONMENT}/conda-lock.yml", GET=environments.lockfile),
    resource(f"{ENVIRONMENT}/conda-lock.yaml", GET=environments.lockfile),
    resource("/build/", GET=builds.list_),
    resource(f"{BUILD}/", GET=builds.get, PUT=builds.rebuild, DELETE=builds.delete),
    resource(f"{BUILD}/cancel/", PUT=builds.cancel),
    resource(f"{BUILD}/packages/", GET=builds.packages),
    resource(f"{BUILD}/logs/", GET=logs.text),
    WebSocketRoute(f"{BUILD}/logs/ws", logs.websocket),
    resource(f"{BUILD}/lockfile/", GET=builds.lockfile),
    resource(f"{BUILD}/conda-lock.yml", GET=builds.lockfile),
    resource(f"{BUILD}/conda-lock.yaml", GET=builds.lockfile),
    resource(f"{BUILD}/yaml/", GET=builds.yaml),
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
