"""The answer of a search in its finish record: a genotype, the step it was decoded after, and what ranks it.

A record stores an answer as plain data; this is its typed form, for everything that publishes, verifies or compares
searches. Imports no pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import JsonValue, ValidationError

from ray_darts.artifacts.documents import Facts
from ray_darts.artifacts.records import Metric, Record
from ray_darts.errors import CorruptObject
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import ALPHAS, SpaceLayout

__all__ = ["ALPHAS", "GENOTYPE", "SEARCH_DOCUMENTS", "SearchAnswer", "is_ranked"]

GENOTYPE = "genotype.json"
SEARCH_DOCUMENTS = (GENOTYPE, "alpha_trace.parquet", "metrics.parquet")


class SearchAnswer(Facts):
    """`genotype` decodes from the alphas after `genotype_step`; `metric` ranks the run among others."""

    genotype: dict[str, JsonValue]
    genotype_step: int
    metric: Metric

    @classmethod
    def new(cls, genotype: Genotype, genotype_step: int, metric: Mapping[str, object]) -> Self:
        """The answer of a search that ends now; `metric` has name, value and direction. Raises: ValueError."""
        return cls.model_validate({"genotype": genotype.to_data(), "genotype_step": genotype_step, "metric": metric})

    @classmethod
    def of(cls, record: Record, key: str) -> Self:
        """The answer of a finish record read from `key`. Raises: CorruptObject when it is not a search's answer."""
        try:
            answer = cls.model_validate(record.answer)
            answer.check_step(record.step)
        except ValueError as error:
            raise CorruptObject(f"{key} has no answer of a search: {_mistakes(error)}", key=key) from error
        return answer

    def check_step(self, last: int) -> None:
        """Raise ValueError unless the genotype's step is one of the durable steps 1 to `last`."""
        if not 1 <= self.genotype_step <= last:
            raise ValueError(f"the genotype is of step {self.genotype_step}, but only 1 to {last} are durable")

    def architecture(self, layout: SpaceLayout | None = None) -> Genotype:
        """The genotype, checked, also against a layout if one is given. Raises: GenotypeError."""
        return Genotype.from_data(self.genotype, layout)

    def to_data(self) -> dict[str, JsonValue]:
        """The plain form that a finish record stores."""
        data: dict[str, JsonValue] = self.model_dump(mode="json")
        return data


def is_ranked(record: Record) -> bool:
    """Whether a run takes part in `best.json`: it has finished and publishes a genotype."""
    return record.kind == "finish" and GENOTYPE in record.documents


def metric_of(record: Record) -> Metric | None:
    """The metric of a finished run's answer, whatever its task; None where it has none."""
    plain = None if record.answer is None else record.answer.get("metric")
    try:
        return Metric.model_validate(plain) if record.kind == "finish" else None
    except ValidationError:
        return None


def _mistakes(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
    return str(error)
