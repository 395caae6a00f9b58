"""A step of D on frozen features, and of G against it, a few images at a time.

    batch -> updates by UPDATE images each: one pass of G and of the frozen network; D learns, then G

Where there is an E, half of what D is shown are reconstructions, by maps and by codes, which are held near their originals
in pixels, in colours and in the frozen features: then D's taste for surfaces cannot change what the pictures are of, and
what it is blind to stays as it was: without the colours, skin turned purple within minutes.
Source: Projected GAN, Sauer et al. 2021; the distance in features of VAE/GAN, Larsen et al. 2016, eq. 7, as LPIPS scales it
(Zhang et al. 2018, eq. 1).
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from training.batch import Batch
from training.code_prior import CodePrior
from training.feature_discriminator import THUMBNAIL, FeatureDiscriminator
from training.schedule import Phase

if TYPE_CHECKING:
    from training.learner import Learner

UPDATE = 16
"""Images of an update of D and G: many small updates teach more in a minute than few large ones."""

HEADS = (1.0, 1.0, 1.0, 1.0, 4.0, 2.0)
"""Weights of what G learns from the heads of D: four on features, one on pixels, one on thumbnails."""

PIXELS_BY_MAP, PIXELS_BY_CODE = 60.0, 12.0
"""Weights of the mean squared error of reconstructions, pixels from -1 to 1, beside the logits of D. A code tells too little of
a picture to be held to its every pixel: it would be blurred."""

COLOURS = 420.0
"""Weight of the same error of thumbnails, by either."""

FEATURES = 3.0
"""Weight of their distance in features."""

RATE = 0.5
"""Learning rate of both at the start of the phase, by the setting's: small networks learn what is sharp in few updates."""

WARM_UP = 0.01
"""Share of the phase in which G's rate rises from zero: a D that has seen nothing teaches nothing."""


def feature_step(learner: "Learner", batch: Batch, phase: Phase) -> dict[str, Tensor]:
    """Updates by all images of the batch. Returns the losses of the last."""
    assert learner.d_optimiser is not None, "D has an optimiser"
    rate = RATE * learner.settings.learning_rate * phase.rate
    learner.g_optimiser.param_groups[0]["lr"] = rate * min(1.0, phase.progress / WARM_UP)
    learner.d_optimiser.param_groups[0]["lr"] = rate
    losses: dict[str, Tensor] = {}
    for start in range(0, len(batch), UPDATE):
        losses = _update(learner, batch[start : start + UPDATE])
    return losses


def _update(learner: "Learner", batch: Batch) -> dict[str, Tensor]:
    discriminator, losses = learner.discriminator, dict[str, Tensor]()
    assert isinstance(discriminator, FeatureDiscriminator), "the setting `adversarial` chose it"
    assert learner.d_optimiser is not None, "D has an optimiser"
    rebuilt = len(batch) // 2 if learner.model.encoder else 0

    # Forward: originals and their reconstructions are changed in the same ways.
    changes, others = batch.real_augmentation, batch.fake_augmentation
    assert changes is not None, "what D is shown is always changed"
    assert others is not None, "what D is shown is always changed"
    with learner.precision():
        drawn = _drawn(learner, batch).float()
        with torch.no_grad():
            real = discriminator.see(changes(batch.real), batch.real)
        fake = discriminator.see(changes[:rebuilt].then(others[rebuilt:])(drawn), drawn)

        # Discriminator.
        judged = discriminator.judge(real.beside(fake), None if batch.label is None else batch.label.repeat(2))
    of_heads = [learner.adversarial.of_discriminator(*each.chunk(2)) for each in judged]
    losses["d_adversarial"] = torch.stack(of_heads).mean()
    learner.descend(learner.d_optimiser, losses["d_adversarial"])

    # Generator.
    discriminator.heads.requires_grad_(False)
    with learner.precision():
        of_heads = [learner.adversarial.of_generator(each, each) for each in discriminator.judge(fake, batch.label)]
    losses["g_adversarial"] = torch.stack(of_heads).mean()
    loss = torch.stack([weight * each for weight, each in zip(HEADS, of_heads, strict=True)]).sum()
    if rebuilt:
        off, by_map = drawn[:rebuilt] - batch.real[:rebuilt], rebuilt // 2
        losses["pixels"] = off[:by_map].square().sum() / off.numel()
        losses["code_pixels"] = off[by_map:].square().sum() / off.numel()
        losses["colours"] = adaptive_avg_pool2d(off, THUMBNAIL).square().mean()
        losses["features"] = _distance([each[:rebuilt] for each in real.maps], [each[:rebuilt] for each in fake.maps])
        loss = loss + PIXELS_BY_MAP * losses["pixels"] + PIXELS_BY_CODE * losses["code_pixels"]
        loss = loss + COLOURS * losses["colours"] + FEATURES * losses["features"]
    learner.descend(learner.g_optimiser, loss)
    discriminator.heads.requires_grad_(True)
    return losses


def _drawn(learner: "Learner", batch: Batch) -> Tensor:
    """What G draws: pictures of samples of the prior, after reconstructions where there is an E: (N, C, H, W)."""
    model = learner.model
    if model.encoder is None:
        drawn: Tensor = model.generator(batch.prior_noise, batch.label)
        return drawn
    assert isinstance(model.prior, CodePrior), "of maps"
    rebuilt = len(batch) // 2
    by_maps = rebuilt // 2
    with torch.no_grad():
        mean, log_variance = model.encoder(batch.real[:rebuilt])
        maps = mean[:by_maps] + batch.posterior_noise[:by_maps] * (0.5 * log_variance[:by_maps]).exp()
        code_mean, code_log_variance = model.prior.encoder(mean[by_maps:])
        noise = batch.prior_noise[by_maps:rebuilt, : model.code_dim]
        codes = code_mean + noise * (0.5 * code_log_variance).exp()
        samples = model.prior.code(batch.prior_noise[rebuilt:], batch[rebuilt:].label)
    decoded = model.prior.decoder(torch.cat([codes, samples]), batch[by_maps:].label)
    rebuilt_and_drawn: Tensor = model.generator(torch.cat([maps, decoded]))
    return rebuilt_and_drawn


def _distance(maps: list[Tensor], others: list[Tensor]) -> Tensor:
    """Mean squared difference of maps (N, C, h, w), each place scaled to length 1 over channels, added up over the maps."""
    pairs = zip(maps, others, strict=True)
    return torch.stack([(_unit(x) - _unit(y)).square().sum(1).mean() for x, y in pairs]).sum()


def _unit(x: Tensor) -> Tensor:
    return normalize(x.float(), dim=1, eps=1e-6)
