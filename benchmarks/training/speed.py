"""Images a second that trainings show one thread, beside a plain loop of the same networks, in turns; and what a step costs.

    python -m benchmarks.training.speed

By CPU time, of pictures of noise: the speed does not depend on what they show. A plain loop has the same networks, losses and
optimisers and nothing else: batches that lie ready, no averages, no augmentation. Wants the extra `features`.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.shared.report import table
from training.batch import draw_batch
from training.data import ImageSet
from training.feature_discriminator import FeatureDiscriminator, Sight
from training.feature_opponents import UPDATE
from training.learner import Learner
from training.objective import gradient_penalties, kl_divergence
from training.parallel import ALONE
from training.schedule import Phase
from training.settings import TrainSettings
from training.trainer import learner

CPU = torch.device("cpu")

PICTURES = 512
ROUNDS = 7

Step = Callable[[], object]


class Kind(NamedTuple):
    """Of training. is_adversarial: its second phase."""

    name: str
    size: int
    channels: int
    settings: dict[str, Any]
    is_adversarial: bool
    plain: Callable[[Learner, Tensor], Step] | None = None


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    rows = []
    for kind in KINDS:
        learning, images = _begun(kind)
        steps = {"figment": _own(kind, learning, images)}
        if kind.plain:
            steps["plain"] = kind.plain(_begun(kind)[0], images.pixels(slice(0, learning.settings.batch)))
        rates = {name: learning.settings.batch / seconds for name, seconds in _in_turns(steps).items()}
        plain = [f"{rates['plain']:,.0f}", f"{rates['figment'] / rates['plain']:.2f}"] if kind.plain else ["", ""]
        rows.append([kind.name, f"{rates['figment']:,.0f}", *plain])
        print(*rows[-1], flush=True)
    print(*table(["training", "images/s", "plain loop", "by the plain loop's"], rows), sep="\n")
    found = _in_turns(dict(_parts(_begun(KINDS[-1])[0])))
    print(*table(["of an update", "ms"], [[name, f"{1e3 * each:.1f}"] for name, each in found.items()]), sep="\n")


def _begun(kind: Kind) -> tuple[Learner, ImageSet]:
    shape = (PICTURES, kind.size, kind.size, kind.channels)
    images = ImageSet(np.random.default_rng(0).integers(0, 256, shape, np.uint8), None, [])
    settings = TrainSettings.model_validate({"data": "noise", "out": Path("none"), "threads": 1, **kind.settings})
    learning = learner(settings, images, CPU)
    if kind.is_adversarial and learning.model.encoder:
        learning.freeze_encoder(None)
    return learning, images


def _own(kind: Kind, learning: Learner, images: ImageSet) -> Step:
    """What the training loop does in a step."""
    rows, steps = images.batches(learning.settings.batch, 0), count()
    latent_dim = learning.model.latent_dim

    def step() -> None:
        batch = draw_batch(
            learning.settings, next(steps), images, next(rows), latent_dim, learning.model.noise_dim, CPU, ALONE
        )
        learning.learn(batch, Phase(kind.is_adversarial, 0.5))

    return step


def _plain_vae(learning: Learner, real: Tensor) -> Step:
    model, optimiser = learning.model, learning.g_optimiser
    encoder = model.encoder
    assert encoder is not None, "of a VAE"

    def step() -> None:
        mean, log_variance = encoder(real)
        drawn = model.generator(mean + torch.randn_like(mean) * (0.5 * log_variance).exp())
        nll = 0.5 * real[0].numel() * (drawn - real).square().mean().log()
        _descend(optimiser, nll + kl_divergence(mean, log_variance).mean())

    return step


def _plain_gan(learning: Learner, real: Tensor) -> Step:
    generator, discriminator = learning.model.generator, learning.discriminator
    g_optimiser, d_optimiser = learning.g_optimiser, learning.d_optimiser
    assert discriminator is not None, "of a GAN"
    assert d_optimiser is not None, "of a GAN"

    def step() -> None:
        drawn = generator(torch.randn(len(real), learning.model.noise_dim))
        both = torch.cat([real, drawn.detach()]).requires_grad_()
        logits = discriminator(both)
        penalties = gradient_penalties(both, logits)
        _descend(d_optimiser, learning.adversarial.of_discriminator(*logits.chunk(2)) + sum(penalties))
        with torch.no_grad():
            judged = discriminator(real)
        _descend(g_optimiser, learning.adversarial.of_generator(judged, discriminator(drawn)))

    return step


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def _parts(learning: Learner) -> Iterator[tuple[str, Step]]:
    """What an update of a D on features is made of, each by itself."""
    discriminator, model = learning.discriminator, learning.model
    assert isinstance(discriminator, FeatureDiscriminator), "of a hybrid of maps"
    assert learning.d_optimiser is not None, "there is a D"
    images = torch.randn(UPDATE, 3, discriminator.resolution, discriminator.resolution)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        sight = discriminator.see(images, images)
    latents = torch.randn(UPDATE, model.latent_dim)

    def forward() -> None:
        with torch.no_grad():
            discriminator.network.maps(images)

    def forward_and_back() -> None:
        pixels = images.detach().requires_grad_()
        torch.autograd.backward([each.sum() for each in discriminator.network.maps(pixels)])

    def heads_of_d() -> None:
        torch.autograd.backward([each.sum() for each in discriminator.judge(sight.beside(sight))])

    def heads_of_g() -> None:
        seen = Sight([], [each.requires_grad_() for each in sight.mixed], sight.pixels.requires_grad_())
        discriminator.heads.requires_grad_(False)
        torch.autograd.backward([each.sum() for each in discriminator.judge(seen)])
        discriminator.heads.requires_grad_(True)

    def draw() -> None:
        torch.autograd.backward(model.generator(latents).sum())

    yield "frozen network, forward", forward
    yield "frozen network, forward and back", forward_and_back
    yield "heads for D, real and drawn images, forward and back", heads_of_d
    yield "heads for G, drawn images, forward and back", heads_of_g
    yield "decoder of maps, forward and back", draw
    yield "optimiser of D", learning.d_optimiser.step
    yield "optimiser of G", learning.g_optimiser.step


def _in_turns(steps: dict[str, Step]) -> dict[str, float]:
    """Median CPU seconds of each, after one that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + ROUNDS):
        for name, step in steps.items():
            began = time.process_time()
            step()
            spent[name].append(time.process_time() - began)
    return {name: median(each[1:]) for name, each in spent.items()}


_PIXELS: dict[str, Any] = {"adversarial": "relativistic"}

KINDS = (
    Kind("vae, tiny, 28x28 grey", 28, 1, {"family": "vae"}, False, _plain_vae),
    Kind("gan, tiny, 28x28 grey", 28, 1, {"family": "gan", **_PIXELS}, True, _plain_gan),
    Kind(
        "gan of vectors, small, 64x64 colour", 64, 3, {"family": "gan", "preset": "small", **_PIXELS}, True, _plain_gan
    ),
    Kind("hybrid, tiny, 64x64 colour: first phase in bf16", 64, 3, {"family": "hybrid", "precision": "bf16"}, False),
    Kind("hybrid, tiny, 64x64 colour: first phase", 64, 3, {"family": "hybrid"}, False),
    Kind("hybrid, tiny, 64x64 colour: second phase in bf16", 64, 3, {"family": "hybrid", "precision": "bf16"}, True),
    Kind("hybrid, tiny, 64x64 colour: second phase", 64, 3, {"family": "hybrid"}, True),
)


if __name__ == "__main__":
    main()
