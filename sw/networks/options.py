"""Which network a command runs: the one group of options of all commands, and the value that it becomes."""

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hw.errors import InputError
from sw.networks.network import COLOURS, PRETRAINED, RANDOM, build_network, parse_image_size, parse_network
from sw.networks.normalization import Normalization
from sw.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NetworkOptions:
    """A network with its weights, as a user names it.

    Attributes:
        model: See `sw.networks.network`.
        weights: ``random``, ``pretrained`` or a file; None for those that the repository ships, and random ones for ``vit:...``.
        image_size: Height and width in place of a timm model's own.
        classes: Number of logits in place of a timm model's own.
        strip_prefix: What the file's names have before the network's; tensors without it are left out.
        normalization: Of the images that the weights of a file were trained on; None for the timm model's own.
        seed: Of random weights.

    Raises:
        InputError: The seed is negative, or an option needs other weights.
    """

    model: str
    weights: str | None = None
    image_size: tuple[int, int] | None = None
    classes: int | None = None
    strip_prefix: str = ""
    normalization: Normalization | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be said without the network."""
        if self.seed < 0:
            raise InputError(f"--seed must be at least 0, not {self.seed}")
        weights = self.weights or "none"
        if self.strip_prefix and not self.uses_files:
            raise InputError(f"--strip-prefix takes a file of weights, not {weights}")
        if self.normalization is not None and not (self.uses_files or self.weights == PRETRAINED):
            raise InputError(f"--mean and --std take a file of weights or '{PRETRAINED}' ones, not {weights}")
        if self.classes is not None and self.weights == PRETRAINED:
            raise InputError(f"--classes takes a file of weights or random ones, for '{PRETRAINED}' ones have classes of their own")

    @staticmethod
    def of(options: argparse.Namespace) -> "NetworkOptions":
        """Return what the options of `add_network_options` say.

        Raises:
            InputError: an image size or a normalisation is malformed.
        """
        return NetworkOptions(
            model=options.model,
            weights=options.weights,
            image_size=parse_image_size(options.image_size),
            classes=options.classes,
            strip_prefix=options.strip_prefix,
            normalization=Normalization.parse(options.mean, options.std),
            seed=options.seed,
        )

    @cached_property
    def spec(self) -> NetworkSpec:
        """The network's shape; errors are those of `sw.networks.network.parse_network`."""
        return parse_network(self.model, self.image_size, self.classes)

    @property
    def uses_files(self) -> bool:
        """Whether the weights are in a file of the user's."""
        return self.weights not in (None, RANDOM, PRETRAINED)

    def build(self) -> "nn.Module":
        """Return the network in eval mode; errors are those of `sw.networks.network.build_network`."""
        made = self.weights is None and self.model.startswith("vit:")
        return build_network(
            self.model,
            RANDOM if made else self.weights,
            self.seed,
            image_size=self.image_size,
            classes=self.classes,
            strip_prefix=self.strip_prefix,
            normalization=self.normalization,
        )

    @property
    def machine_spec(self) -> NetworkSpec:
        """The shape as the machine has it, without a look at the weights: images of a normalised stem have one channel more.

        Raises:
            InputError: as for `spec`; or a file of weights is missing, or there are none such of this network.
        """
        spec = self.spec
        if self.uses_files and not Path(str(self.weights)).is_file():
            raise InputError(f"Checkpoint file {self.weights} must exist")
        if self.weights == PRETRAINED and spec.timm_name is None:
            raise InputError(f"Weights '{PRETRAINED}' take a timm name, not {self.model!r}")
        normalized = self.normalization is not None or (self.uses_files and spec.channels == COLOURS)
        return replace(spec, channels=spec.channels + 1) if spec.stem_channels is not None and normalized else spec


def add_network_options(parser: argparse.ArgumentParser, weights: str = "--weights") -> None:
    """Add the group to a command's line.

    Args:
        parser: of the command.
        weights: the option's name, for a command in which it means where to begin.
    """
    group = parser.add_argument_group("network")
    add = group.add_argument
    add("--model", default="fmnist_vit_tiny", metavar="NAME", help="shipped, of timm, or vit:dim=24,depth=2,... (%(default)s)")
    add(weights, dest="weights", metavar="random|pretrained|FILE", help="a checkpoint's own by default; pretrained are timm's")
    add("--strip-prefix", default="", metavar="PREFIX", help="what the file's names have before the network's, such as module.")
    add("--image-size", metavar="HxW", help="height and width in pixels; the network's own by default")
    add("--classes", type=int, metavar="N", help="of a fine-tuned head; the network's own by default")
    add("--mean", metavar="X,...", help="of the training images, by channel, of pixels as 0 to 1; by default the timm model's")
    add("--std", metavar="X,...", help="their standard deviation; goes with --mean")
    add("--seed", type=int, default=0, help="of random weights and whatever else is drawn (default: %(default)s)")
