"""Size and cost of an architecture's network as text and data, for the commands that print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_darts.architectures import Architecture
    from ray_darts.config import TrainingConfig
    from ray_darts.protocols.dataset import DataFacts
    from ray_darts.training.figures import NetworkFigures

_OPTIONS = {"num_classes": "--classes", "image_size": "--image-size", "channels": "--image-channels"}
"""{field of DataFacts: option of `ray-darts inspect`}"""


def figures_for_preset(preset: str, found: Architecture) -> tuple[str, dict[str, object]]:
    """The figures of the network that a training with this preset would build, as text and data.

    Raises: ConfigError, also where the preset is for cells of another space.
    """
    from ray_darts.architectures import check_fits
    from ray_darts.config import load_training_config

    config = load_training_config(preset)
    check_fits(found, config.network.kind)
    return figures_of(config, found, *data_facts(config, found, {}))


def figures_of(
    config: TrainingConfig, found: Architecture, facts: DataFacts, known_by: str
) -> tuple[str, dict[str, object]]:
    """The figures of the network for data of these sizes, as text and data; `known_by`: how they are known."""
    from ray_darts.training.figures import network_figures

    figures = network_figures(config, found.genotype, facts)
    return _text(config, found, facts, known_by, figures), _data(config, found, facts, known_by, figures)


def data_facts(config: TrainingConfig, found: Architecture, given: dict[str, int]) -> tuple[DataFacts, str]:
    """The sizes of the data, and for people how they are known. What is `given` ({field of DataFacts: size}) counts
    first; then what the data set knows unread; data that a package brings are read; then the data of the experiment.

    Raises: ConfigError where none of these knows them; DataError.
    """
    from ray_darts.errors import ConfigError
    from ray_darts.protocols.dataset import DataFacts

    wanted = {"num_classes"}
    if "image_size" in type(config.data).model_fields:
        wanted |= {"image_size", "channels"}
    if set(given) - wanted:
        options = " and ".join(_OPTIONS[name] for name in given if name not in wanted)
        raise ConfigError(f"{options}: data.kind {config.data.kind!r} has no images: leave it out")
    known, known_by = (DataFacts(0), "") if wanted <= set(given) else _known_facts(config, found)
    if known is None:
        options = " ".join(f"{option} N" for name, option in _OPTIONS.items() if name in wanted - set(given))
        raise ConfigError(f"the sizes of the data are not known without reading them: give {options}")
    facts = DataFacts(
        given.get("num_classes", known.num_classes),
        given.get("channels", known.channels),
        given.get("image_size", known.image_size),
    )
    options = ", ".join(_OPTIONS[name] for name in given)
    return facts, "; ".join([*([known_by] if known_by else []), *([f"{options} given"] if given else [])])


def _known_facts(config: TrainingConfig, found: Architecture) -> tuple[DataFacts | None, str]:
    """The sizes of the data, None where they are not known, and how they are known."""
    unread = config.data.facts_unread()
    if unread is not None:
        return unread, "known of these data"
    if config.data.path is None:
        from ray_darts.data.open import open_data

        return open_data(config, 0).facts, "read from the data"
    if found.experiment is None or found.store_uri is None:
        return None, ""
    from ray_darts.artifacts.open import open_store
    from ray_darts.orchestration.budget import stored_facts

    facts = stored_facts(open_store(found.store_uri, config.store), found.experiment)
    return facts, "" if facts is None else f"those of the data of {found.experiment}"


def _text(config: TrainingConfig, found: Architecture, facts: DataFacts, known_by: str, figures: NetworkFigures) -> str:
    from ray_darts.report.amounts import bytes_text, counted
    from ray_darts.training.figures import MULTIPLY_ADDS_RULE

    options = config.network.model_dump(mode="json", exclude={"kind"})
    size, more = f"{facts.image_size}x{facts.image_size} pixels, {counted(facts.channels, 'channel')}", ""
    if figures.parameters_with_auxiliary != figures.parameters:
        more = f" ({figures.parameters_with_auxiliary:,} with the auxiliary head, which training alone uses)"
    sizes = f"{facts.num_classes:,} classes, {size}" if facts.image_size else f"{facts.num_classes:,} words"
    lines = [
        found.origin,
        f"network        {config.network.kind}: {', '.join(f'{name} {value}' for name, value in options.items())}",
        f"data           {sizes} ({known_by})",
        f"parameters     {figures.parameters:,}{more}",
        f"multiply-adds  {figures.multiply_adds / 1e6:,.2f} M",
        f"activations    {bytes_text(figures.activation_bytes)} kept for the backward pass of one sample in training",
    ]
    lines += [
        f"{name:<14} {counted(figures.edges[name], 'edge')}, {depth} on the longest path from an input to the output"
        for name, depth in figures.depth.items()
    ]
    return "\n".join([*lines, f"Counted: {MULTIPLY_ADDS_RULE}."])


def _data(
    config: TrainingConfig, found: Architecture, facts: DataFacts, known_by: str, figures: NetworkFigures
) -> dict[str, object]:
    from ray_darts.training.figures import MULTIPLY_ADDS_RULE

    return {
        "genotype": found.genotype.to_data(),
        "origin": found.origin,
        "experiment": found.experiment,
        "run": found.run,
        "network": config.network.model_dump(mode="json"),
        "data": {
            "num_classes": facts.num_classes,
            "image_size": facts.image_size,
            "channels": facts.channels,
            "known_by": known_by,
        },
        "figures": figures.to_data(),
        "multiply_adds_rule": MULTIPLY_ADDS_RULE,
    }
