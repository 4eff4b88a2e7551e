"""The pictures of one run or recipe, for visualize.py: which ones its model has, and the arrays that each shows."""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from loops.data.cifar import LAYOUTS
from loops.data.dataset import Dataset
from loops.learner import splits
from loops.objective import to_floats
from loops.recipes.recipe import Recipe
from loops.run.restore import fresh_model, restored_model, sizes_of
from loops.run.runs import Run
from tfcore.inspect.figures import attention_figures, figures
from tfcore.inspect.graph.attention_weights import attention_maps
from tfcore.inspect.graph.involution_kernels import involution_kernels
from tfcore.layers.attention import Attention, MultiHeadAttention
from tfcore.layers.embedding import Embedding
from tfcore.layers.tokens import ImageTokens
from tfcore.models.inn import Inn
from tfcore.models.metaformer import MetaFormer
from tfcore.models.perceiver import Perceiver
from tfcore.models.vit import VisionTransformer
from tfcore.module import Module
from tfcore.ops.resampling import resize

SAMPLES = 25
HEATMAPS = 10
ROLLOUTS = 8


class Shown:
    """A run, or (run None) a recipe, with its model and data, each made when first asked for."""

    def __init__(self, label: str, recipe: Recipe, run: Run | None, load: Callable[..., Dataset]):
        self.label, self.recipe, self.run, self.load = label, recipe, run, load

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data.

        Raises:
            ValueError: for data of another kind than the run was trained on.
        """
        own = self.recipe
        dataset = self.load(own.dataset, own.data, exchange=own.exchange_splits, repair=own.repair)
        if self.run is not None:
            self.run.check_data(dataset)
        return dataset

    @cached_property
    def model(self) -> Module:
        """The model: of a run with the weights of its best epoch, of a recipe with fresh ones."""
        model = restored_model(self.run) if self.run else fresh_model(self.recipe, sizes_of(self.recipe))
        for path, variable in model.named_variables().items():
            if not np.isfinite(variable.numpy()).all():
                raise ValueError(f"{self.label}: {path} is not finite: the training diverged, lower its learning_rate")
        return model

    @cached_property
    def fitted_model(self) -> Module:
        """The model, fresh ones with the statistics of the train images, as a training's first step finds it."""
        if self.run is None:
            self.recipe.fit_statistics(self.model, splits(self.recipe, self.dataset)[0].inputs)
        return self.model

    @property
    def title(self) -> str:
        """What stands above the model's pictures."""
        return f"{self.label}, {'fresh weights' if self.run is None else 'weights of the best epoch'}"

    def test_images(self, count: int) -> tuple[np.ndarray, list[str]]:
        """The first test images (count, 32, 32, 3) uint8, with the names of their classes."""
        test = self.dataset.test
        return test.inputs[:count], [self.dataset.class_names[label] for label in test.labels[:count]]

    def floats(self, images: np.ndarray) -> tf.Tensor:
        """Images as the model takes them: uint8 -> float32."""
        return to_floats(tf.constant(images), self.recipe.pixel_scale)


Draw = Callable[[Shown], Figure]


def of_model(shown: Shown, what: str) -> Iterator[tuple[str, Draw]]:
    """Yield (file name without .png, drawing) of what the model has of `what`: "kernels" and the like, or "all".

    Raises:
        ValueError: for one that the model does not have, asked for by name.
    """
    own = PICTURES.get(type(shown.model), {})
    if what not in (*own, "all"):
        has = ", ".join(("samples", "curves", "parameters", *own))
        raise ValueError(f"{shown.label}: a {shown.recipe.name} has no {what} to show; it has {has}")
    for name, pictures in own.items():
        exists = {"positions": has_positions, "patches": has_patches, "kernels": has_involutions}.get(name)
        if what == name or (what == "all" and (exists is None or exists(shown))):
            yield from pictures.items()


def samples(shown: Shown) -> Figure:
    """Train images or series that the recipe's seed picks, with the names of their classes."""
    dataset, split = shown.dataset, shown.dataset.train
    # As for the batches: the seed's 32 bits as an unsigned number, which NumPy's generators need.
    rng = np.random.default_rng(shown.recipe.seed % 2**32)
    picked = rng.choice(len(split), size=min(SAMPLES, len(split)), replace=False)
    names = [dataset.class_names[label] for label in split.labels[picked]]
    kind = "images" if shown.recipe.dataset in LAYOUTS else "series"
    title = f"{dataset.name}: {len(picked)} of {len(split):,} train {kind}"
    if kind == "series":
        return figures.series_grid(split.inputs[picked, :, 0], names, title=title)
    return figures.image_grid(split.inputs[picked], names, title=title)


def kernels(shown: Shown) -> Figure:
    """The first test images, each with the heat maps of the involutions' kernels."""
    images, names = shown.test_images(HEATMAPS)
    found = involution_kernels(shown.fitted_model, shown.floats(images))
    if not found:
        raise ValueError(f"{shown.label}: no involution mixes its positions (see the recipe's mixer)")
    maps = [figures.tap_sums(kernel.numpy()) for kernel in found]
    return figures.kernel_heatmaps(images, maps, names=names, title=shown.title)


def patches(shown: Shown) -> Figure:
    """The first test image, whole and cut."""
    if not has_patches(shown):
        raise ValueError(f"{shown.label}: stem is convolution, which cuts no patches, and there is nothing to show")
    images, (name,) = shown.test_images(1)
    (image,) = as_seen(shown, images)
    return attention_figures.patches(image, shown.model.tokens.patches.patch_size, title=f"{shown.recipe.name}: {name}")


def attention(shown: Shown) -> Figure:
    """The first test image with each layer's and head's attention."""
    images, (name,) = shown.test_images(1)
    (image,) = as_seen(shown, images)
    maps = [weights[0] for weights in maps_of(shown, images, MultiHeadAttention)]
    return attention_figures.attention_grid(image, maps, name=name, title=shown.title)


def rollouts(shown: Shown) -> Figure:
    """The first test images with their attention rollout."""
    images, names = shown.test_images(ROLLOUTS)
    maps = maps_of(shown, images, MultiHeadAttention)
    return attention_figures.rollout_grid(as_seen(shown, images), maps, names=names, title=shown.title)


def cross_attention(shown: Shown) -> Figure:
    """The first test image with what some latents read of it, iteration by iteration."""
    images, (name,) = shown.test_images(1)
    (image,) = as_seen(shown, images)
    maps = [weights[0] for weights in maps_of(shown, images, Attention)]
    return attention_figures.latent_grid(image, maps, name=name, title=shown.title)


def positions(shown: Shown) -> Figure:
    """The learned positions' likeness; needs no data."""
    found = _positions(shown)
    if found is None:
        kind = getattr(shown.recipe.model, "positions", "none")
        raise ValueError(f"{shown.label}: positions is {kind}, so none are learned and there is nothing to show")
    return attention_figures.position_grid(found.embeddings.numpy(), title=shown.title)


def has_positions(shown: Shown) -> bool:
    """Whether the model's positions are learned."""
    return _positions(shown) is not None


def has_patches(shown: Shown) -> bool:
    """Whether the model cuts images into patches."""
    return isinstance(shown.model.tokens, ImageTokens)


def has_involutions(shown: Shown) -> bool:
    """Whether an involution exchanges between the model's positions."""
    return getattr(shown.recipe.model, "mixer", "involution") == "involution"


def _positions(shown: Shown) -> Embedding | None:
    tokens = shown.model.tokens
    return tokens.encoder.position if isinstance(tokens, ImageTokens) else tokens.position


def as_seen(shown: Shown, images: np.ndarray) -> np.ndarray:
    """Images in the size that the model cuts, not normalized: (n, H, W, 3) -> (n, H', W', 3) uint8."""
    resized = resize(tf.constant(images.astype(np.float32)), size=shown.model.tokens.resizing.size)
    return resized.numpy().round().clip(0, 255).astype(np.uint8)


def maps_of(shown: Shown, images: np.ndarray, kind: type[MultiHeadAttention] | type[Attention]) -> list[np.ndarray]:
    """The model's attention, of a kind, of each layer or iteration."""
    return [weights.numpy() for weights in attention_maps(shown.fitted_model, shown.floats(images), kind)]


# What each model has: --what -> file name -> drawing.
PICTURES: dict[type[Module], dict[str, dict[str, Draw]]] = {
    Inn: {"kernels": {"kernels": kernels}},
    MetaFormer: {"kernels": {"kernels": kernels}},
    VisionTransformer: {
        "patches": {"patches": patches},
        "attention": {"attention": attention, "rollout": rollouts},
        "positions": {"positions": positions},
    },
    Perceiver: {
        "patches": {"patches": patches},
        "attention": {"cross-attention": cross_attention},
        "positions": {"positions": positions},
    },
}
