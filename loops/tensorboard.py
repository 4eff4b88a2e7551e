"""A run's history as TensorBoard event files, by `tf.summary`; TensorBoard itself is not needed to write them."""

from pathlib import Path

import tensorflow as tf

# What TensorBoard's own scalar summary carries: it says which page shows the values.
SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class="DATA_CLASS_SCALAR"
)
VALIDATION = "val_"


class EventFiles:
    """The scalars of each epoch in `folder`/train and `folder`/validation, to be given to `loops.train.train`.

    A column `val_NAME` of the history is NAME of `validation`, every other column but `epoch` is in `train` under its
    own name: TensorBoard draws train and validation loss in one picture. The step of a scalar is its epoch.

    The first call writes all epochs so far and then deletes the event files of earlier processes, later calls add the
    newest epoch. So each epoch stands there once, whenever a run was stopped, and a run that is resumed with event
    files for the first time gets those of its past.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def __call__(self, history: list[dict]) -> None:
        """Bring the files up to the newest row of the history; nothing is left in a buffer.

        Raises:
            OSError: if they cannot be written.
        """
        try:
            if self._writers:
                self._write(history[-1])
            else:
                self._start(history)
        except tf.errors.OpError as error:
            raise OSError(f"cannot write {self.folder}: {error.message}") from error

    def _start(self, history: list[dict]) -> None:
        old = list(self.folder.glob("*/events.out.tfevents.*"))
        for name in ("train", "validation"):
            self._writers[name] = tf.summary.create_file_writer(str(self.folder / name))
        for row in history:
            self._write(row)
        for path in old:
            path.unlink()

    def _write(self, row: dict) -> None:
        for part, writer in self._writers.items():
            with writer.as_default(step=row["epoch"]):  # which flushes at its end
                for column, value in row.items():
                    if column != "epoch" and column.startswith(VALIDATION) == (part == "validation"):
                        number = tf.constant(value, tf.float32)
                        tf.summary.write(column.removeprefix(VALIDATION), number, metadata=SCALAR)
