"""A run under way: what learns, how far it is, and how both are saved and gone on with."""

import dataclasses
from pathlib import Path

from loops.control import Controls
from loops.devices.throughput import Clock
from loops.health.numerics import Watch
from loops.learner import Learner
from loops.run import checkpoint
from loops.run.resume import Progress, Start, restore
from loops.run.runs import Run
from loops.run.signals import Asked, Interrupted
from loops.steps import Step


@dataclasses.dataclass
class TrainingState:
    """A run under way. What a checkpoint must hold hangs in the learner's `parts`, controls, progress and clock."""

    run: Run
    learner: Learner
    train_call: Step
    evaluation_step: Step
    controls: Controls
    watch: Watch
    progress: Progress = dataclasses.field(default_factory=Progress)
    clock: Clock = dataclasses.field(default_factory=Clock)
    history: list[dict] = dataclasses.field(default_factory=list)  # a row for each epoch
    repairs: dict[str, int] = dataclasses.field(default_factory=dict)  # of the data, see `Dataset.repairs`

    @property
    def ended(self) -> bool:
        """Whether no epoch is left."""
        stopping = self.controls.stopping
        return self.progress.epoch >= self.run.recipe.epochs or (stopping is not None and stopping.stopped)

    def go_on_from(self, start: Start) -> None:
        """Take over what a checkpoint holds.

        Raises:
            CheckpointError: for a checkpoint of another model.
        """
        restore(self.learner.parts, start.arrays, start.path)
        self.progress, self.history = start.progress, start.history
        self.clock.load_state(start.clock)
        self.controls.load_state(start.controls)

    def save(self, path: Path) -> None:
        """Write a checkpoint.

        Raises:
            FloatingPointError: for a step, or a state, that is not finite.
        """
        self.watch.check()
        arrays = checkpoint.capture(self.learner.parts)
        checkpoint.check_finite(arrays, path)
        if self.learner.devices.is_chief:
            others = {"controls": self.controls.state(), "clock": self.clock.state()}
            checkpoint.save(path, arrays, dataclasses.asdict(self.progress) | others)

    def save_step(self) -> None:
        """Write the checkpoint of the step that is done, and delete those that are too old."""
        path = checkpoint.step_path(self.run.checkpoints, self.progress.step)
        self.save(path)
        if self.learner.devices.is_chief:
            checkpoint.prune(self.run.checkpoints, self.run.recipe.keep_checkpoints, newest=path)

    def stop_if_asked(self, asked: Asked) -> None:
        """Save everything and stop, if a signal has asked for it.

        Raises:
            Interrupted: then.
        """
        devices = self.learner.devices
        number = devices.asked(asked.number)
        if number is not None:
            self.clock.lap("rest")
            self.save_step()
            devices.wait()
            raise Interrupted(number)
