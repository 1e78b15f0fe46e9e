"""Upgrades run log records of schema 1 (written by ray_darts 0.1) to the form of schema 2.

Schema 1 knew one task, the search: one stream of rows, alphas, and an answer in three fields. Nothing here changes
when the present schema changes; the fixture in tests/data/schema_1 is read through it.
"""

from __future__ import annotations

from collections.abc import Mapping

_ONLY_IN_SCHEMA_2 = ("term", "task", "streams", "answer", "documents")
_ANSWER = ("genotype", "genotype_step", "metric")
_DOCUMENTS = ("genotype.json", "alpha_trace.parquet", "metrics.parquet")


def upgrade_record(plain: Mapping[str, object]) -> dict[str, object]:
    """The same record in schema 2; fields unknown to both stay and are refused there.

    Raises: ValueError for a field that schema 1 does not have.
    """
    unknown = [name for name in _ONLY_IN_SCHEMA_2 if name in plain]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no field of schema 1")
    if "epoch" not in plain:
        raise ValueError("epoch: field required")
    record = dict(plain)
    answer = {name: record.pop(name, None) for name in _ANSWER}
    parts = record.pop("parts", ())
    term = record.pop("epoch")
    finished = record.get("kind") == "finish"
    return {
        **record,
        "schema_version": 2,
        "term": term,
        "task": "search",
        "streams": {"alphas": parts} if parts else {},
        "answer": None if all(value is None for value in answer.values()) else answer,
        "documents": _DOCUMENTS if finished else (),
    }
