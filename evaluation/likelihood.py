"""A lower bound on the log-likelihood of images under a model with an encoder, by importance sampling.

    images -> encode -> k latents each -> log_likelihood + log_prior - log q(z|x) -> log mean exp, piece by piece

One draw gives the ELBO in expectation; more draws raise the bound towards log p(x). Knows torch and three functions,
not the model behind them.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROWS = 4096
"""Latents that are decoded at once, by default."""

Images = TypeVar("Images", Tensor, npt.NDArray[Any])


@torch.inference_mode()
def iwae_bound(
    encode: Callable[[Images], tuple[Tensor, Tensor]],
    log_likelihood: Callable[[Images, Tensor], Tensor],
    log_prior: Callable[[Tensor], Tensor],
    images: Images,
    draws: int,
    seed: int,
    rows: int = ROWS,
) -> npt.NDArray[np.float64]:
    """Bound the log-likelihood of each image, in nats, by log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), z_i from q(z|x): (N,).

    encode: images (n, ...) -> mean, log_variance (n, Z) of q(z|x), a Gaussian with independent entries.
    log_likelihood: images (n, ...), latents (n, k, Z) -> log p(x|z): (n, k). log_prior: latents (..., Z) -> (...).
    draws: k. seed: decides the latents of an image together with its place; rows: latents in memory, changes nothing
    else. Sums are float64.
    Raises: ValueError, if there are no images, draws or rows, or log_likelihood has another shape.
    Source: Burda et al. 2016, eq. 8.
    """
    if not len(images) or min(draws, rows) < 1:
        raise ValueError(f"bound: got {len(images)} images, {draws} draws and {rows} rows, expected at least 1 of each")
    size = max(1, rows // draws)
    bounds = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        mean, log_variance = encode(batch)
        # A stream for each image, so that neither batches nor pieces decide what is drawn.
        streams = [np.random.default_rng((seed, start + row)) for row in range(len(batch))]
        total = torch.full((len(batch),), -math.inf, dtype=torch.float64)
        for done in range(0, draws, rows):
            shape = min(rows, draws - done), mean.shape[1]
            noise = torch.from_numpy(np.stack([stream.standard_normal(shape, np.float32) for stream in streams]))
            latents = mean[:, None] + (0.5 * log_variance[:, None]).exp() * noise.to(mean)
            evidence = log_likelihood(batch, latents)
            if evidence.shape != latents.shape[:2]:
                raise ValueError(f"bound: got likelihoods {tuple(evidence.shape)}, expected {tuple(latents.shape[:2])}")
            weights = _float64(evidence) + _float64(log_prior(latents)) - _log_posterior(noise, log_variance)
            total = torch.logaddexp(total, weights.logsumexp(1))
        bounds.append(total - math.log(draws))
    return torch.cat(bounds).numpy()


def _log_posterior(noise: Tensor, log_variance: Tensor) -> Tensor:
    """Take log q(z|x) of z = mean + exp(log_variance / 2) noise: noise (n, k, Z) and log_variance (n, Z) -> (n, k)."""
    constant = noise.shape[2] * math.log(2 * math.pi)
    return -0.5 * (_float64(noise).square().sum(2) + _float64(log_variance).sum(1, keepdim=True) + constant)


def _float64(values: Tensor) -> Tensor:
    return values.cpu().double()
