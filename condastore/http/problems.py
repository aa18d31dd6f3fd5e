"""Errors as responses, in the shapes that conda-store's clients know (rest-api §2)."""

import json
import logging

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from condastore import correlation
from condastore.disk import is_full
from condastore.errors import CondaStoreError, DiskFull, Unavailable, Unprocessable
from condastore.http.request_ids import HEADER

logger = logging.getLogger(__name__)


def json_response(value: object, status: int = 200) -> Response:
    """Returns a value as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


async def on_expected(_: Request, error: Exception) -> Response:
    """A failure that we know: its class has the status, its text is for the caller."""
    assert isinstance(error, CondaStoreError)
    if isinstance(error, Unprocessable):
        # What is echoed may hold halves of characters, which only escapes can carry.
        body = json.dumps({"detail": error.detail})
        return Response(body, status_code=422, media_type="application/json")
    response = json_response({"status": "error", "message": str(error)}, error.status)
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def on_no_route(_: Request, error: Exception) -> Response:
    """A path or a method that is not there."""
    assert isinstance(error, HTTPException)
    response = json_response({"detail": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def on_os_error(_: Request, error: Exception) -> Response:
    """A file that could not be written because the disk is full; any other is a bug."""
    if not is_full(error):
        raise error
    logger.warning("the disk is full: %s", error)
    message = "there is no space left on the disk; delete builds and try again"
    return json_response({"status": "error", "message": message}, DiskFull.status)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """A bug: an id that leads to the log, and nothing else."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    # This is outside of what adds the id to other answers.
    headers = {HEADER: correlation.request_id.get()}
    return PlainTextResponse("Internal Server Error", status_code=500, headers=headers)


HANDLERS = {
    CondaStoreError: on_expected,
    HTTPException: on_no_route,
    OSError: on_os_error,
    Exception: on_unexpected,
}
