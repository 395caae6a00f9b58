"""The prior of maps: noise becomes a code, and the code a map.

    noise (N, K + 1) [, label] -> mixture -> code (N, K) [, label] -> CodeDecoder -> map (N, Z)

The second stage of a two-stage VAE (Dai & Wipf 2019): what lies between the maps of real images is learned, by a VAE of
maps first and from D later, while the mixture over codes is fitted as any other prior is. Runs inside the exported graph.
"""

from torch import Tensor, nn

from training.architecture import MapArchitecture
from training.map_networks import CodeDecoder, CodeEncoder
from training.prior import LabelledMixturePrior, MixturePrior

Mixture = MixturePrior | LabelledMixturePrior


class CodePrior(nn.Module):
    """mixture: over codes, None where it is N(0, I). encoder: what codes are fitted to; not part of the served graph."""

    def __init__(self, shape: MapArchitecture) -> None:
        super().__init__()
        self.encoder = CodeEncoder(shape)
        self.decoder = CodeDecoder(shape)
        self.mixture: Mixture | None = None

    def code(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """noise: (N, K + 1), or (N, K) without a mixture; label: (N,) int64, if conditional. Returns codes: (N, K)."""
        if self.mixture is None:
            return noise
        code: Tensor = self.mixture(noise) if label is None else self.mixture(noise, label)
        return code

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """As `code`, but returns maps: (N, Z)."""
        latent: Tensor = self.decoder(self.code(noise, label), label)
        return latent
