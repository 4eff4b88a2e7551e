"""How the weights of two trainings move apart: chaos as it happens."""

from loops import data, recipes
from loops.health.divergence import Step
from loops.health.growth import measure_growth


def test_a_training_that_multiplies_every_rounding_is_chaos():
    """A small Perceiver whose learning rate is far too high, in two formulations of attention."""
    small = ["image_size=16", "width=12", "latents=7", "blocks=2", "heads=2", "optimizer=adam", "learning_rate=0.03"]
    settings = [("data", "sample"), ("xla", "off"), *(tuple(setting.split("=")) for setting in small)]
    one, other = (
        recipes.get("perceiver_cifar100").changed([*settings, ("formulation", name)]) for name in ("direct", "folded")
    )
    dataset = data.load("cifar100", "sample")
    weights = Step(one, dataset, 2).weights
    found = measure_growth(one, other, dataset, steps=24, examples=2, weights=weights)
    assert found.sentence.startswith("chaos, the distance multiplies") and found.rate > 1.1, found
