"""A GAN of another school, to be measured beside ours: spectral normalisation, hinge loss.

    noise (N, 128) -> generator with batch norms -> images; discriminator with spectral norms -> logits

The networks for 32x32 images of Miyato et al. 2018, table 3, and their training: Adam 2e-4, beta1 0.5, beta2 0.999, one D step a G
step (theirs takes five). Kept as they are, without an average of weights.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from evaluation.model import Floats, Images, Labels
from training.augment import mirror
from training.data import ImageSet, pixels_to_bytes

NOISE_DIM = 128
WIDTH = 512
SAVE_STEPS = 2_000


class SnganModel:
    """A trained SNGAN, as an EvaluatedModel."""

    family = "gan"
    noise_dim = NOISE_DIM
    has_encoder = False

    def __init__(self, generator: nn.Module) -> None:
        self.name = "sngan"
        self.label_names: list[str] = []
        self._generator = generator.cpu().eval()

    def latent(self, noise: Floats, labels: Labels) -> Floats:
        """noise: (N, 128), the latent itself."""
        return noise

    @torch.inference_mode()
    def decode(self, latents: Floats, labels: Labels) -> Images:
        """latents: (N, 128). Returns images (N, 32, 32, C) uint8."""
        return pixels_to_bytes(self._generator(torch.from_numpy(latents)))

    def encode(self, images: Images, labels: Labels) -> tuple[Floats, Floats]:
        """A GAN has no encoder."""
        raise NotImplementedError

    def bound(self, images: Images, labels: Labels, draws: int, seed: int) -> None:
        """A GAN has no likelihood."""


def trained(images: ImageSet, count: int, batch: int, out: Path, device: torch.device, seed: int) -> SnganModel:
    """Train on `count` images, half of them mirrored as the families' are, or go on from the last state in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nets = nn.ModuleDict({"g": _generator(images.shape[2]), "d": _discriminator(images.shape[2])}).to(device)
    steps, file = -(-count // batch), out / "state.safetensors"
    start = 0
    if file.is_file():
        state = load_file(file, device=str(device))
        start = int(state.pop("step"))
        nets.load_state_dict(state)  # Adam's moments begin anew: a cut costs a few steps of its memory
    g_optimiser, d_optimiser = (
        torch.optim.Adam(nets[name].parameters(), lr=2e-4, betas=(0.5, 0.999)) for name in ("g", "d")
    )
    batches = images.batches(batch, seed, start=start * batch)
    for step in range(start, steps):
        draw = torch.Generator().manual_seed(int(np.random.default_rng([seed, step]).integers(2**62)))
        real = mirror(images.pixels(next(batches)), torch.rand(batch, generator=draw) < 0.5).to(device)
        fake = nets["g"](torch.randn(batch, NOISE_DIM, generator=draw).to(device))
        d_loss = functional.relu(1 - nets["d"](real)).mean() + functional.relu(1 + nets["d"](fake.detach())).mean()
        _step(d_optimiser, d_loss)
        _step(g_optimiser, -nets["d"](fake).mean())
        if (step + 1) % SAVE_STEPS == 0 or step + 1 == steps:
            state = {name: value.contiguous() for name, value in nets.state_dict().items()}
            save_file(state | {"step": torch.tensor(step + 1)}, file)
    return SnganModel(nets["g"])


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def _generator(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(NOISE_DIM, WIDTH * 16), nn.Unflatten(1, (WIDTH, 4, 4))]
    for width in (WIDTH, WIDTH // 2, WIDTH // 4):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.BatchNorm2d(width // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH // 8, channels, 3, padding=1), nn.Tanh())


def _discriminator(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = channels
    for width in (WIDTH // 8, WIDTH // 4, WIDTH // 2):
        layers += [spectral_norm(nn.Conv2d(before, width, 3, padding=1)), nn.LeakyReLU(0.1)]
        after = min(2 * width, WIDTH)
        layers += [spectral_norm(nn.Conv2d(width, after, 4, 2, 1)), nn.LeakyReLU(0.1)]
        before = after
    layers += [spectral_norm(nn.Conv2d(before, WIDTH, 3, padding=1)), nn.LeakyReLU(0.1), nn.Flatten()]
    return nn.Sequential(*layers, spectral_norm(nn.Linear(WIDTH * 16, 1)), nn.Flatten(0))
