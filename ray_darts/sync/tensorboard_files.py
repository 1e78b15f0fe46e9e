"""TensorBoard: one folder of event files per run, with scalars, hyperparameters, the cell as image and text.

What is there is read back first, so the same command again adds nothing twice, also after it was killed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray_darts.extras import needed
from ray_darts.sync.runs import LoggedRun

_FINAL = "final/"
_IMAGE, _TEXT = "cell", "genotype"
_PNG_SCALE = 1.0


class TensorBoardFiles:
    """Event files below a folder. Raises: ConfigError without the extra `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        needed("tensorboard", "tensorboard", "--to tensorboard")
        self._folder = folder
        self._last: dict[str, dict[str, int]] = {}

    def add(self, run: LoggedRun) -> int:
        """Append what is not in the event files of the run yet."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._folder / run.experiment / run.run
        last = self._last.setdefault(run.run, {})
        if not last:
            last.update(_last_steps(folder))
        events: list[Any] = []

        def put(tag: str, step: int, time_s: float, **value: object) -> bool:
            if last.get(tag, -1) >= step:
                return False
            last[tag] = step
            summary = Summary(value=[Summary.Value(tag=tag, **value)])
            events.append(Event(wall_time=time_s, step=step, summary=summary))
            return True

        added = 0
        if run.points and last.get("hyperparameters", -1) < 0:
            last["hyperparameters"] = 0
            named = hparams_pb(dict(run.hyperparameters), trial_id=run.run, start_time_secs=run.points[0].time_s)
            events.append(Event(wall_time=run.points[0].time_s, step=0, summary=named))
        for point in run.points:
            new = [put(name, point.step, point.time_s, simple_value=value) for name, value in point.values.items()]
            added += True in new
        if run.points and run.metric is not None:
            end = run.points[-1]
            put(f"{_FINAL}{run.metric[0]}", end.step, end.time_s, simple_value=run.metric[1])
        if run.points and run.genotype is not None:
            end = run.points[-1]
            put(_TEXT, end.step, end.time_s, **_text(run.genotype.to_json()))
            put(_IMAGE, end.step, end.time_s, image=Summary.Image(encoded_image_string=_png(run.drawing())))
        if events:
            writer = EventFileWriter(str(folder))
            for event in events:
                writer.add_event(event)
            writer.close()
        return added

    def write(self) -> None:
        """Each run is written when it is added."""


def _last_steps(folder: Path) -> dict[str, int]:
    """{tag: its last step} of the event files of a run; a file that ends early is read as far as it goes."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: dict[str, int] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                tag = "hyperparameters" if value.metadata.plugin_data.plugin_name == "hparams" else value.tag
                found[tag] = max(found.get(tag, -1), event.step)
    return found


def _text(text: str) -> dict[str, object]:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    return {
        "metadata": metadata,
        "tensor": TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape),
    }


def _png(svg: str) -> bytes:
    """The drawing as PNG. Raises: ConfigError without the extra `report`."""
    from ray_darts.report.drawings import drawing

    return drawing(svg, Path("cell.png"))
