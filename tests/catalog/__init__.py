"""Every op, layer, model and optimizer of tfcore beside its reference.

`tests/test_catalog.py` and `scripts/compare_keras.py` run over it; something public in tfcore that no entry proves
makes a test fail.
"""

from tests.catalog import (
    activations,
    attention,
    augmentation,
    compact,
    convolution_transformer,
    layers,
    metaformer,
    mixing,
    models,
    operations,
    optimizers,
    parameters,
    resnet,
    sequence,
    timeseries,
)
from tests.catalog.entry import Entry

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for group in (
        operations,
        parameters,
        activations,
        layers,
        sequence,
        attention,
        augmentation,
        mixing,
        models,
        compact,
        metaformer,
        resnet,
        timeseries,
        convolution_transformer,
        optimizers,
    )
    for entry in group.ENTRIES
}
FULL_SIZE: dict[str, Entry] = {entry.name: entry for entry in models.FULL_SIZE}
