"""Numbers that go wrong: a run is stopped at the step whose loss or gradients are not finite."""

import shlex

import numpy as np
import tensorflow as tf

from loops.run.runs import Run


class Watch:
    """Looks at each call's verdicts one call later, so that a GPU is not waited for; `check` looks at the last one."""

    def __init__(self, run: Run):
        self._run = run
        self._open: tuple[int, int, tf.Tensor] | None = None

    def add(self, epoch: int, step: int, sound: tf.Tensor) -> None:
        """Take the verdict () bool of a step, or those (k,) from it on; look at those before.

        `epoch` and `step` count from 0, of the run.

        Raises:
            FloatingPointError: as `check` does.
        """
        self.check()
        self._open = epoch, step, sound

    def check(self) -> None:
        """Look at the last verdicts.

        Raises:
            FloatingPointError: if a step's loss or a gradient was not finite.
        """
        if self._open is None:
            return
        (epoch, step, sound), self._open = self._open, None
        wrong = np.flatnonzero(~np.atleast_1d(sound))
        if wrong.size:
            step += int(wrong[0])
            run = self._run
            command = ["python", "scripts/train.py", run.recipe.name, "--out", str(run.folder), "--debug-numerics"]
            raise FloatingPointError(
                f"step {step} (epoch {epoch + 1}): the loss or a gradient became NaN or infinite: "
                f"the checkpoints before it are kept in {run.checkpoints}; try a lower learning_rate or "
                f"--precision float32; find the layer by: {shlex.join(command)}"
            )
