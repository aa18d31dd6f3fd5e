"""What the forms of pages send."""

import asyncio
from urllib.parse import parse_qs

from starlette.requests import Request

from condastore.errors import InvalidInput
from condastore.http.parameters import limited_body

MAX_FIELDS = 100
# Percent signs make three bytes of one.
OVERHEAD = 3
_IN_LOOP_BYTES = 64 * 1024


async def read_form(request: Request, max_bytes: int) -> dict[str, str]:
    """Returns the fields of a form, the last one of each name.

    Raises `TooLarge` and `InvalidInput`.
    """
    data = await limited_body(request, max_bytes)
    if len(data) <= _IN_LOOP_BYTES:
        return _fields(data)
    return await asyncio.to_thread(_fields, data)


def _fields(data: bytes) -> dict[str, str]:
    try:
        values = parse_qs(
            data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise InvalidInput(f"the form has more than {MAX_FIELDS} fields") from None
    return {name: given[-1] for name, given in values.items()}
