"""Role by permission by object, and patterns."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.access import (
    ADMINISTRATOR,
    DEFAULT_ROLES,
    PERMISSIONS,
    AccessPolicy,
    Caller,
    check_pattern,
    covers,
    matches,
)
from condastore.errors import InvalidInput, Unauthorized

POLICY = AccessPolicy.of(DEFAULT_ROLES, {"default/*": ["viewer"]}, {"shared/*": ["viewer"]})

# The table of rest-api §12.
VIEWER = {"environment::read", "namespace::read", "namespace-role-mapping::read"}
DEVELOPER = VIEWER | {
    "environment:create",
    "environment::update",
    "environment::solve",
    "build::cancel",
    "setting::read",
}
ROLES = {"viewer": VIEWER, "developer": DEVELOPER, "editor": DEVELOPER, "admin": set(PERMISSIONS)}


def bound(bindings: dict[str, list[str]]) -> Caller:
    return AccessPolicy(POLICY.roles, {}, {}).caller("ada", POLICY.checked(bindings))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("permission", PERMISSIONS)
@pytest.mark.parametrize("arn", ["lab", "lab/env", "other", "other/env", ""])
def test_a_role_allows_what_it_says_where_it_is_bound(role: str, permission: str, arn: str) -> None:
    caller = bound({"lab/*": [role]})
    allowed = permission in ROLES[role] and arn.partition("/")[0] == "lab"
    assert caller.allows(permission, arn) is allowed
    if not allowed:
        with pytest.raises(Unauthorized, match="request not authorized"):
            caller.require(permission, arn)


@pytest.mark.parametrize(
    ("pattern", "arn", "expected"),
    [
        ("*/*", "", True),
        ("*/*", "a", True),
        ("*/*", "a/b", True),
        ("default/*", "default", True),
        ("default/*", "default/x", True),
        ("default/*", "", False),
        ("default/*", "defaults", False),
        ("a*/b*", "axx", True),
        ("a*/b*", "ax/bx", True),
        ("a*/b*", "ax/cx", False),
        ("default/x", "default", True),
        ("a.b/*", "axb", False),
        ("a+/*", "aa", False),
        ("a?/*", "ab", False),
        ("*/*", "a b", False),
        ("*/*", "a/b c", False),
        ("*/*", "a:b/c", False),
        ("*/*", "a/b/c", False),
        ("a*a/*", "a", False),
        ("a*a/*", "aa", True),
        ("*a*b*/*", "xaxbx", True),
        ("*a*b*/*", "xbxax", False),
    ],
)
def test_patterns(pattern: str, arn: str, expected: bool) -> None:
    assert matches(pattern, arn) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_a_star_is_any_run_of_characters(pattern: str, text: str) -> None:
    expected = re.fullmatch(fnmatch.translate(pattern), text) is not None
    assert matches(f"{pattern}/x", text) is expected


def test_no_pattern_is_slow() -> None:
    assert not matches("*a" * 120 + "b/*", "a" * 255)


@pytest.mark.parametrize(
    "text", ["", "a", "/", "a/", "/a", "a/b/c", "a b/c", "a/b#", "ä/b", "x" * 255 + "/*"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid entity="):
        check_pattern(text)


@pytest.mark.parametrize("permission", sorted(set(PERMISSIONS) - {"namespace::read"}))
def test_a_part_of_a_namespace_is_not_the_namespace(permission: str) -> None:
    """Upstream, an admin of one environment could delete its namespace."""
    caller = bound({"lab/env": ["admin"], "la*/e*": ["admin"]})
    assert caller.allows(permission, "lab/env")
    assert not caller.allows(permission, "lab")
    assert not caller.allows(permission, "")
    assert caller.allows("namespace::read", "lab")


def test_matching_bindings_are_united_and_later_layers_replace() -> None:
    caller = bound({"lab/*": ["viewer"], "*/env": ["developer"]})
    assert caller.allows("environment:create", "lab/env")
    assert not caller.allows("environment:create", "lab/other")
    replaced = POLICY.caller("ada", {"shared/*": ("admin",)}, {"shared/*": ("viewer",)})
    assert replaced.bindings == {"shared/*": ("viewer",)}


@pytest.mark.parametrize(
    ("pattern", "other", "expected"),
    [
        ("a/*", "a/b", True),
        ("*/*", "a/*", True),
        ("a*/*", "aa/*", True),
        ("a/*", "*/*", False),
        ("aa/*", "a*/*", False),
        ("a/b", "a/*", False),
        ("*b/*", "a*/*", False),
        ("a*b/*", "a*b/*", True),
        ("a*b/*", "ax*yb/z", True),
    ],
)
def test_what_a_pattern_covers(pattern: str, other: str, expected: bool) -> None:
    assert covers(pattern, other) is expected


PARTS = st.text("ab*", min_size=1, max_size=4)


@given(PARTS, PARTS, st.text("ab", min_size=1, max_size=6))
def test_what_is_covered_matches_no_more(own: str, other: str, name: str) -> None:
    if covers(f"{own}/*", f"{other}/*") and matches(f"{other}/*", name):
        assert matches(f"{own}/*", name)


def test_nobody_grants_more_than_he_has() -> None:
    caller = bound({"lab/*": ["admin"], "*/*": ["viewer"]})
    assert caller.may_grant("lab/x", PERMISSIONS)
    assert caller.may_grant("other/*", VIEWER)
    assert not caller.may_grant("other/*", DEVELOPER)
    assert not caller.may_grant("*/*", DEVELOPER)


def test_anonymous_callers_have_what_is_open_and_no_more() -> None:
    nobody = POLICY.anonymous("default")
    assert not nobody.authenticated
    assert nobody.allows("environment::read", "default/x")
    assert not nobody.allows("environment::read", "shared/x")
    assert not any(
        nobody.allows(permission, "default/x") for permission in set(PERMISSIONS) - VIEWER
    )


def test_the_administrator_may_everything_everywhere() -> None:
    for permission in PERMISSIONS:
        assert all(ADMINISTRATOR.allows(permission, arn) for arn in ("", "a", "a/b"))


def test_an_unknown_role_is_refused_when_given_and_worth_nothing_when_held() -> None:
    with pytest.raises(InvalidInput, match="invalid role=king"):
        POLICY.checked({"*/*": ["king"]})
    assert POLICY.permissions(["king"]) == frozenset()


def test_a_configured_role_with_an_unknown_permission_is_refused() -> None:
    with pytest.raises(InvalidInput, match="environment::rule"):
        AccessPolicy.of({"king": ["environment::rule"]}, {}, {})
