"""`/api/v1/specification/` (rest-api §4.4)."""

from starlette.requests import Request
from starlette.responses import Response

from condastore.http import shapes
from condastore.http.context import caller, parts
from condastore.http.parameters import (
    JSON_OVERHEAD,
    SMALL_BODY_BYTES,
    body_flag,
    body_optional_text,
    body_text,
    json_body,
)
from condastore.http.problems import json_response
from condastore.service import specifications
from condastore.service.specifications import Submission


async def create(request: Request) -> Response:
    services = parts(request)
    config = services.config
    longest = max(config.max_specification_bytes, config.max_lockfile_bytes)
    body = await json_body(request, longest * JSON_OVERHEAD + SMALL_BODY_BYTES)
    submission = Submission(
        text=body_text(body, "specification"),
        namespace=body_optional_text(body, "namespace"),
        is_lockfile=body_flag(body, "is_lockfile"),
        environment_name=body_text(body, "environment_name"),
        environment_description=body_text(body, "environment_description"),
    )
    build_id = await specifications.submit(services, caller(request), submission)
    return json_response(shapes.data({"build_id": build_id}))
