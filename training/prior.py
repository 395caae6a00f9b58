"""The prior of an autoencoder: a Gaussian mixture fitted to the aggregate posterior after training.

    noise (N, Z + 1) -> latent (N, Z)

Samples then come from where the decoder was trained, not from N(0, I), which the aggregate posterior never quite fills
(ex-post density estimation, Ghosh et al. 2020). Runs inside the exported graph: the last noise entry picks the
component by thresholds, the others are its standard normal coordinates.
"""

import math
import warnings
from typing import Self

import numpy as np
import torch
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

IMAGES_A_COMPONENT = 36
"""Images for each component of a mixture. Ghosh et al. 2020 take ten components for any set; ours follow a posterior with
little noise, which ten do not cover: docs/experiments.md."""

MAX_COMPONENTS = 400

MAX_LATENTS = 60_000
"""Draws from the aggregate posterior that a mixture is fitted to, at most."""

MIN_LATENTS = 6_000
"""At least: small sets are drawn from several times."""

STEPS = 3
"""Steps of expectation maximisation after k-means; more draw samples nearer to training images."""

REGULARISATION = 1e-3
"""Added to each variance, as a part of the latents' mean variance."""

NEVER = 100.0
"""A threshold that no draw of a standard normal passes."""


class MixturePrior(nn.Module):
    """sum_k w_k N(mean_k, L_k L_k^T), sampled as mean_k + L_k noise."""

    thresholds: Tensor
    means: Tensor
    scales: Tensor

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.zeros(components - 1))
        self.register_buffer("means", torch.zeros(components, latent_dim))
        self.register_buffer("scales", torch.zeros(components, latent_dim, latent_dim))

    def forward(self, noise: Tensor) -> Tensor:
        """noise: (N, Z + 1) float32. Returns latents: (N, Z) float32."""
        component = (noise[:, -1:] > self.thresholds).sum(1)
        offset = (self.scales[component] @ noise[:, :-1, None]).squeeze(2)
        return self.means[component] + offset

    def log_prob(self, latents: Tensor) -> Tensor:
        """latents: (..., Z). Returns the log-density in nats: (...)."""
        # With the rows of L^-1 as axes, (z - mean)^T C^-1 (z - mean) is the squared length of L^-1 z - L^-1 mean.
        identity = torch.eye(self.scales.shape[1]).to(self.scales)
        inverse = torch.linalg.solve_triangular(self.scales, identity, upper=False)
        standard = torch.einsum("kij,...j->...ki", inverse, latents) - (inverse @ self.means[..., None]).squeeze(-1)
        log_volume = self.scales.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * latents.shape[-1] * math.log(2 * math.pi)
        edges = torch.special.ndtr(self.thresholds.double())
        weights = torch.diff(edges, prepend=edges.new_zeros(1), append=edges.new_ones(1)).log().to(latents)
        return torch.logsumexp(weights - log_volume - 0.5 * standard.square().sum(-1), -1)

    @property
    def components(self) -> int:
        """Their number."""
        return len(self.means)

    def widened(self, components: int) -> "MixturePrior":
        """The same distribution, with more components that are never drawn."""
        wide = MixturePrior(self.means.shape[1], components)
        wide.thresholds.fill_(NEVER)[: len(self.thresholds)] = self.thresholds
        wide.means[: len(self.means)], wide.scales[: len(self.scales)] = self.means, self.scales
        return wide

    @classmethod
    def fit(cls, latents: Tensor, images: int, seed: int) -> Self:
        """Fit to draws (N, Z) from the aggregate posterior of so many images, by k-means and expectation maximisation."""
        components = max(1, min(MAX_COMPONENTS, images // IMAGES_A_COMPONENT, len(latents)))
        mixture = GaussianMixture(
            components,
            reg_covar=REGULARISATION * float(latents.var(0, correction=0).mean()),
            max_iter=STEPS,
            random_state=seed % 2**32,
        )
        with threadpool_limits(1), warnings.catch_warnings():  # more threads would change the order of sums
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(latents.float().numpy())
        prior = cls(latents.shape[1], components)
        # Component k is drawn when the normal entry lies between the quantiles of the weights before and up to k.
        quantiles = norm.ppf(np.cumsum(mixture.weights_)[:-1].clip(max=1))
        prior.thresholds.copy_(torch.from_numpy(quantiles))
        prior.means.copy_(torch.from_numpy(mixture.means_))
        prior.scales.copy_(torch.from_numpy(np.linalg.cholesky(mixture.covariances_)))
        return prior


class LabelledMixturePrior(nn.Module):
    """A mixture for each label, all of as many components."""

    def __init__(self, latent_dim: int, components: int, labels: int) -> None:
        super().__init__()
        self.of_labels = nn.ModuleList(MixturePrior(latent_dim, components) for _ in range(labels))

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """noise: (N, Z + 1) float32, label: (N,) int64. Returns latents: (N, Z) float32."""
        component = (noise[:, -1:] > self._stacked("thresholds")[label]).sum(1)
        scales, means = self._stacked("scales").flatten(0, 1), self._stacked("means").flatten(0, 1)
        row = label * (len(means) // len(self.of_labels)) + component
        return means[row] + (scales[row] @ noise[:, :-1, None]).squeeze(2)

    @classmethod
    def fit(cls, latents: Tensor, label: Tensor, images: int, labels: int, seed: int) -> Self:
        """As `MixturePrior.fit`, to the draws (N, Z) of each label, (N,) int64; a label without any is drawn as all are."""
        every = MixturePrior.fit(latents, images // max(1, labels), seed)
        fitted = []
        for number in range(labels):
            own = latents[label == number]
            fitted.append(MixturePrior.fit(own, images * len(own) // len(latents), seed) if len(own) > 1 else every)
        components = max(len(each.means) for each in fitted)
        prior = cls(latents.shape[1], components, labels)
        prior.of_labels = nn.ModuleList(each.widened(components) for each in fitted)
        return prior

    @property
    def components(self) -> int:
        """Their number for each label."""
        return len(self._stacked("means")[0])

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([getattr(each, name) for each in self.of_labels])
