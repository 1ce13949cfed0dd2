"""Greedy decoding of many prompts is each prompt's own, whatever it is batched with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generators.corpora.sets import EmbeddedCorpora
from generators.examples import ExampleSource
from generators.oracles import oracle_answer
from generators.tasks.registry import tasks
from generators.tokenizer_files import load_tokenizer
from models.decoding.greedy import GreedySettings, NonFiniteLogits, batches, greedy
from models.evaluation import answer
from models.loading import LoadedModel
from suites.support.reciters import END, VOCABULARY, Heard, Read, Recitation, Reciter, alone, scrambled
from suites.support.runs import REPOSITORY
from suites.support.tiny_models import random_ids, tiny

TOKENIZER = load_tokenizer(REPOSITORY / "zoo" / "pocket" / "tokenizer.json", end_of_sequence="<|endoftext|>")


prompts_of_any_length = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20), max_size=9)
ends = st.sampled_from([None, END])
budgets = st.integers(1, 80)


@given(prompts_of_any_length, st.integers(0, 12), ends, budgets)
@settings(max_examples=150)
def test_each_prompt_is_continued_as_if_alone(prompts, tokens, end, budget):
    """Whatever the batch, each prompt gets its own greedy tokens, none after the end and never too many."""
    found = greedy(Reciter(scrambled), prompts, GreedySettings(tokens, end_of_sequence=end, batch_tokens=budget))
    assert found == [alone(prompt, tokens, end) for prompt in prompts]
    assert all(len(new) <= tokens and end not in new for new in found)


@given(prompts_of_any_length, st.integers(0, 12), ends, budgets)
def test_every_row_is_reported_once_when_it_is_final(prompts, tokens, end, budget):
    """`finished` hears of every row exactly once, with the ids that are returned for it."""
    heard = Heard()
    found = greedy(
        Reciter(scrambled), prompts, GreedySettings(tokens, end_of_sequence=end, batch_tokens=budget), listener=heard
    )
    assert sorted(heard.answers) == list(enumerate(found))


@given(prompts_of_any_length, budgets)
@settings(max_examples=50)
def test_no_more_is_read_at_once_than_allowed(prompts, budget):
    """The decoder never reads more tokens at once than `batch_tokens`, padding included, unless in a single row."""
    decoder = Reciter(scrambled)
    greedy(decoder, prompts, GreedySettings(1, batch_tokens=budget))
    assert all(shape.numel() <= budget or shape[0] == 1 for shape in decoder.prefills)


@given(st.lists(st.integers(1, 200), max_size=40), st.integers(1, 1000))
@settings(max_examples=150)
def test_batches_cover_the_rows_within_the_budget(lengths, tokens):
    """Every row is in exactly one batch, and a batch of several rows holds at most the budget with padding."""
    made = list(batches(lengths, tokens))
    assert sorted(row for batch in made for row in batch.rows) == list(range(len(lengths)))
    for batch in made:
        assert batch.longest == max(lengths[row] for row in batch.rows)
        assert len(batch.rows) == 1 or batch.longest * len(batch.rows) <= tokens


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(1, 1000))
@settings(max_examples=50)
def test_longest_batch_comes_first(lengths, tokens):
    """Batches come in order of falling length, so that the most memory is needed at the start."""
    longest = [batch.longest for batch in batches(lengths, tokens)]
    assert longest == sorted(longest, reverse=True)


def test_a_decoder_that_says_the_end_at_once_gives_nothing():
    """A row whose first token is the end has an empty continuation, and the other rows go on."""
    found = greedy(
        Reciter(lambda read: END if read[0] == 1 else 5),
        [[1, 1], [2], [1]],
        GreedySettings(4, end_of_sequence=END, batch_tokens=100),
    )
    assert found == [[], [5, 5, 5, 5], []]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=VOCABULARY),
    st.integers(0, VOCABULARY - 1),
    st.integers(0, 5),
    budgets,
)
@settings(max_examples=40)
def test_broken_logits_name_row_and_token(broken, more, row, token, budget):
    """Logits that are not finite raise an error with the prompt's index and the number of tokens before them."""
    prompts = [[i, *[1] * extra] for i, extra in enumerate(more)]
    row %= len(prompts)

    def answer(read: Read) -> int | None:
        breaks = read[0] == row and len(read) == len(prompts[row]) + token
        return None if breaks else scrambled(read)

    with pytest.raises(NonFiniteLogits) as caught:
        greedy(Reciter(answer, broken), prompts, GreedySettings(6, batch_tokens=budget))
    assert (caught.value.row, caught.value.token) == (row, token)
    assert f"example {row} " in str(caught.value)
    assert f"token {token};" in str(caught.value)


def test_nothing_is_computed_after_the_last_token():
    """A decoder is never asked for the token after the last wanted one."""
    prompt, tokens = [3, 1], 4

    def answer(read: Read) -> int:
        assert len(read) < len(prompt) + tokens
        return 5

    found = greedy(Reciter(answer), [prompt], GreedySettings(tokens, batch_tokens=10))
    assert found == [[5] * tokens]


@pytest.mark.parametrize("kind", ["mamba2", "hybrid", "transformer"])
def test_models_give_the_same_in_any_batches(kind):
    """Real models continue prompts of unequal lengths with the same tokens whatever the size of a batch."""
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 40, 1, 17, 40, 66)]

    def continued(chosen: list[list[int]], end: int | None, budget: int) -> list[list[int]]:
        settings = GreedySettings(32, end_of_sequence=end, batch_tokens=budget)
        return greedy(tiny("state-spaces", kind), chosen, settings)

    unended = [continued([prompt], None, 1000)[0] for prompt in prompts]
    # A token that some rows meet and others do not: rows leave their batch at different times.
    end = next(token for token in unended[0] if any(token not in new for new in unended))
    for budget in (1, 40, 100, 1000):
        found = continued(prompts, end, budget)
        assert found == [new[: new.index(end)] if end in new else new for new in unended], budget


@dataclass
class Narrow(Reciter):
    """A reciter that runs out of memory where more than `most` rows are read at once, or after some steps."""

    most: int = 1
    step_most: int = 100

    def prefill(self, ids: Tensor, lengths: Tensor, state: Recitation) -> tuple[Tensor, Recitation]:
        if len(ids) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().prefill(ids, lengths, state)

    def step(self, ids: Tensor, state: Recitation) -> tuple[Tensor, Recitation]:
        if len(ids) > self.step_most and len(state.rows[0]) % 3 == 0:
            raise torch.OutOfMemoryError("out of memory")
        return super().step(ids, state)


@given(prompts_of_any_length, st.integers(0, 12), ends, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=150)
def test_a_batch_that_does_not_fit_is_halved(prompts, tokens, end, most, step_most):
    """Whenever memory runs out, every prompt is continued as if alone and reported once."""
    heard = Heard()
    found = greedy(
        Narrow(scrambled, most=most, step_most=step_most),
        prompts,
        GreedySettings(tokens, end_of_sequence=end, batch_tokens=10_000),
        listener=heard,
    )
    assert found == [alone(prompt, tokens, end) for prompt in prompts]
    assert sorted(row for row, _ in heard.answers) == list(range(len(prompts)))


def test_memory_for_not_even_one_prompt_is_an_error():
    """Where not even one prompt fits into memory, the error comes out."""
    with pytest.raises(torch.OutOfMemoryError):
        greedy(Narrow(scrambled, most=0), [[1, 2]], GreedySettings(2, batch_tokens=10))


@given(prompts_of_any_length, st.integers(1, 12), ends, budgets, st.integers(0, 6))
def test_a_complete_answer_is_not_gone_on_with(prompts, tokens, end, budget, wanted):
    """An answer ends with the first token that completes it, others are as they would be."""
    found = greedy(
        Reciter(scrambled),
        prompts,
        GreedySettings(tokens, end_of_sequence=end, batch_tokens=budget),
        listener=Heard(wanted),
    )
    for prompt, ids in zip(prompts, found, strict=True):
        whole = alone(prompt, tokens, end)
        assert ids == (whole[: whole.index(wanted) + 1] if wanted in whole else whole)


@pytest.mark.parametrize("task", ["niah_single_2", "niah_multivalue", "qa_1"])
def test_stopping_at_the_score_changes_no_score(task, monkeypatch):
    """Scores of answers that end when nothing can change are those of the whole generation budget."""
    source = ExampleSource(tasks()[task], 700, TOKENIZER, EmbeddedCorpora(), 48)
    examples = source.examples(6)

    def chatty(read: Read) -> int:
        # The oracle's words, twice, between others: more than an answer needs.
        for script, example in zip(scripts, examples, strict=True):
            if read[: len(example.ids)] == example.ids:
                return script[len(read) - len(example.ids)]
        return TOKENIZER.end_of_sequence

    right = [
        " ".join([oracle_answer(example.text, source.corpora)] * (1 + i % 2)) for i, example in enumerate(examples)
    ]
    texts = [f" {'' if i % 3 else 'nothing '}{text if i % 4 else 'wrong'} and so on" for i, text in enumerate(right)]
    scripts = [(*TOKENIZER.continued(text).ids, *[TOKENIZER.end_of_sequence] * 60) for text in texts]

    class Wide(Reciter):
        def _read(self, new: Sequence[Read], state: Recitation) -> tuple[Tensor, Recitation]:
            rows = [old + more for old, more in zip(state.rows, new, strict=True)]
            chosen = torch.tensor([chatty(row) for row in rows])
            return torch.nn.functional.one_hot(chosen, TOKENIZER.vocabulary_size).float(), Recitation(rows, 0)

    model = LoadedModel(None, Wide(chatty), TOKENIZER, source.prompt_template, {})
    score = source.task.score
    stopped = answer(
        model, examples, score=score, expected=source.task.answer, tokens_to_generate=48, batch_tokens=4096
    )
    monkeypatch.setattr(TOKENIZER, "decodes_steadily", False)
    whole = answer(model, examples, score=score, expected=source.task.answer, tokens_to_generate=48, batch_tokens=4096)
    assert stopped.scores == whole.scores
    assert {0.0, 1.0} <= set(stopped.scores)
    assert sum(map(len, stopped.predictions)) < sum(map(len, whole.predictions))


@dataclass
class Drafting(Narrow):
    """A reciter that reads drafts along with their prompts."""

    def prefill_drafted(
        self, ids: Tensor, lengths: Tensor, drafted: Tensor, state: Recitation
    ) -> tuple[Tensor, Recitation]:
        first, state = self.prefill(ids, lengths - drafted, state)
        steps = (lengths - drafted)[:, None] + torch.arange(int(drafted.max()))
        drafts = ids.gather(1, steps.clamp(max=ids.shape[1] - 1))
        after = [self.logits(drafts, drafted, state)] if drafts.numel() else []
        return torch.cat([first[:, None], *after], 1), state


def likelihood(prompt: Sequence[int], draft: Sequence[int]) -> float:
    """The log-likelihood of a draft, token by token: the reciter's logits are one for its token, else zero."""
    total = 0.0
    for i, token in enumerate(draft):
        others = math.log(math.e + VOCABULARY - 1)
        total += (scrambled((*prompt, *draft[:i])) == token) - others
    return total


@pytest.mark.parametrize("kind", [Narrow, Drafting])
@given(prompts_of_any_length, st.integers(1, 12), ends, budgets, st.integers(0, 6), st.integers(1, 3), st.data())
@settings(max_examples=150)
def test_drafts_change_no_answer(kind, prompts, tokens, end, budget, wanted, most, data):
    """Right, half right, wrong or empty drafts leave every answer as it is, and are as likely as each is alone."""
    drafts = []
    for prompt in prompts:
        right = alone(prompt, tokens, end)
        kept = data.draw(st.integers(0, len(right)))
        drafts.append(right[:kept] + data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=4)))
    heard = Heard(wanted)
    found = greedy(
        kind(scrambled, most=most),
        prompts,
        GreedySettings(tokens, end_of_sequence=end, batch_tokens=budget),
        drafts=drafts,
        listener=heard,
    )
    for prompt, ids in zip(prompts, found, strict=True):
        whole = alone(prompt, tokens, end)
        assert ids == (whole[: whole.index(wanted) + 1] if wanted in whole else whole)
    for row, draft in enumerate(drafts):
        assert heard.log_likelihoods[row] == pytest.approx(likelihood(prompts[row], draft[:tokens]), abs=1e-4)


def test_an_answer_as_expected_is_not_written_token_by_token():
    """Where the draft is what greedy decoding writes, no step is taken."""

    class Unstepping(Reciter):
        def step(self, ids: Tensor, state: Recitation) -> tuple[Tensor, Recitation]:
            raise AssertionError("a step was taken")

        def logits(self, ids: Tensor, lengths: Tensor, state: Recitation) -> Tensor:
            return torch.stack(
                [
                    self._read([tuple(row[: n + 1]) for row in ids.tolist()], Recitation(state.rows, 10**6))[0]
                    for n in range(ids.shape[1])
                ],
                1,
            )

    prompts = [[1, 2, 3], [4, 5]]
    answers = [alone(prompt, 6, None) for prompt in prompts]
    found = greedy(Unstepping(scrambled), prompts, GreedySettings(6), drafts=answers)
    assert found == answers


@pytest.mark.parametrize("kind", [Reciter, Drafting])
@pytest.mark.parametrize("place", range(4))
def test_a_draft_read_with_broken_logits_is_an_error(kind, place):
    """Logits that are not finite anywhere in a draft are an error that names example and token."""

    def answer(read: Read) -> int | None:
        return None if read[0] == 2 and len(read) == 2 + place else 3

    with pytest.raises(NonFiniteLogits) as error:
        greedy(kind(answer), [[1, 1], [2, 2]], GreedySettings(6, batch_tokens=100), drafts=[[3, 3, 3]] * 2)
    assert (error.value.row, error.value.token) == (1, place)


def test_rows_ahead_of_others_stay_within_their_room():
    """A row whose draft agreed far and that is finished early is not stepped beyond what its state has room for."""
    model, tokens = tiny("state-spaces", "hybrid"), 16
    # With their answers they fill a state exactly, as capacities are rounded up to multiples of 256.
    prompts = [random_ids(256 - tokens, seed=seed).tolist() for seed in range(5)]
    plain = greedy(model, prompts, GreedySettings(tokens))
    drafts = [plain[0][:-2], *([(answer[0] + 1) % VOCABULARY] for answer in plain[1:])]
    found = greedy(model, prompts, GreedySettings(tokens), drafts=drafts)
    assert found == plain
