"""What the bundled solver writes when nothing fits, as it writes it, in one sentence."""

import pytest

from condastore.http.ui.conflicts import explain

SAID = "linux-64: Cannot solve the request because of: "
EXCLUDED = """a * cannot be installed because there are no viable options:
├─ a 2 would require
│  └─ c >=2.1, for which no candidates were found.
└─ a 1 would require
   └─ c >=2, for which no candidates were found."""
INCOMPATIBLE = """The following packages are incompatible
├─ g * can be installed with any of the following options:
│  └─ g 1 would require
│     └─ b *, which can be installed with any of the following options:
│        └─ b 1 would require
│           └─ c <2, which can be installed with any of the following options:
│              └─ c 1
└─ d >=1 cannot be installed because there are no viable options:
   └─ d 1 would require
      └─ a *, which cannot be installed because there are no viable options:
         └─ a 2 would require
            └─ c >=2.1, which cannot be installed because there are no viable options:
               └─ c 2.2, which conflicts with the versions reported above."""
CONSTRAINED = """The following packages are incompatible
├─ c >=2 can be installed with any of the following options:
│  └─ c 2.2
└─ e * cannot be installed because there are no viable options:
   └─ e 1 would constrain
      └─ c <2, which conflicts with any installable versions previously reported"""
MACHINE = """h * cannot be installed because there are no viable options:
└─ h 1 would require
   └─ __cuda >=12, for which no candidates were found."""


@pytest.mark.parametrize(
    ("said", "asked", "sentence"),
    [
        ("No candidates were found for x *.", ["x"], "None of the channels has x (linux-64)."),
        (EXCLUDED, ["a", "c<2"], "a needs c >=2.1 or c >=2, but c<2 is asked for (linux-64)."),
        (EXCLUDED, ["a"], "a needs c >=2.1 or c >=2, which none of the channels has (linux-64)."),
        (EXCLUDED, None, "a needs c >=2.1 or c >=2, which can't be had (linux-64)."),
        (INCOMPATIBLE, ["g", "d>=1"], "g needs c <2, but d >=1 needs c >=2.1 (linux-64)."),
        (CONSTRAINED, ["c>=2", "e"], "c >=2 is asked for, but e needs c <2 (linux-64)."),
        (MACHINE, ["h"], "h needs __cuda >=12, which the machine does not have (linux-64)."),
    ],
)
def test_the_sentence(said: str, asked: list[str] | None, sentence: str) -> None:
    found = explain(SAID + said, asked)
    assert found is not None
    assert found.sentence == sentence


def test_who_takes_part() -> None:
    found = explain(SAID + EXCLUDED, ["python", "a", "c<2"])
    assert found is not None
    assert found.names == ["a", "c"]


def test_a_deep_tree() -> None:
    lines = [f"{'   ' * depth}└─ p{depth} 1 would require" for depth in range(300)]
    last = f"{'   ' * 300}└─ q >=2, for which no candidates were found."
    text = "\n".join(["p >1", *lines, last])
    found = explain(SAID + text)
    assert found is not None
    assert found.sentence.startswith("p >1 needs q >=2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pip could not install flask",
        SAID + "The following packages are incompatible",
        SAID + "something new\n└─ that nobody knows",
        SAID + "│" * 5000 + "\n" + "└─ x would require\n" * 500,
    ],
)
def test_other_texts_are_not_explained(text: str) -> None:
    assert explain(text) is None
