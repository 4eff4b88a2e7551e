"""The example that takes a Keras model's train step apart, on a small model."""

from loops import recipes
from tests.support.attribution import shares
from tests.support.keras_step import describe, forms

SMALL = [("batch_size", "3"), ("blocks", "0"), ("head_units", "7")]


def test_keras_and_ours_stand_side_by_side():
    found = forms(recipes.get("transformer_forda").changed(SMALL))
    ours, keras = (form.report for form in found)
    for report in (ours, keras):
        assert {kernel.phase for kernel in report.kernels} >= {"forward", "backward", "update"}
        assert shares(report)["layer"] > 0.9
    text = describe(found, "side by side")
    assert "ours: the kernels" in text and "Keras: the kernels" in text and "GFLOP" in text
    products = [sorted(k.flops for k in report.kernels if k.opcode == "dot") for report in (ours, keras)]
    assert products[0] == products[1] and products[0]  # the same matrix products
