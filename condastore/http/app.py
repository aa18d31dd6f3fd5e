"""The route table and the middleware, outermost first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from condastore import __version__
from condastore.auth import Authentication
from condastore.auth.registry_tokens import RegistryTokens
from condastore.http import (
    audit,
    builds,
    environments,
    health,
    identity,
    login,
    logs,
    making,
    namespaces,
    packages,
    settings,
    shapes,
    specifications,
)
from condastore.http.answers import Answers
from condastore.http.docs import ApiDocs
from condastore.http.metrics import Latencies, MetricsPages
from condastore.http.operations import Plain, Resource
from condastore.http.problems import HANDLERS
from condastore.http.proxy import ForwardedHeaders
from condastore.http.registry import Registry
from condastore.http.request_ids import RequestIds
from condastore.http.security import Cors, CrossSiteGuard, HostGuard, SecurityHeaders
from condastore.http.ui.site import Site
from condastore.http.unread import UnreadBodies
from condastore.http.web_ui import WebUI
from condastore.http.wire import Wire
from condastore.image_configuration import ContainerRegistry
from condastore.service.parts import Parts
from condastore.service.readings import HEALTH_AGE_S, Cached, Health


async def about(call: Plain) -> shapes.Data[shapes.About]:
    """The program's version."""
    del call
    return shapes.data(shapes.About(__version__))


NAMESPACE = "/namespace/{namespace}"
ENVIRONMENT = "/environment/{namespace}/{environment}"
BUILD = "/build/{build_id}"
# They are tried in turn, so what is asked for all the time stands first.
API: list[BaseRoute] = [
    Resource(f"{BUILD}/", GET=builds.get, PUT=builds.rebuild, DELETE=builds.delete),
    Resource("/build/", GET=builds.list_),
    Resource("/environment/", GET=environments.list_),
    Resource(
        f"{ENVIRONMENT}/",
        GET=environments.get,
        PUT=environments.update,
        DELETE=environments.delete,
    ),
    Resource("/permission/", GET=identity.permission),
    Resource("/", GET=about),
    Resource("/health/", GET=health.health),
    Resource("/usage/", GET=identity.namespace_usage),
    Resource("/token/", GET=identity.list_tokens, POST=identity.mint),
    Resource("/token/{token_id}/", DELETE=identity.revoke),
    Resource("/namespace/", GET=namespaces.list_),
    Resource(
        f"{NAMESPACE}/",
        GET=namespaces.get,
        POST=namespaces.create,
        PUT=namespaces.update,
        DELETE=namespaces.delete,
    ),
    Resource(f"{NAMESPACE}/metadata", PUT=namespaces.update_metadata),
    Resource(f"{NAMESPACE}/roles", GET=namespaces.list_roles, DELETE=namespaces.delete_roles),
    Resource(
        f"{NAMESPACE}/role",
        GET=namespaces.get_role,
        POST=namespaces.create_role,
        PUT=namespaces.update_role,
        DELETE=namespaces.delete_role,
    ),
    Resource("/specification/", GET=specifications.solve, POST=specifications.create),
    Resource(f"{ENVIRONMENT}/lockfile/", GET=environments.lockfile),
    Resource(f"{ENVIRONMENT}/conda-lock.yml", GET=environments.lockfile),
    Resource(f"{ENVIRONMENT}/conda-lock.yaml", GET=environments.lockfile),
    Resource(f"{BUILD}/cancel/", PUT=builds.cancel),
    Resource(f"{BUILD}/restore/", PUT=builds.restore),
    Resource(f"{BUILD}/packages/", GET=builds.packages),
    Resource(f"{BUILD}/logs/", GET=logs.text),
    WebSocketRoute(f"{BUILD}/logs/ws", logs.websocket),
    Resource(f"{BUILD}/lockfile/", GET=builds.lockfile),
    Resource(f"{BUILD}/conda-lock.yml", GET=builds.lockfile),
    Resource(f"{BUILD}/conda-lock.yaml", GET=builds.lockfile),
    Resource(f"{BUILD}/yaml/", GET=builds.yaml),
    Resource(f"{BUILD}/archive/", GET=builds.archive),
    Resource(f"{BUILD}/installer/", GET=builds.installer),
    Resource(f"{BUILD}/docker/", GET=builds.docker),
    Resource(f"{BUILD}/artifacts/", GET=making.list_),
    Resource(f"{BUILD}/artifacts/{{artifact}}/", POST=making.make, DELETE=making.remove),
    Resource("/channel/", GET=packages.channels),
    Resource("/package/", GET=packages.list_),
    Resource("/audit/", GET=audit.list_),
    *(
        Resource(f"/setting/{place}", GET=settings.get, PUT=settings.update, DELETE=settings.reset)
        for place in ("", "{namespace}/", "{namespace}/{environment}/")
    ),
]
API_V2: list[BaseRoute] = [Resource("/environment/", GET=environments.continue_)]


@dataclass(frozen=True)
class WebOptions:
    """How the application is served."""

    url_prefix: str
    """Without a slash at its end."""
    session_secret: str
    allowed_hosts: list[str] | None
    """Names that requests may be for; None for any."""
    max_page_size: int
    read_timeout: float
    """Seconds that a body may pause while it comes."""
    template_vars: dict[str, Any]
    additional_routes: list[tuple[str, str, Callable[[Request], Any]]]
    enable_metrics: bool
    enable_ui: bool
    ui_directory: Path | None
    """Of conda-store's web interface, if it is served instead of ours."""
    registry: ContainerRegistry | None
    """How images are served; None if they are not."""
    registry_secret: str
    registry_host: str
    """Under which clients know the registry; empty for the host of the request."""
    behind_proxy: bool
    cors_allow_origins: list[str]
    cors_allow_origin_regex: str | None


def create_app(parts: Parts, authentication: Authentication, options: WebOptions) -> Starlette:
    """Returns the application."""
    routes: list[BaseRoute] = [
        Mount("/api/v1", routes=API),
        Mount("/api/v2", routes=API_V2),
        *login.routes(authentication, options.session_secret),
        *ApiDocs({"v1": API, "v2": API_V2}, options.url_prefix).routes,
    ]
    routes += [
        Route(path, handler, methods=[method])
        for path, method, handler in options.additional_routes
    ]
    if options.enable_metrics:
        routes += MetricsPages(parts).routes
    root: list[BaseRoute] = []
    if options.registry is not None:
        tokens = RegistryTokens(options.registry_secret, options.registry.token_lifetime)
        registry = Registry(parts, options.registry, tokens, options.url_prefix)
        routes += registry.token_routes
        root += registry.routes
    if options.enable_ui:
        site = Site(options.url_prefix)
        if options.ui_directory is not None:
            routes += WebUI(options.ui_directory, options.url_prefix).routes
        routes += site.routes(has_ui=options.ui_directory is None)
        if options.url_prefix:
            root.append(Route("/", site.enter))
    if options.url_prefix:
        routes = [Mount(options.url_prefix, routes=routes)]
    routes += root
    app = Starlette(
        routes=routes,
        middleware=_middleware(parts, authentication, options),
        exception_handlers=HANDLERS,
    )
    app.state.parts = parts
    app.state.authentication = authentication
    app.state.health = Cached(Health(parts).check, HEALTH_AGE_S)
    app.state.answers = Answers()
    app.state.template_vars = options.template_vars
    app.state.max_page_size = options.max_page_size
    app.state.registry_host = options.registry_host
    app.state.has_registry = options.registry is not None
    return app


def _middleware(
    parts: Parts, authentication: Authentication, options: WebOptions
) -> list[Middleware]:
    everything: dict[str, Any] = {
        "allow_origins": options.cors_allow_origins,
        "allow_origin_regex": options.cors_allow_origin_regex,
        "allow_credentials": True,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
    }
    proxy = [Middleware(ForwardedHeaders)] if options.behind_proxy else []
    return [
        Middleware(RequestIds, behind_proxy=options.behind_proxy),
        Middleware(UnreadBodies),
        *proxy,
        Middleware(HostGuard, allowed_hosts=options.allowed_hosts),
        Middleware(SecurityHeaders),
        Middleware(Cors, **everything),
        Middleware(CrossSiteGuard, cookie_name=authentication.cookie_name),
        Middleware(Wire, read_timeout=options.read_timeout),
        Middleware(Latencies, metrics=parts.metrics),
    ]
