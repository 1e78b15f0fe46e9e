"""Weights & Biases: a run per run, resumed by its id, with curves, config, summary and an artifact.

Its offline files cannot be asked what they hold, so a file beside them says what each run was given; it is written
after the run was. A command that was killed in between gives those points again, and W&B keeps one value per step.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from ray_darts.errors import ConfigError
from ray_darts.extras import needed
from ray_darts.messages import shown_message
from ray_darts.output_files import write_file
from ray_darts.sync.runs import LoggedRun


class WandbRuns:
    """Runs of a project, in W&B's folder below `folder`. Raises: ConfigError without the extra `wandb`."""

    def __init__(self, project: str, folder: Path) -> None:
        wandb = needed("wandb", "wandb", "--to wandb")
        self._wandb: Any = wandb
        self._project = project
        self._folder = folder

    def add(self, run: LoggedRun) -> int:
        """Give W&B the points that the file beside its runs does not name yet."""
        given = self._given(run)
        last, ended = given.get(run.run, [-1, False])
        new = [point for point in run.points if point.step > last]
        if not new and (ended or not run.has_ended or not run.points):
            return 0
        try:
            self._give(run, new)
        except (self._wandb.Error, OSError) as error:
            raise ConfigError(f"Weights & Biases: {shown_message(str(error))}") from error
        given[run.run] = [run.points[-1].step, run.has_ended]
        write_file(self._file(run), json.dumps(given, sort_keys=True))
        return len(new)

    def write(self) -> None:
        """Each run is finished when it is added."""

    def _give(self, run: LoggedRun, new: list[Any]) -> None:
        wandb = self._wandb
        opened = wandb.init(
            project=self._project,
            dir=str(self._folder),
            id=_named(run),
            name=run.run,
            group=f"{run.experiment} {run.group}",
            config=dict(run.hyperparameters),
            resume="allow",
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for point in new:
            opened.log({**point.values, "epoch": point.epoch, "time_s": point.time_s}, step=point.step)
        if run.metric is not None:
            opened.summary[run.metric[0]] = run.metric[1]
        if run.genotype is not None:
            artifact = wandb.Artifact(f"cell-{_named(run)}", type="genotype")
            with tempfile.TemporaryDirectory() as made:
                for name, text in (("genotype.json", run.genotype.to_json()), ("cell.svg", run.drawing())):
                    file = Path(made) / name
                    file.write_text(text, encoding="utf-8")
                    artifact.add_file(str(file), name)
                opened.log_artifact(artifact)
                opened.finish(exit_code=0)
            return
        opened.finish(exit_code=1 if run.state == "failed" else 0)

    def _file(self, run: LoggedRun) -> Path:
        digest = hashlib.sha256(json.dumps([self._project, run.experiment]).encode()).hexdigest()[:16]
        return self._folder / "wandb" / f"ray_darts-{digest}.json"

    def _given(self, run: LoggedRun) -> dict[str, list[Any]]:
        """{run: [last step, whether its end was given]}."""
        try:
            self._file(run).parent.mkdir(parents=True, exist_ok=True)
            found: dict[str, list[Any]] = json.loads(self._file(run).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {self._file(run)}: {error}; delete it to give everything again") from error
        return found


def _named(run: LoggedRun) -> str:
    """A name that W&B takes for ids and artifacts, of its own for every run of every experiment."""
    whole = f"{run.experiment}-{run.run}"
    digest = hashlib.sha256(json.dumps([run.experiment, run.run]).encode()).hexdigest()[:8]
    return f"{whole[:100].replace('/', '-')}-{digest}"
