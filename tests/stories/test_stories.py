"""The stories are true, and each of their numbers is needed for that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.stories.language import NUMBER, SENTENCE, StoryError, worked_out
from tests.stories.story import Story
from tests.stories.vocabulary import VOCABULARY

PATHS = sorted(Path(__file__).parent.glob("*.txt"))
_NUMBER = re.compile(rf"(?<![\w.-]){NUMBER.removeprefix('-?')}(?![\w-])")


def tell(text: str) -> Story:
    """Return the story after its last sentence."""
    story = Story(VOCABULARY)
    story.tell(text)
    return story


def is_true(text: str) -> bool:
    """Return whether a story is true, or fails without naming a line."""
    try:
        tell(text)
    except StoryError as error:
        return not str(error).startswith("line ")
    return True


def with_another_number(text: str) -> Iterator[tuple[str, str]]:
    """Yield the story once per number, with its last digit another one, and where that is.

    Left out are the numbers of events of which the story says that they changed nothing.
    """
    spans = [match.span() for match in SENTENCE.finditer(text)]
    without = [a for a, b in pairwise(spans) if text[slice(*b)].startswith("That is ")]
    for match in _NUMBER.finditer(text):
        if any(start <= match.start() < end for start, end in without):
            continue
        digit = str((int(match[0][-1]) + 1) % 10)
        line = text.count("\n", 0, match.start()) + 1
        where = f"line {line}: {match[0]} as {match[0][:-1]}{digit}"
        yield where, text[: match.end() - 1] + digit + text[match.end() :]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_story_is_true(path: Path) -> None:
    """The fold gives every figure that the story tells."""
    tell(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_number_of_a_story_may_be_another(path: Path) -> None:
    """A wrong number is noticed wherever it stands: in what happened, and in what follows."""
    text = path.read_text(encoding="utf-8")
    variants = dict(with_another_number(text))
    assert len(variants) > 5
    assert [where for where, variant in variants.items() if is_true(variant)] == []


def test_stories_need_every_sentence() -> None:
    """The vocabulary has nothing that no story says."""
    used = {text for path in PATHS for text in tell(path.read_text(encoding="utf-8")).used}
    assert used == {template.text for template in VOCABULARY.templates}
    assert len(PATHS) >= 10


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Ann opens an account in USDT.\nShe lends 5 USDT.", "line 3: no sentence"),
        ("Ann opens an account in USDT.\nHer cash is 5", "line 3: a sentence ends"),
        ("Ann opens an account in USDT.\n\nHer account stands at event 2.", "line 4: .*say: 1"),
        ("Ann deposits 5 USDT.", "line 2: .*ann has no account"),
        ("Ann opens an account in USDT. Her cash is 1 + 1 = 3.", "line 2: 1 . 1 is not 3"),
        ("Ann opens an account in USDT. Her cash is 1 + = 1.", "line 2: 1 . is not 1"),
        ("Ann opens an account in USDT. Her cash is 1 / 0 = 1.", "line 2: 1 . 0 is not 1"),
        (
            "Ann opens an account in USDT.\nShe cancels order A-1.\nShe deposits 5 USDT.",
            "line 3: .*refused .unknown_order., and the story does not say so",
        ),
        ("Ann opens an account in USDT. Ann cancels order A-1.", "line 2: .*does not say so"),
        (
            "Ann opens an account in USDT.\nThat is refused as invalid_payload.",
            "line 3: .*the books say: applied",
        ),
        ("That is a duplicate and changes nothing.", "line 2: .*nothing happened"),
        ("Ann opens an account in USDT.\nEvent 2 comes again.", "line 3: .*no event 2 yet"),
    ],
)
def test_untrue_story_ends_with_its_line(text: str, error: str) -> None:
    """What is wrong is said with the line where the sentence begins."""
    with pytest.raises(StoryError, match=error):
        tell(f"# Title\n{text}")


def test_figures_are_worked_out_exactly() -> None:
    """Products before sums, parentheses first, nothing rounded."""
    assert worked_out("1 000 - 2 x (3.5 - 0.5) / 3") == 998
    assert worked_out("-2 x 0.1 + 0.3") == worked_out("1 / 10")
    with pytest.raises(ValueError, match="goes on"):
        worked_out("1 2")
