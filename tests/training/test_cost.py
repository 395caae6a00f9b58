"""Parameters and multiplications of networks against counts by hand."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.architecture import Architecture
from training.cost import estimate, networks
from training.errors import DataError
from training.families import FamilyName
from training.model import Model, ModelFacts
from training.networks import Discriminator
from training.settings import TrainSettings


def _settings(family: FamilyName = "gan", **changes: Any) -> TrainSettings:
    chosen = {"data": "digits", "size": 8, "latent_dim": 4, "images": 320, "batch": 16, "device": "cpu"}
    return TrainSettings.model_validate({"out": "run", "family": family, **chosen, **changes})


def test_a_generators_cost_is_that_of_its_layers() -> None:
    """8 pixels: latent 4 -> 256 -> 256 -> 6 maps of 4x4 -> convolution 3x3 to 4 maps, dealt out to 8x8."""
    model = Model(ModelFacts("vae", Architecture(8, 1, 4, 6, 0), [], 0))
    generator = networks(model, None)["generator"]
    weights = [4 * 256, 256 * 256, 256 * 96, 9 * 6 * 4]
    biases = [256, 256, 96, 4]
    multiplications = [4 * 256, 256 * 256, 256 * 96, 16 * 9 * 6 * 4]
    assert generator.parameters == sum(weights) + sum(biases)
    assert generator.mflop == pytest.approx(2e-6 * sum(multiplications))


@pytest.mark.parametrize("labels", [0, 10])
def test_each_network_that_a_training_has_is_counted(labels: int) -> None:
    architecture = Architecture(16, 3, 4, 6, labels, blocks=1)
    names = [str(number) for number in range(labels)]
    vae, gan = (Model(ModelFacts(family, architecture, names, 0)) for family in ("vae", "gan"))
    discriminator = Discriminator(architecture)
    assert networks(vae, None).keys() == {"generator", "encoder"}
    counted = networks(gan, discriminator)
    assert counted.keys() == {"generator", "discriminator"}
    assert counted["discriminator"].parameters == sum(weight.numel() for weight in discriminator.parameters())
    assert all(network.mflop > 0.1 for network in counted.values())


def test_an_estimate_counts_the_steps_of_each_phase() -> None:
    told = estimate(_settings("hybrid", conditional=True, diffaugment=True, perceptual=1.0))
    assert "likelihood phase: 14 steps of 16 images, " in told
    assert "adversarial phase: 6 steps of 16 images, " in told
    assert "320 images on cpu: about " in told


def test_an_estimate_of_the_baseline_counts_its_batch_norms() -> None:
    plain, usual = (
        next(line for line in estimate(_settings(size=16, adversarial=kind)).splitlines() if line.startswith("gen"))
        for kind in ("plain", "relativistic")
    )
    parameters = [int(line.split()[1].replace(",", "")) for line in (plain, usual)]
    assert parameters[0] - parameters[1] == 2 * (2 * 256 + 32 + 16)  # scale and shift of each channel


def test_an_estimate_refuses_what_a_training_would_refuse(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither 'digits' nor"):
        estimate(_settings(data=str(tmp_path / "nowhere")))
    for number in range(4):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match=r"conditional: .* no labels"):
        estimate(_settings(data=str(tmp_path), conditional=True))
