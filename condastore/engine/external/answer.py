"""What conda, mamba and micromamba answer: a document in JSON, or the reason why there is none."""

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

from condastore.engine.command import Outcome
from condastore.engine.events import EngineError, Kind
from condastore.engine.failures import OUT_OF_MEMORY, out_of_memory

Document = dict[str, Any]

_TAIL_CHARS = 4000
_KEYS_OF_ANSWERS = {"success", "actions", "error", "exception_name", "solver_problems"}
_OBJECT = re.compile(r"^\s*\{", re.MULTILINE)
_UNSATISFIABLE = (
    r"Unsatisfiable|PackagesNotFound|ResolvePackageNotFound|SpecsConfigurationConflict"
    r"|[Cc]ould not solve|nothing provides"
)
_NETWORK = (
    r"CondaHTTPError|CondaSSLError|UnavailableInvalidChannel|ConnectionFailed|[Tt]imed? ?out"
    r"|[Dd]ownload error|[Cc]ould not resolve host|HTTP (error|status|code)"
)
# Names of conda's exceptions and words of mamba's messages; the first match counts.
_FAILURES: tuple[tuple[str, Kind], ...] = (
    (r"NoSpaceLeft|No space left on device", "disk"),
    (OUT_OF_MEMORY, "memory"),
    (_UNSATISFIABLE, "unsatisfiable"),
    (r"ChecksumMismatch|[Cc]hecksum|(md5|sha256)\S* (sum )?mismatch", "hash"),
    (r"\b(401|403|407)\b|ProxyError", "auth"),
    (_NETWORK, "network"),
    (r"InvalidMatchSpec|InvalidVersionSpec|InvalidSpec|CondaValueError|[Ii]nvalid spec", "spec"),
    (r"SafetyError|CondaVerificationError|ClobberError", "package"),
)


def read_answer(tool: str, outcome: Outcome) -> Document:
    """The answer of a tool that has done its work; empty if it gave none."""
    answer = _last_answer(outcome.output)
    if outcome.returncode < 0:
        raise _crash(tool, outcome)
    if outcome.returncode > 0 or answer.get("success") is False:
        raise _failure(tool, answer, outcome)
    return answer


def last_words(outcome: Outcome) -> str:
    """The end of what a program printed, for those who have to find out why."""
    return f"{outcome.output[-_TAIL_CHARS:]}\n{outcome.complaints[-_TAIL_CHARS:]}".strip()


def _crash(tool: str, outcome: Outcome) -> EngineError:
    number = -outcome.returncode
    name = signal.Signals(number).name
    # Nobody but the kernel, when memory is short, kills a tool that we wait for.
    out_of_memory = number == signal.SIGKILL or "bad_alloc" in outcome.complaints
    kind: Kind = "memory" if out_of_memory else "engine"
    return EngineError(kind, f"{tool} was ended by {name}. Its last words:\n{last_words(outcome)}")


def _failure(tool: str, answer: Document, outcome: Outcome) -> EngineError:
    problems = answer.get("solver_problems") or []
    message = answer.get("message") or answer.get("error") or "\n".join(map(str, problems))
    # mamba prints its explanation, a tree, where others complain; the answer has its leaves only.
    explanation = outcome.complaints if problems and outcome.complaints else message
    explanation = str(explanation or last_words(outcome)).strip()[-_TAIL_CHARS:]
    evidence = f"{answer.get('exception_name')} {_nested_names(answer)}\n{message}\n{explanation}"
    kinds: list[Kind] = [kind for words, kind in _FAILURES if re.search(words, evidence)]
    text = f"{explanation}\n({tool} ended with status {outcome.returncode})"
    text += out_of_memory(evidence)
    return EngineError(kinds[0] if kinds else "engine", text)


def _nested_names(answer: Document) -> str:
    """The names of the exceptions that conda bundles in one."""
    errors = [each for each in answer.get("errors") or [] if isinstance(each, dict)]
    return " ".join(str(each.get("exception_name")) for each in errors)


def _last_answer(output: str) -> Document:
    answer: Document = {}
    for document in _documents(output):
        if _KEYS_OF_ANSWERS & document.keys():
            answer = document
    return answer


def _documents(output: str) -> Iterator[Document]:
    """The JSON objects that begin a line; conda puts a NUL between them, others print noise."""
    decoder = json.JSONDecoder()
    text = output.replace("\0", "\n")
    position = 0
    while match := _OBJECT.search(text, position):
        try:
            document, position = decoder.raw_decode(text, match.end() - 1)
        except (ValueError, RecursionError):
            position = match.end()
        else:
            yield document
