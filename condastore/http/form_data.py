"""Forms in the bodies of requests."""

import asyncio
from urllib.parse import parse_qs

from starlette.requests import Request

from condastore.errors import InvalidInput
from condastore.http.parameters import SMALL_BODY_BYTES, limited_body

FORM = "application/x-www-form-urlencoded"
# Percent signs make three bytes of one.
OVERHEAD = 3
_MAX_FIELDS = 100
# What takes less than a moment to read.
_SHORT_BYTES = 64 * 1024


async def read_form(request: Request, max_bytes: int = SMALL_BODY_BYTES) -> dict[str, list[str]]:
    """Returns the values of a form's fields. Raises `TooLarge`, or `InvalidInput`."""
    data = await limited_body(request, max_bytes)
    if len(data) <= _SHORT_BYTES:
        return _fields(data)
    return await asyncio.to_thread(_fields, data)


def _fields(data: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(
            data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise InvalidInput(f"the form has more than {_MAX_FIELDS} fields") from None
