"""Describes an experiment, once: its identity, and the seed and order of each of its runs.

The same name with another identity is refused; more runs may be added at any time. Knows no log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from ray_darts.artifacts.descriptions import (
    CellFacts,
    DataSummary,
    ExperimentDescription,
    GroupFacts,
    LayoutFacts,
    RunDescription,
)
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys, is_name
from ray_darts.artifacts.objects import ObjectStore, create
from ray_darts.errors import ConfigError, CorruptObject, MissingObject
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order

_LONGEST_VALUE = 600
_SHOWN = ("classes", "samples", "image_size", "channels")
_NO_DEFAULTS: Mapping[str, JsonValue] = MappingProxyType({})


def register_experiment(
    store: ObjectStore,
    experiment: str,
    *,
    identity: Mapping[str, JsonValue],
    config_digest: str,
    layout: SpaceLayout,
    data_digests: Mapping[str, str],
    code: str,
    defaults: Mapping[str, JsonValue] = _NO_DEFAULTS,
    data: DataSummary | None = None,
) -> ExperimentDescription:
    """Write `experiment.json`, or read it and check that it describes the same experiment; returns the stored one.

    `data` is written with a new experiment and is not compared. `defaults` as in `check_same`.
    Raises: ConfigError naming the fields that differ.
    """
    keys = ExperimentKeys(experiment)
    asked = ExperimentDescription(
        experiment=experiment,
        identity=dict(identity),
        config_digest=config_digest,
        data_digests=dict(data_digests),
        layout=layout_facts(layout),
        code=code,
        data=data,
    )
    there_bytes = create(store, keys.description, asked.to_bytes())
    if there_bytes is None:
        return asked
    there = ExperimentDescription.from_bytes(there_bytes, keys.description)
    check_same(there, asked, defaults)
    return there


def check_same(
    there: ExperimentDescription,
    asked: ExperimentDescription,
    defaults: Mapping[str, JsonValue] = _NO_DEFAULTS,
) -> None:
    """Raise ConfigError, naming each field that differs, unless both descriptions are of one experiment.

    Identities are compared field by field; digests are names and are not compared. A field that both have must be
    equal. A field that only `asked` has came after the experiment was written and must have its default in
    `defaults`: this release's identity with every setting at its default, for the same kinds of space and data. That
    default must be what releases without the field computed. A field that only `there` has must have its default, too;
    one without a default here is unknown to this release and is refused: a release therefore leaves fields added after
    the first one out of the identity while they have their default.
    """
    lines = list(_different_fields(dict(_flatten(there.identity)), dict(_flatten(asked.identity)), defaults))
    if there.layout != asked.layout:
        lines.append(f"layout: {_layout_text(there.layout)} there, {_layout_text(asked.layout)} asked")
    names = sorted(there.data_digests.keys() | asked.data_digests.keys())
    pairs = [(name, there.data_digests.get(name, "none"), asked.data_digests.get(name, "none")) for name in names]
    changed = [f"data {name}: digest {old[:12]} there, {new[:12]} asked" for name, old, new in pairs if old != new]
    if changed:
        lines += [*changed, *_data_changes(there.data, asked)]
    if lines:
        raise ConfigError(
            f"experiment {asked.experiment!r} exists with another identity; give this one another --name:\n"
            + "\n".join(f"  {line}" for line in lines),
            experiment=asked.experiment,
        )


def data_summary(facts: DataFacts | None) -> DataSummary | None:
    """The facts of the data that `experiment.json` keeps; None where the data has no classes."""
    if facts is None or not facts.description.classes:
        return None
    about = facts.description
    return DataSummary(
        classes=about.classes,
        samples=about.samples,
        image_size=facts.image_size,
        channels=facts.channels,
        mean=about.mean,
        std=about.std,
    )


def _data_changes(there: DataSummary | None, asked: ExperimentDescription) -> Iterator[str]:
    """Lines that say what is another in data of another digest, as far as it is recorded."""
    settings = asked.identity.get("data")
    kind, source = (settings.get(name) for name in ("kind", "source")) if isinstance(settings, dict) else (None, None)
    if asked.data is None:
        if kind == "text":
            yield (
                "the texts, or how they are read, have changed; 0.2 leaves a byte order mark out of the first word "
                "(CHANGELOG)"
            )
        return
    if there is not None:
        names = [name for name in _SHOWN if getattr(there, name) != getattr(asked.data, name)]
        for name in names:
            yield f"data {name}: {_cut(getattr(there, name))} there, {_cut(getattr(asked.data, name))} asked"
        if not names:
            yield "the files, or a setting that changes their pixels (data.background), have changed"
        return
    yield (
        "the files, or how they are read, have changed; 0.2 reads splits, transparency, EXIF orientation and hidden "
        "files otherwise than 0.1 did (CHANGELOG)"
    )
    as_text = sorted(asked.data.classes)
    if source == "folder" and list(asked.data.classes) != as_text:
        yield (
            f"the classes are in the order {_cut(asked.data.classes)}; 0.1 sorted class folders as text: to continue "
            f"what it began, set data.classes={_cut(as_text)}"
        )


def _cut(value: object) -> str:
    """`value` as JSON, which is TOML here, cut to a line that can be read."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}… ({len(text)} characters)"


def _layout_text(layout: LayoutFacts) -> str:
    return "; ".join(
        f"{cell.name} of {cell.num_nodes} nodes with {', '.join(cell.operations)}" for cell in layout.cells
    )


def _different_fields(
    there: Mapping[str, JsonValue], asked: Mapping[str, JsonValue], defaults: Mapping[str, JsonValue]
) -> Iterator[str]:
    known = dict(_flatten(dict(defaults)))
    for name in sorted(there.keys() | asked.keys()):
        if name not in asked and name not in known:
            yield f"{name}: {there[name]!r} there, a field that this release does not know"
        elif name not in asked:
            if there[name] != known[name]:
                yield f"{name}: {there[name]!r} there, absent in this config, which means {known[name]!r}"
        elif name in there:
            if there[name] != asked[name]:
                yield f"{name}: {there[name]!r} there, {asked[name]!r} asked"
        elif name not in known:
            yield f"{name}: absent there, {asked[name]!r} asked"
        elif known[name] != asked[name]:
            yield f"{name}: absent there, which means {known[name]!r}, {asked[name]!r} asked"


def read_experiment(store: ObjectStore, experiment: str) -> ExperimentDescription:
    """Read `experiment.json`. Raises: MissingObject."""
    key = ExperimentKeys(experiment).description
    return ExperimentDescription.from_bytes(store.get(key).data, key)


def register_documents(store: ObjectStore, experiment: str, run: str, documents: Mapping[str, str]) -> None:
    """Write what a run's data needs to be read again ({file name: JSON text}), or read the same. Raises: ConfigError"""
    keys = RunKeys(experiment, run)
    for name, text in documents.items():
        there = create(store, keys.document(name), text.encode())
        if there is not None and there != text.encode():
            raise ConfigError(f"{keys.document(name)} holds another {name}: this node sees other data (data.path)")


def register_run(
    store: ObjectStore,
    experiment: str,
    run: str,
    seed: int,
    order: Order | None,
    *,
    method: Mapping[str, JsonValue] | None = None,
    groups: tuple[GroupFacts, ...] = (),
    genotype: Mapping[str, JsonValue] | None = None,
) -> RunDescription:
    """Write `run.json`, or read the same run's. Raises: CorruptObject when it is another run.

    The settings of `method` are part of the experiment's identity, which is compared with defaults in mind.
    """
    keys = RunKeys(experiment, run)
    settings = None if method is None else dict(method)
    cell = None if genotype is None else dict(genotype)
    asked = RunDescription(run=run, seed=seed, order=order, method=settings, groups=groups, genotype=cell)
    there = create(store, keys.description, asked.to_bytes())
    if there is None:
        return asked
    described = RunDescription.from_bytes(there, keys.description)
    if described.model_copy(update={"method": settings}) != asked:
        what = "" if order is None else f"{order} order, "
        raise CorruptObject(f"{keys.description} is not {what}seed {seed}", key=keys.description)
    return described


def read_run(store: ObjectStore, experiment: str, run: str) -> RunDescription:
    """Read `run.json`. Raises: MissingObject, CorruptObject."""
    keys = RunKeys(experiment, run)
    described = RunDescription.from_bytes(store.get(keys.description).data, keys.description)
    if described.run != run:
        raise CorruptObject(f"{keys.description} describes {described.run!r}", key=keys.description)
    return described


def list_runs(store: ObjectStore, experiment: str) -> list[str]:
    """Names of the runs that have at least one object, sorted; one LIST."""
    return [name for name in store.list_folders(ExperimentKeys(experiment).runs) if is_name(name)]


def list_experiments(store: ObjectStore) -> list[str]:
    """Names of the experiments in a store, sorted; one LIST."""
    return [name for name in store.list_folders("") if is_name(name)]


def no_such_experiment(store: ObjectStore, experiment: str) -> MissingObject:
    """The error that names the experiments that there are."""
    there = list_experiments(store)
    known = f"there are {', '.join(there)}" if there else "it holds none"
    if experiment in there:
        known = f"{ExperimentKeys(experiment).description} is missing"
    return MissingObject(f"no experiment {experiment!r} in {store.uri}; {known}", experiment=experiment)


def space_layout(described: ExperimentDescription) -> SpaceLayout:
    """The layout of an experiment's alphas."""
    facts = described.layout
    cells = tuple(
        CellLayout(
            cell.name,
            cell.num_inputs,
            cell.num_nodes,
            cell.operations,
            cell.inputs_per_node,
            keeps_none=cell.keeps_none,
            outputs=cell.outputs,
            choices=cell.choices,
        )
        for cell in facts.cells
    )
    # Facts do not say whether fewer edges may be kept: what a genotype keeps is decoded anew and compared.
    return SpaceLayout(facts.space, cells, facts.skip, frozenset(facts.parameter_free), may_keep_fewer=True)


def layout_facts(layout: SpaceLayout) -> LayoutFacts:
    cells = tuple(
        CellFacts(
            name=cell.name,
            num_inputs=cell.num_inputs,
            num_nodes=cell.num_nodes,
            operations=cell.operations,
            inputs_per_node=cell.inputs_per_node,
            keeps_none=cell.keeps_none,
            outputs=cell.outputs,
            choices=cell.choices,
        )
        for cell in layout.cells
    )
    return LayoutFacts(
        space=layout.space, cells=cells, skip=layout.skip, parameter_free=tuple(sorted(layout.parameter_free))
    )


def _flatten(value: JsonValue, prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value
