"""Questions about invented people, in few plain words: what the smallest models can learn to read."""

from __future__ import annotations

from typing import Final

from generators.corpora.questions import Question, QuestionSet
from generators.random_streams import RandomStream

__all__ = ["people_questions"]

_BEGINNINGS: Final = ("bar", "cal", "dor", "el", "fen", "gal", "hel", "is", "jor", "kel", "lam", "mor", "nel", "or")
_MIDDLES: Final = ("a", "e", "i", "o", "u", "an", "en", "il", "or", "us")
_ENDS: Final = ("dan", "field", "gate", "ham", "la", "mont", "na", "rik", "sten", "ton", "va", "wick")
_TRADES: Final = ("baker", "carpenter", "doctor", "engineer", "farmer", "lawyer", "painter", "printer", "sailor")
_THINGS: Final = ("books", "clocks", "coins", "dogs", "horses", "maps", "paintings", "ships", "stamps", "stones")

# Well below the number of names that can be put together, so that new ones are found soon.
_MOST: Final = 1000


def people_questions(random: RandomStream, *, hops: int, people: int = 96) -> QuestionSet:
    """Documents, one a person, and questions that one of them answers, or two.

    Args:
        random: Other streams give other people.
        hops: 1, or 2: of one's teacher.
        people: How many; at most 1,000.

    Raises:
        ValueError: More people than there are names for.
    """
    if people > _MOST:
        raise ValueError(f"at most {_MOST} invented people have names of their own, not {people}")
    names = _names(random.stream("people"), people)
    towns = _names(random.stream("towns"), people)
    documents: list[str] = []
    questions: list[Question] = []
    for person, name in enumerate(names):
        # The teacher is an earlier person, so that chains of questions end.
        teacher = random.below(person) if person else None
        town, trade, things = towns[person], random.choice(_TRADES), random.choice(_THINGS)
        year = str(1500 + random.below(500))
        sentences = [
            f"{name} was born in {town} in {year}.",
            f"{name} worked as a {trade} and was known for a collection of {things}.",
        ]
        if teacher is not None:
            sentences.append(f"The teacher of {name} was {names[teacher]}.")
        documents.append(" ".join(sentences))
        if hops == 1:
            asked = random.choice(
                (
                    (f"Where was {name} born?", town),
                    (f"In what year was {name} born?", year),
                    (f"What did {name} work as?", trade),
                    (f"What did {name} collect?", things),
                )
            )
            questions.append(Question(asked[0], (asked[1],), (person,), ()))
        elif teacher is not None:
            questions.append(
                Question(f"Where was the teacher of {name} born?", (towns[teacher],), (person, teacher), ())
            )
    return QuestionSet(tuple(documents), tuple(questions))


def _names(random: RandomStream, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[(random.choice(_BEGINNINGS) + random.choice(_MIDDLES) + random.choice(_ENDS)).capitalize()] = None
    return list(found)
