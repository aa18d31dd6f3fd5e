"""Answers that are kept until something is written: pages poll what has not changed."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from condastore.access import Caller

ANSWERS = 512
ANSWER_BYTES = 256 * 1024
# Some answers depend on the time, and somebody may write past this daemon.
AGE_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What was answered to a caller while the database was at some generation."""

    caller: Caller
    generation: int
    until: float
    body: bytes
    etag: str

    def response(self, request: Request) -> Response:
        """Returns the answer, or that the client has it already (RFC 9110 §13.1.2)."""
        headers = {"ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type="application/json", headers=headers)


class Answers:
    """The newest answers, by who asked and for what."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str | None, tuple[str, bytes]], Answer] = OrderedDict()

    def find(
        self, token: str | None, request: Request, caller: Caller, generation: int
    ) -> Answer | None:
        """Returns an answer that is still right."""
        answer = self._answers.get((token, _target(request)))
        if (
            answer is None
            or answer.generation != generation
            or answer.caller != caller
            or time.monotonic() > answer.until
        ):
            return None
        return answer

    def keep(
        self, token: str | None, request: Request, caller: Caller, generation: int, body: bytes
    ) -> Answer:
        """Returns an answer, and keeps it if it is small."""
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        answer = Answer(caller, generation, time.monotonic() + AGE_S, body, etag)
        if len(body) <= ANSWER_BYTES:
            self._answers[token, _target(request)] = answer
            while len(self._answers) > ANSWERS:
                self._answers.popitem(last=False)
        return answer


def _target(request: Request) -> tuple[str, bytes]:
    return request.scope["path"], request.scope["query_string"]
