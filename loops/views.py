"""Test-time augmentation: a model's mean over several views of each image."""

import tensorflow as tf

from tfcore.module import Module
from tfcore.ops.activations import softmax
from tfcore.ops.mixing import shift_and_mirror
from tfcore.precision import statistics_dtype

# (rows, columns, mirrored) of each view, by the name that `evaluate.py --tta` gives them.
VIEWS = {
    "mirror": [(0, 0, False), (0, 0, True)],
    "shift": [(step, step, flip) for step in (0, -1, 1) for flip in (False, True)],
}


class MeanOfViews(Module):
    """Images (B, H, W, C) -> log of the mean of the class probabilities over the views, (B, classes): logits as well.

    (As Krizhevsky et al. 2012, section 4.1, average over ten crops and mirror images.) Views move by whole pixels, and
    the border's reflection comes in.

    Raises:
        ValueError: for an unknown name of views; when called with other inputs than images, or in training.
    """

    def __init__(self, model: Module, views: str):
        super().__init__()
        if views not in VIEWS:
            raise ValueError(f"tta must be one of {', '.join(VIEWS)}, got {views!r}")
        self.model, self.views = model, VIEWS[views]

    def __call__(self, images: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        if training:
            raise ValueError("MeanOfViews: views are averaged in inference alone")
        if images.shape.rank != 4:
            raise ValueError(f"MeanOfViews: views are of images (B, H, W, C), got {images.shape}: leave --tta out")
        count = tf.shape(images)[0]
        found = []
        for rows, columns, mirrored in self.views:
            moves = tf.fill([count], rows), tf.fill([count], columns), tf.fill([count], mirrored)
            logits = self.model(shift_and_mirror(images, *moves), training=False)
            found.append(softmax(tf.cast(logits, statistics_dtype(logits.dtype))))  # (B, classes)
        return tf.math.log(tf.add_n(found) / len(found))
