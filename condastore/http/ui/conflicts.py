"""What the solver says when nothing fits, in one sentence; pure.

It writes a tree: what was asked for, what that would require, down to what is not there or excludes
what another branch requires.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from condastore.errors import InvalidSpecification
from condastore.matchspecs import check_match_spec

_SAID = re.compile(
    r"(?:(?P<platform>[a-z0-9]+-[a-z0-9_]+): )?Cannot solve the request because of: (?P<what>.*)",
    re.DOTALL,
)
_MISSING = re.compile(r"No candidates were found for (.+?)\.?")
_BRANCH = re.compile(r"(?P<indent>[│├└─ ]*)(?P<text>.*)")
_INDENT = 3
# What follows the requirement that a line is about.
_VERDICT = re.compile(r",? (?:for )?which .*| can(?:not)? be installed .*| is excluded .*")
_REQUIRES = (" would require", " would constrain")
_NOWHERE = ", for which no candidates were found."
MAX_NAMED = 4
MAX_LENGTH = 200_000
LEAST = 2


@dataclass(frozen=True)
class Explanation:
    """Why nothing fits; `names` are the packages that were asked for and take part in it."""

    sentence: str
    names: Sequence[str]


@dataclass
class _Branch:
    text: str
    parts: list["_Branch"] = field(default_factory=list)

    def all(self) -> Iterator["_Branch"]:
        """Yields the branch and what hangs on it; a channel decides how deep that is."""
        waiting = [self]
        while waiting:
            branch = waiting.pop()
            yield branch
            waiting += reversed(branch.parts)

    def needs(self) -> list[str]:
        """Returns what the packages below require, from the top down."""
        return [
            _requirement(need.text)
            for branch in self.all()
            if branch.text.endswith(_REQUIRES)
            for need in branch.parts
        ]


def explain(reason: str, asked: Sequence[str] | None = None) -> Explanation | None:
    """Returns what the solver's text says; None for another text.

    `asked` are the match specs of the specification, where they are known: one of them may be what
    excludes the rest.
    """
    said = _SAID.fullmatch(reason.strip()) if len(reason) <= MAX_LENGTH else None
    if said is None:
        return None
    end = f" ({said['platform']})." if said["platform"] else "."
    missing = _MISSING.fullmatch(said["what"])
    if missing is not None:
        wanted = _plain(missing[1])
        return Explanation(f"None of the channels has {wanted}{end}", [_name(wanted)])
    head, branches = _tree(said["what"])
    if head.startswith("The following packages are incompatible"):
        return _exclusion(branches, end)
    return _lack(_Branch(head, branches), asked, end)


def _exclusion(branches: Sequence[_Branch], end: str) -> Explanation | None:
    """Says which packages exclude each other, and in what they differ."""
    if len(branches) < LEAST:
        return None
    roots = [_requirement(branch.text) for branch in branches]
    # What somebody asked for himself is a requirement as well.
    found = [
        {_name(need) for need in (root, *branch.needs())}
        for root, branch in zip(roots, branches, strict=True)
    ]
    deepest = [_name(need) for branch in branches for need in reversed(branch.needs())]
    common = next((name for name in deepest if sum(name in names for names in found) > 1), None)
    parts = [
        f"{root} is asked for" if _name(root) == common else f"{root} needs {needed}"
        for root, branch in zip(roots, branches, strict=True)
        if (needed := _listed([need for need in branch.needs() if _name(need) == common], "or"))
        or _name(root) == common
    ]
    text = f"{_listed(roots, 'and')} exclude each other"
    if len(parts) >= LEAST:
        text = ", but ".join(parts) if len(parts) == LEAST else f"{text}: {'; '.join(parts)}"
    return Explanation(f"{text}{end}", [_name(root) for root in roots])


def _lack(tree: _Branch, asked: Sequence[str] | None, end: str) -> Explanation | None:
    """Says what a package needs that is not there, or that something else excludes."""
    root = _requirement(tree.text)
    lacking = [_requirement(branch.text) for branch in tree.all() if branch.text.endswith(_NOWHERE)]
    if not lacking:
        return None
    names = {_name(need) for need in lacking}
    rivals = [text for text in asked or () if _named(text) in names]
    if rivals:
        why = f"but {_listed(rivals, 'and')} {'is' if len(rivals) == 1 else 'are'} asked for"
    elif all(name.startswith("__") for name in names):
        why = "which the machine does not have"
    elif asked is None:
        why = "which can't be had"
    else:
        why = "which none of the channels has"
    text = f"{root} needs {_listed(lacking, 'or')}, {why}{end}"
    return Explanation(text, [_name(root), *filter(None, map(_named, rivals))])


def _tree(text: str) -> tuple[str, list[_Branch]]:
    """Returns the first line, and what hangs on it."""
    head, *lines = text.split("\n")
    root = _Branch(head)
    way = [root]
    for line in lines:
        found = _BRANCH.fullmatch(line)
        if found is None or not found["text"]:
            continue
        depth = max(len(found["indent"]) // _INDENT, 1)
        branch = _Branch(found["text"])
        del way[depth:]
        way[-1].parts.append(branch)
        way.append(branch)
    return head, root.parts


def _requirement(text: str) -> str:
    """Returns the package, with what is wanted of it, that a line is about."""
    return _plain(_VERDICT.sub("", text))


def _plain(requirement: str) -> str:
    return requirement.strip().removesuffix(" *")


def _name(requirement: str) -> str:
    return requirement.partition(" ")[0]


def _named(spec: str) -> str | None:
    try:
        return check_match_spec(spec)
    except InvalidSpecification:
        return None


def _listed(texts: Iterable[str], word: str) -> str:
    """Returns different texts, the first few of them, as people list them."""
    found = list(dict.fromkeys(texts))
    if not found:
        return ""
    if len(found) > MAX_NAMED:
        found = [*found[: MAX_NAMED - 1], f"{len(found) - MAX_NAMED + 1} others"]
    *first, last = found
    return f"{', '.join(first)} {word} {last}" if first else last
