"""Needles in a haystack: RULER's eight retrieval tasks and the paper's formats (appendix B.1).

Invariants of every prompt: a reference occurs exactly once, in its own needle; no distractor
carries a queried key; a longer prompt of the same example holds the same needles.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product
from typing import Final, Literal, get_args

from generators import protocol
from generators.budget import Draft, Rendered
from generators.draws import Draw
from generators.haystacks import EssayHaystack, Haystack, NeedleHaystack, NoiseHaystack
from generators.scoring import all_references
from generators.tasks import Setting, task

__all__ = ["FORMATS", "Kind", "Needle", "NeedleInAHaystack", "Question", "draw_text", "needle_in_a_haystack"]

Kind = Literal["word", "number", "uuid"]
HaystackKind = Literal["noise", "essay", "needles"]


@dataclass(frozen=True)
class NeedleInAHaystack:
    """Retrieve the values of the queried keys from a haystack.

    Attributes:
        haystack: The distracting text.
        key: What keys look like.
        value: What values look like.
        keys: How many keys are hidden; those not queried are hard distractors.
        values: How many values each key has.
        queries: How many of the keys are asked for.
    """

    haystack: HaystackKind
    key: Kind
    value: Kind
    keys: int = 1
    values: int = 1
    queries: int = 1

    def __post_init__(self) -> None:
        for name in ("keys", "values", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.queries > self.keys:
            raise ValueError(f"queries must be at most keys ({self.keys}), not {self.queries}")
        if self.keys * self.values > len(protocol.DEPTHS):
            raise ValueError(
                f"{self.keys} keys of {self.values} values are more needles than the "
                f"{len(protocol.DEPTHS)} positions RULER places them at"
            )


@dataclass(frozen=True)
class Needle:
    """One hidden fact."""

    key: str
    value: str
    kind: Kind

    @property
    def sentence(self) -> str:
        return protocol.NEEDLE.format(values=f"{self.kind}s", key=self.key, value=self.value)


@dataclass(frozen=True)
class Question:
    """What stands around the haystack: the task before it, the question and answer prefix behind.

    Attributes:
        kind: What the values look like.
        keys: The queried keys.
        plural: Whether more than one value is asked for; RULER words the prompt by it.
    """

    kind: Kind
    keys: tuple[str, ...]
    plural: bool

    def _worded(self, template: str) -> str:
        query = protocol.joined_query(list(self.keys))
        if not self.plural:
            template = protocol.singular(template)
        return template.format(values=f"{self.kind}s", value=self.kind, query=query)

    @property
    def introduction(self) -> str:
        return self._worded(protocol.INTRODUCTION)

    @property
    def text(self) -> str:
        return self._worded(protocol.QUESTION) + self._worded(protocol.ANSWER_PREFIX)


@cache
def _words(kind: Literal["noun", "adjective"]) -> tuple[str, ...]:
    from wonderwords import RandomWord

    return tuple(sorted(set(RandomWord().filter(include_categories=[kind]))))


def draw_text(kind: Kind, draw: Draw) -> str:
    """A key or value: an adjective-noun pair, a number of seven digits or a UUID (RULER's kinds)."""
    if kind == "number":
        return draw.digits(7)
    if kind == "uuid":
        return draw.uuid()
    return f"{draw.choice(_words('adjective'))}-{draw.choice(_words('noun'))}"


def _unlike(taken: list[str], kind: Kind, draw: Draw, elsewhere: Callable[[str], bool] = lambda text: False) -> str:
    """A text that neither holds nor is held by any of `taken`, in any case of letters."""
    while True:
        text = draw_text(kind, draw)
        folded = text.lower()
        if not elsewhere(folded) and not any(folded in other or other in folded for other in taken):
            taken.append(folded)
            return text


def needle_in_a_haystack(parameters: NeedleInAHaystack, draw: Draw, setting: Setting) -> Draft:
    """The prompt of one example; its haystack is still open in size."""
    haystack_text = setting.corpus.folded if parameters.haystack == "essay" else protocol.NOISE.lower()
    taken: list[str] = []
    facts = draw.stream("needles")
    needles = [
        Needle(key, _unlike(taken, parameters.value, facts, haystack_text.__contains__), parameters.value)
        for key in [_unlike(taken, parameters.key, facts, haystack_text.__contains__) for _ in range(parameters.keys)]
        for _ in range(parameters.values)
    ]
    answering = needles[: parameters.queries * parameters.values]
    queried = tuple(dict.fromkeys(needle.key for needle in answering))
    question = Question(parameters.value, queried, plural=len(answering) > 1)

    haystack = _haystack(parameters, taken, draw.stream("distractors"), setting)
    wanted = _depths(parameters, draw.stream("depths"))
    if setting.depth is not None:
        wanted[: len(answering)] = [setting.depth] * len(answering)

    def render(units: int) -> Rendered:
        return _rendered(question, haystack, units, list(zip(needles, wanted, strict=True)), answering, setting)

    return Draft(tuple(needle.value for needle in answering), haystack.unit, render)


def _haystack(parameters: NeedleInAHaystack, taken: list[str], draw: Draw, setting: Setting) -> Haystack:
    if parameters.haystack == "essay":
        return EssayHaystack(setting.corpus)
    if parameters.haystack == "noise":
        return NoiseHaystack()
    protected = tuple(taken)

    def distractor() -> str:
        # Distractors may repeat one another, as in RULER, but never a real key or value.
        key, value = (_unlike(list(protected), kind, draw) for kind in (parameters.key, parameters.value))
        return Needle(key, value, parameters.value).sentence

    return NeedleHaystack(distractor)


def _depths(parameters: NeedleInAHaystack, draw: Draw) -> list[float]:
    """Depths in percent as RULER draws them: forty steps in essays, any line elsewhere."""
    count = parameters.keys * parameters.values
    if parameters.haystack == "essay":
        return [float(depth) for depth in draw.sample(protocol.DEPTHS, count)]
    return [100 * draw.fraction() for _ in range(count)]


def _rendered(
    question: Question,
    haystack: Haystack,
    units: int,
    placed: list[tuple[Needle, float]],
    answering: list[Needle],
    setting: Setting,
) -> Rendered:
    blocks = haystack.blocks(units)
    # Tokens before each place between blocks; a needle goes to the last place not beyond its depth.
    before = [0, *accumulate(setting.cost(haystack.joiner + block) for block in blocks)]
    total = max(before[-1], 1)
    inserted: dict[int, list[Needle]] = {}
    for needle, depth in placed:
        place = bisect_right(before, depth / 100 * total + 1e-6) - 1
        inserted.setdefault(place, []).append(needle)

    position = len(question.introduction)
    pieces: list[str] = []
    found: dict[Needle, tuple[int, float]] = {}
    for place in range(len(blocks) + 1):
        for needle in inserted.get(place, []):
            found[needle] = position, 100 * before[place] / total
            pieces.append(needle.sentence)
            position += len(needle.sentence) + len(haystack.joiner)
        if place < len(blocks):
            pieces.append(blocks[place])
            position += len(blocks[place]) + len(haystack.joiner)
    return Rendered(
        text=question.introduction + haystack.joiner.join(pieces) + question.text,
        needles=tuple(found[needle][0] for needle in answering),
        depths=tuple(found[needle][1] for needle in answering),
    )


_RULER: Final = {
    "niah_single_1": NeedleInAHaystack("noise", "word", "number"),
    "niah_single_2": NeedleInAHaystack("essay", "word", "number"),
    "niah_single_3": NeedleInAHaystack("essay", "word", "uuid"),
    "niah_multikey_1": NeedleInAHaystack("essay", "word", "number", keys=4),
    "niah_multikey_2": NeedleInAHaystack("needles", "word", "number"),
    "niah_multikey_3": NeedleInAHaystack("needles", "uuid", "uuid"),
    "niah_multivalue": NeedleInAHaystack("essay", "word", "number", values=4),
    "niah_multiquery": NeedleInAHaystack("essay", "word", "number", keys=4, queries=4),
}

_NAMES: Final = {"noise": "repeat", "essay": "essay", "needles": "needles"}

# Every format by the paper's naming, haystack-key-value; the paper calls the noise "repeat".
FORMATS: Final = {
    f"{_NAMES[haystack]}-{key}-{value}": NeedleInAHaystack(haystack, key, value)
    for haystack, key, value in product(get_args(HaystackKind), get_args(Kind), get_args(Kind))
}

for _name, _parameters in (_RULER | FORMATS).items():
    task(_name, _parameters, tokens_to_generate=protocol.NIAH_TOKENS_TO_GENERATE, score=all_references)(
        needle_in_a_haystack
    )
