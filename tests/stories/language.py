"""The language of the stories: sentences of a closed vocabulary, read from prose.

A template is a sentence with its blanks, as `{who} deposits {amount} {currency}`; what stands in
brackets may be left out. A sentence that fits no template, or two, ends the story with its line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import msgspec

NUMBER = r"-?(?:\d{1,3}(?: \d{3})+|\d+)(?:\.\d+)?"
"""A number as people write it: digits in groups of three, parted by blanks."""

SENTENCE = re.compile(r"\S.*?\.(?=\s|$)", re.DOTALL)
"""A sentence: up to a full stop that no digit follows."""

_BLANKS = {
    "who": r"(?:She|He|[A-Z][a-z]+)",
    "whose": r"(?:[Hh]er|[Hh]is|[A-Z][a-z]+'s)",
    "symbol": r"[A-Z][A-Z0-9]*(?:-[A-Z]+)?",
    "currency": r"[A-Z]{3,4}",
    "name": r"[A-Z]+-\d+",
    "code": r"[a-z_]+",
    "leg": r"(?:long|short)",
    "figure": rf"(?:[-+x/(). \d]+ = )?{NUMBER}",
}
_SAME = {"home": "currency", "other": "currency", "new_symbol": "symbol"}
_OPENING = re.compile(r"^(?:Then|Now|So|Later|But|And|At last),? (?=[A-Za-z])")
_PLACED = re.compile(r"^Event (\d+) arrives: (.*)$")
_TOKEN = re.compile(rf"\s*({NUMBER.removeprefix('-?')}|[-+x/()])")


class StoryError(AssertionError):
    """A story that is not true, or not told in the language; names its line."""


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of a story.

    Attributes:
        line: where it begins.
        text: on one line, without its full stop.
        number: place of the event, where the sentence gives it one.
    """

    line: int
    text: str
    number: int | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of the vocabulary, and what it does."""

    text: str
    pattern: re.Pattern[str]
    perform: Callable[..., None]


class Vocabulary:
    """Every sentence there is."""

    def __init__(self) -> None:
        self.templates: list[Template] = []

    def sentence(self, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Add a template; what is decorated is called with the story and the blanks."""

        def add(perform: Callable[..., None]) -> Callable[..., None]:
            pattern = re.compile(_pattern(text))
            self.templates.append(Template(text=text, pattern=pattern, perform=perform))
            return perform

        return add

    def read(self, sentence: Sentence) -> tuple[Template, dict[str, Any]]:
        """Return the template that fits, and what stands in its blanks.

        Raises:
            StoryError: none fits, or more than one.
        """
        found = [
            (template, match)
            for template in self.templates
            if (match := template.pattern.fullmatch(sentence.text))
        ]
        if not found:
            texts = [template.text for template in self.templates]
            near = difflib.get_close_matches(sentence.text, texts, n=1, cutoff=0.0)
            raise StoryError(
                f"line {sentence.line}: no sentence of the vocabulary: {sentence.text!r}; "
                f"the nearest is {near[0]!r}"
            )
        if len(found) > 1:
            both = [template.text for template, _ in found]
            raise StoryError(f"line {sentence.line}: {sentence.text!r} fits {both}")
        template, match = found[0]
        return template, {n: _value(n, text, sentence) for n, text in match.groupdict().items()}


def sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences of a story; its title is no sentence.

    Raises:
        StoryError: a sentence has no full stop.
    """
    end = len(text.partition("\n")[0])
    for match in SENTENCE.finditer(text, end):
        yield _sentence(match[0], _line(text, match.start()))
        end = match.end()
    if text[end:].strip():
        raise StoryError(f"line {_line(text, end + 1)}: a sentence ends with a full stop")


def worked_out(text: str) -> Fraction:
    """Return what a sum or product of numbers amounts to: `0.5 x (43 000 - 42 000)`."""
    tokens = _TOKEN.findall(text)
    value = _sum(tokens)
    if tokens:
        raise ValueError(f"{text!r} goes on with {tokens[0]!r}")
    return value


def _sentence(text: str, line: int) -> Sentence:
    text = " ".join(text.split()).removesuffix(".")
    text = _capital(_OPENING.sub("", text))
    placed = _PLACED.match(text)
    if placed is None:
        return Sentence(line=line, text=text)
    return Sentence(line=line, text=_capital(placed[2]), number=int(placed[1]))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _pattern(template: str) -> str:
    found = ""
    for part in re.split(r"(\{\w+\}|[][])", template):
        if part == "[":
            found += "(?:"
        elif part == "]":
            found += ")?"
        elif part.startswith("{"):
            name = part[1:-1]
            found += f"(?P<{name}>{_BLANKS.get(_SAME.get(name, name), NUMBER)})"
        else:
            found += re.escape(part)
    return found


def _value(name: str, text: str | None, sentence: Sentence) -> str | None:
    """Return what stands in a blank: a number without blanks, a figure that is worked out right."""
    if text is None or (_SAME.get(name, name) in _BLANKS and name != "figure"):
        return text
    working, _, result = text.rpartition(" = ")
    number = result.replace(" ", "")
    try:
        right = not working or worked_out(working) == Fraction(number)
    except (ValueError, IndexError, ZeroDivisionError):
        right = False
    if not right:
        raise StoryError(f"line {sentence.line}: {working} is not {result}")
    return number


def _sum(tokens: list[str]) -> Fraction:
    value = _product(tokens)
    while tokens and tokens[0] in "+-":
        sign = tokens.pop(0)
        term = _product(tokens)
        value += term if sign == "+" else -term
    return value


def _product(tokens: list[str]) -> Fraction:
    value = _atom(tokens)
    while tokens and tokens[0] in "x/":
        sign = tokens.pop(0)
        factor = _atom(tokens)
        value = value * factor if sign == "x" else value / factor
    return value


def _atom(tokens: list[str]) -> Fraction:
    token = tokens.pop(0)
    if token == "-":
        return -_atom(tokens)
    if token != "(":
        return Fraction(token.replace(" ", ""))
    value = _sum(tokens)
    tokens.pop(0)
    return value
