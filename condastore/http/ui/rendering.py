"""The templates of the pages: loaded once, in a thread, escaping whatever they show."""

import asyncio
import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from condastore import __version__
from condastore.http.ui import conflicts, phrases

DIRECTORY = Path(__file__).parent / "templates"


async def load(name: str) -> Any:
    """Returns a template. The first one takes a tenth of a second to import and compile."""
    found = _loaded.get(name)
    if found is None:
        found = _loaded[name] = await asyncio.to_thread(_environment().get_template, name)
    return found


_loaded: dict[str, Any] = {}


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(DIRECTORY),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    environment.filters.update(
        size=phrases.size_text,
        growth=phrases.growth_text,
        seconds=phrases.duration_text,
        utc=phrases.utc_text,
        iso=_iso,
        marked=_marked,
        quoted=lambda value: quote(str(value), safe=""),
        sentence=phrases.first_sentence,
        count=phrases.count_text,
        channel=phrases.channel_text,
        plain=phrases.without_colours,
        shell=shlex.quote,
        kernel=phrases.kernel_name,
        details=phrases.details_text,
    )
    environment.globals.update(
        duration=phrases.duration_between,
        advice=phrases.advice,
        cause=_cause,
        outcome=phrases.outcome,
        version=__version__,
    )
    return environment


def _cause(reason: str, asked: Sequence[str] | None = None) -> str:
    """Returns why a build failed, in one sentence."""
    explained = conflicts.explain(reason, asked)
    return phrases.first_sentence(reason if explained is None else explained.sentence)


def _marked(text: str) -> Any:
    """Returns a help text with what stands between backticks as code."""
    from markupsafe import Markup

    parts = [
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def _iso(moment: datetime) -> str:
    """Returns a stored time, which is UTC, as browsers read it."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
