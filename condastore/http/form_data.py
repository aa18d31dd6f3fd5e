"""Forms in the bodies of requests."""

from urllib.parse import parse_qs

from starlette.requests import Request

from condastore.errors import InvalidInput, TooLarge
from condastore.http.parameters import SMALL_BODY_BYTES

FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 100


async def read_form(request: Request) -> dict[str, list[str]]:
    """Returns the values of a form's fields. Raises `TooLarge`, or `InvalidInput`."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > SMALL_BODY_BYTES:
            raise TooLarge(f"the body is larger than {SMALL_BODY_BYTES} bytes")
    try:
        return parse_qs(
            data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise InvalidInput(f"the form has more than {_MAX_FIELDS} fields") from None
