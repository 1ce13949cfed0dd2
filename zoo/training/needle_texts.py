"""Training texts about needles: a haystack with several needles and several questions about them, with answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from generators.corpora.essays import Corpus
from generators.haystacks import NOISE
from generators.random_streams import RandomStream
from generators.tasks.needles import Kind, Needle, NeedleQuestion, draw_text, joined_query
from generators.tokenization import Tokenizer
from zoo.training.texts import Ends, Mixture, Part, TrainingText, encoded, weighted

__all__ = ["NeedleTexts"]


class NeedleTexts:
    """Draws texts of at most `context` tokens, each a function of its random stream alone."""

    def __init__(self, mixture: Mixture, tokenizer: Tokenizer, ends: Ends, corpus: Corpus) -> None:
        self._mixture = mixture
        self._tokenizer = tokenizer
        self._ends = ends
        self._sentences = corpus.sentences(len(corpus.words))

    def text(self, random: RandomStream, context: int) -> TrainingText:
        """One text."""
        mixture = self._mixture
        budget = context
        if random.fraction() >= mixture.filled:
            budget = context // 4 + random.below(context - context // 4)
        haystack = weighted(random, mixture.haystack)
        key = weighted(random, mixture.key)
        value = weighted(random, mixture.value)
        asked = weighted(random, mixture.asked)
        limit = 1 + random.below(mixture.needles)

        groups = self._groups(random, key, value, asked, limit)
        introduction = groups[0].question.introduction
        joiner = " " if haystack == "essay" else "\n"
        room = budget - self._ends.first.tokens(self._tokenizer) - self._tokenizer.count(introduction)
        # At least one group is kept, however short the context.
        kept: list[_Group] = []
        for group in groups:
            room -= group.tokens(self._tokenizer) + self._ends.later.tokens(self._tokenizer)
            if room < 0 and kept:
                break
            kept.append(group)
        needles = [needle for group in kept for needle in group.needles]
        blocks = self._blocks(random, haystack, key, value, joiner, max(room, 0))
        places = sorted((random.below(len(blocks) + 1), i) for i in range(len(needles)))
        for place, i in reversed(places):
            blocks.insert(place, needles[i].sentence)
        order = {needles[i].sentence: rank for rank, (_, i) in enumerate(places)}
        parts: list[Part] = []
        prompt_template, text = self._ends.first, introduction + joiner.join(blocks)
        for group in random.sample(kept, len(kept)):
            turn = [
                *prompt_template.before,
                text + group.question.text,
                *prompt_template.after,
                group.question.answer_prefix,
            ]
            parts += [*map(Part, turn), Part(group.answer(order), answer=True), Part(self._ends.end, answer=True)]
            prompt_template, text = self._ends.later, ""
        return encoded(self._tokenizer, parts, context)

    def _groups(self, random: RandomStream, key: Kind, value: Kind, asked: str, limit: int) -> list[_Group]:
        size = 1 if asked == "one" else 2 + random.below(3)
        groups = []
        for _ in range(max(limit // size, 1)):
            keys = [draw_text(key, random) for _ in range(size if asked == "keys" else 1)]
            values = [draw_text(value, random) for _ in range(size)]
            needles = [Needle(keys[i % len(keys)], each, value) for i, each in enumerate(values)]
            groups.append(_Group(NeedleQuestion(value, tuple(keys), plural=size > 1), needles))
        return groups

    def _blocks(self, random: RandomStream, haystack: str, key: Kind, value: Kind, joiner: str, room: int) -> list[str]:
        start = random.below(len(self._sentences))
        blocks: list[str] = []
        while True:
            if haystack == "essay":
                block = self._sentences[(start + len(blocks)) % len(self._sentences)]
            elif haystack == "noise":
                block = NOISE
            else:
                block = Needle(draw_text(key, random), draw_text(value, random), value).sentence
            room -= self._tokenizer.count(joiner + block)
            if room < 0:
                return blocks
            blocks.append(block)


@dataclass(frozen=True)
class _Group:
    """Needles that one question asks for together."""

    question: NeedleQuestion
    needles: list[Needle]

    def answer(self, order: Mapping[str, int]) -> str:
        """The values: by order of the keys asked for, or of appearance where the key is one."""
        needles = self.needles
        if len(self.question.keys) == 1:
            needles = sorted(needles, key=lambda needle: order[needle.sentence])
        return f" {joined_query([needle.value for needle in needles])}."

    def tokens(self, tokenizer: Tokenizer) -> int:
        """An upper estimate of what needles, question and answer take."""
        sentences = sum(tokenizer.count("\n" + needle.sentence) + 1 for needle in self.needles)
        values = " " + joined_query([needle.value for needle in self.needles]) + "."
        return (
            sentences + tokenizer.count(self.question.text + self.question.answer_prefix) + tokenizer.count(values) + 2
        )
