"""System 1: an involution network against a convolution network on CIFAR-10."""

import dataclasses

import tensorflow as tf

from loops.recipes.recipe import Recipe
from tfcore.models.cnn import ConvNet
from tfcore.models.inn import Inn
from tfcore.precision import POLICIES


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnRecipe(Recipe):
    """The involution network; field names as in `tfcore.models.inn.Inn`."""

    channels: int = 3
    groups: int = 1
    kernel_size: int = 3
    reduction_ratio: int = 2
    group_order: str = "modulo"
    units: int = 64
    formulation: str = "shifted"

    def build_model(self, key: tf.Tensor, *, classes: int) -> Inn:
        return Inn(
            key=key,
            classes=classes,
            channels=self.channels,
            groups=self.groups,
            kernel_size=self.kernel_size,
            reduction_ratio=self.reduction_ratio,
            group_order=self.group_order,
            units=self.units,
            formulation=self.formulation,
            dtype=POLICIES[self.precision].compute,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNetRecipe(Recipe):
    """The convolution network; field names as in `tfcore.models.cnn.ConvNet`."""

    filters: tuple[int, ...] = (32, 64, 64)
    units: int = 64
    formulation: str = "tensorflow"

    def build_model(self, key: tf.Tensor, *, classes: int) -> ConvNet:
        return ConvNet(
            key=key,
            classes=classes,
            filters=self.filters,
            units=self.units,
            formulation=self.formulation,
            dtype=POLICIES[self.precision].compute,
        )


INN_CIFAR10 = InnRecipe(name="inn_cifar10", dataset="cifar10", epochs=20, batch_size=256)
CONVNET_CIFAR10 = ConvNetRecipe(name="convnet_cifar10", dataset="cifar10", epochs=20, batch_size=256)
