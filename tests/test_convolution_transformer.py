"""The convolution transformer of series: sizes for every set, options, refusals. Values stand in the catalog."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from loops import data
from tests.support.build import build
from tfcore import random
from tfcore.layers.conv import Conv1D
from tfcore.models.convolution_transformer import ConvolutionTransformer
from tfcore.ops.convolution import convolve_series

KEY = random.make_key(0)
SMALL = {"kernels": (2, 5), "stem_filters": 3, "filters": (7, 10), "heads": 5, "mlp_width": 11, "classes": 3}
SERIES = tf.constant(np.random.default_rng(0).standard_normal((6, 13, 1)), tf.float32)
UCR = Path(__file__).parents[2] / "shared" / "data" / "ucr"
PUBLISHED = 93_130  # of system 4's network


def _trained(model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.named_trainable_variables().values())


@pytest.mark.parametrize(("length", "classes", "count"), [(500, 2, 87_618), (24, 2, 87_618), (1_000, 60, 91_388)])
def test_parameter_counts(length, classes, count):
    model = build(ConvolutionTransformer, length=length, classes=classes, key=KEY)
    assert _trained(model) == count <= PUBLISHED


@pytest.mark.skipif(not UCR.is_dir(), reason="needs the sets of the UCR archive")
def test_no_set_of_the_archive_needs_more_parameters_than_the_published_network():
    for folder in sorted(path for path in UCR.iterdir() if path.is_dir()):
        sizes = data.load(folder.name, str(UCR)).sizes
        length, channels = sizes.input_shape
        model = build(ConvolutionTransformer, length=length, channels=channels, classes=sizes.classes, key=KEY)
        assert _trained(model) <= PUBLISHED, folder.name


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
@pytest.mark.parametrize("options", [{"stochastic_depth": 0.5, "blocks": 2}, {"filters": (10,)}, {"kernels": (3,)}])
def test_options_in_every_precision(options, dtype):
    model = build(ConvolutionTransformer, **{**SMALL, **options}, length=13, key=KEY, dtype=dtype)
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    logits = model(SERIES, training=True, key=KEY)
    assert logits.dtype == dtype and logits.shape == (6, 3) and np.isfinite(tf.cast(logits, tf.float32)).all()


def test_without_blocks_it_is_a_convolution_network():
    own = {name: value for name, value in SMALL.items() if name not in ("heads", "mlp_width")}
    model = build(ConvolutionTransformer, **own, blocks=0, length=13, key=KEY)
    assert not any("attention" in path for path in model.named_variables())
    assert model(SERIES).shape == (6, 3)


def test_the_shift_moves_all_channels_of_a_series_together():
    model = build(ConvolutionTransformer, **SMALL, length=13, channels=2, shift=0.3, key=KEY)
    time = tf.range(13, dtype=tf.float32)
    both = tf.tile(tf.stack([time, 100 + time], axis=1)[None], [6, 1, 1])  # (6, 13, 2)
    moved = model.shift(both, training=True, key=KEY).numpy()
    np.testing.assert_array_equal(moved[:, :, 1], moved[:, :, 0] + 100)
    assert len(np.unique(moved[:, 0, 0])) > 1


REFUSED = {
    "heads": ({"heads": 3}, "ConvolutionTransformer: heads must be a divisor of the last of filters, 10, got 3"),
    "kernels": ({"kernels": ()}, "kernels must be the length of each first convolution"),
    "filters": ({"filters": ()}, "filters must be a number for each further convolution"),
    "odd width": ({"filters": (7, 15)}, "width must be even"),
    "no filters": ({"stem_filters": 0}, "filters must be at least 1, got 0"),
    "shift": ({"shift": 1.0}, "shift must be at least 0 and below 1, such as 0.1, got 1.0"),
    "depth": ({"stochastic_depth": -0.5}, "stochastic_depth must be at least 0 and below 1"),
    "unused": ({"blocks": 0}, "heads is for blocks of at least 1, and nothing uses 5 here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_settings_are_refused_with_the_value(case):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        build(ConvolutionTransformer, **{**SMALL, **settings}, length=13, key=KEY)


def test_parts_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="Conv1D: channels must be at least 1, got 0"):
        Conv1D(channels=0, filters=3, kernel_size=3, key=KEY)
    with pytest.raises(ValueError, match="padding must be one of SAME, VALID, got 'same'"):
        Conv1D(channels=2, filters=3, kernel_size=3, padding="same", key=KEY)
    with pytest.raises(ValueError, match="does not fit a series of 1 channels"):
        convolve_series(SERIES, tf.ones((3, 2, 5)))
    with pytest.raises(ValueError, match=r"takes series \(B, 12, 1\), got \(6, 13, 1\)"):
        build(ConvolutionTransformer, **SMALL, length=12, key=KEY)(SERIES)
