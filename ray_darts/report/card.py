"""One Markdown document that answers the best practices of research on architecture search for an experiment.

The practices are those of the checklist of M. Lindauer and F. Hutter (arXiv:1909.02453), in our own words. What the
store has nothing about is said to be not recorded, or not done; nothing is assumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from ray_darts.report import card_answers as answers
from ray_darts.report.card_answers import Answer
from ray_darts.report.card_facts import CardFacts

State = Literal["recorded", "partly", "not recorded", "not done"]


@dataclass(frozen=True)
class Practice:
    """One of the fourteen, and what the store says about it. `lines`: Markdown, one item each."""

    number: int
    title: str
    state: State
    lines: tuple[str, ...]


_PRACTICES: tuple[tuple[str, Callable[[CardFacts], Answer]], ...] = (
    ("Release the code that trains the final networks", answers.training_code),
    ("Release the code of the search method", answers.search_code),
    ("Release the code as it ran, without waiting to clean it", answers.code_as_run),
    ("Compare on one benchmark: the same space, data and split", answers.benchmark),
    ("Take the method apart: ablations", answers.ablations),
    ("Evaluate every method by the same protocol", answers.protocol),
    ("Compare performance over time, not at the end only", answers.over_time),
    ("Compare with random sampling and random search", answers.random_baseline),
    ("Repeat with several seeds, and report the spread", answers.several_runs),
    ("Use a tabular or surrogate benchmark where one exists", answers.tabular),
    ("Control what else differs: hardware, versions, threads", answers.confounders),
    ("Report how hyperparameters were chosen", answers.tuning),
    ("Report the time of everything, from start to end", answers.total_time),
    ("Report every detail of the setup", answers.setup),
)


@dataclass(frozen=True)
class Card:
    """The answers to all practices, and the facts that the document ends with."""

    experiment: str
    training: str | None
    practices: tuple[Practice, ...]
    identity: dict[str, object]
    commands: tuple[str, ...]

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data."""
        return asdict(self)


def make_card(facts: CardFacts) -> Card:
    """Answer every practice from the facts of a store."""
    practices = []
    for number, (title, answer) in enumerate(_PRACTICES, start=1):
        state, lines = answer(facts)
        practices.append(Practice(number, title, state, tuple(lines)))
    return Card(
        experiment=facts.experiment,
        training=None if facts.training is None else facts.training.description.experiment,
        practices=tuple(practices),
        identity=dict(facts.description.identity),
        commands=tuple(f"{session.started_at}: {' '.join(session.argv)}" for session in facts.all_sessions),
    )


def card_markdown(card: Card) -> str:
    """The card as one Markdown document."""
    return "\n".join(_document(card)) + "\n"


def _document(card: Card) -> Iterator[str]:
    trained = "no experiment of trainings was named" if card.training is None else f"its trainings: `{card.training}`"
    yield f"# Experiment card: {card.experiment}"
    yield ""
    yield f"Made from the results in the store alone; {trained}. The practices are those of arXiv:1909.02453."
    yield ""
    yield "| | practice | in the store |"
    yield "|---|---|---|"
    for practice in card.practices:
        yield f"| {practice.number} | {practice.title} | {practice.state} |"
    for practice in card.practices:
        yield ""
        yield f"## {practice.number}. {practice.title}"
        yield ""
        yield f"**{practice.state[0].upper()}{practice.state[1:]}.**"
        yield ""
        for line in practice.lines:
            yield f"- {line}"
    yield ""
    yield "## Config of the search"
    yield ""
    yield "```json"
    yield json.dumps(card.identity, indent=2, sort_keys=True, ensure_ascii=False)
    yield "```"
    if card.commands:
        yield ""
        yield "## Commands"
        yield ""
        yield "```text"
        yield from card.commands
        yield "```"
