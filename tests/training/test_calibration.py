"""After calibration a picture depends on its latent alone, and statistics are those of the averaged weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.architecture import Architecture, MapArchitecture
from training.calibration import calibrate
from training.data import ImageSet
from training.families import FamilyName
from training.model import Model, ModelFacts
from training.posterior import fit_mixture
from training.settings import TrainSettings

SHAPE = MapArchitecture.of("tiny", 16, 3, 0)

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _images(count: int = 120) -> ImageSet:
    draw = np.random.default_rng(0)
    return ImageSet(draw.integers(0, 256, (count, 16, 16, 3), np.uint8), None, [])


def _model(family: FamilyName) -> Model:
    torch.manual_seed(0)
    return Model(ModelFacts(family, SHAPE, [], 0)).eval()


@pytest.mark.parametrize("family", ["vae", "gan", "hybrid"])
def test_a_picture_is_the_same_alone_and_among_others(family: FamilyName) -> None:
    model = _model(family)
    calibrate(model, _images(), 0)
    noise = torch.randn(64, model.noise_dim)
    with torch.inference_mode():
        torch.testing.assert_close(model.generate(noise[:1]), model.generate(noise)[:1], atol=1e-5, rtol=0)
    assert not any(module.training for module in model.modules())


def test_of_an_inverse_the_encoder_is_calibrated_alone() -> None:
    torch.manual_seed(0)
    model = Model(ModelFacts("gan", SHAPE, [], 0, inverse_psnr_db=0.0)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate(model, _images(), 0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("encoder.") and name.endswith(STATISTICS)}


def test_layers_are_normalised_over_what_will_be_drawn() -> None:
    model = _model("gan")
    noise = torch.randn(500, model.noise_dim)

    def spread() -> float:
        """Largest distance of a layer's variance from 1 over samples, as the last norm of the generator gives it."""
        norms = [each for each in model.generator.modules() if isinstance(each, nn.BatchNorm2d)]
        seen: list[torch.Tensor] = []
        hook = norms[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
        with torch.inference_mode():
            model.generate(noise)
        hook.remove()
        return float((seen[0].var((0, 2, 3)) - 1).abs().max())

    before = spread()
    calibrate(model, _images(), 0)
    assert spread() < 0.5
    assert spread() < before


def test_images_and_seed_decide_the_statistics_alone() -> None:
    first, second = _model("hybrid"), _model("hybrid")
    calibrate(first, _images(), 0)
    for module in second.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(7.0)  # whatever was there before
    torch.manual_seed(5)
    calibrate(second, _images(), 0)
    assert all(a.equal(b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_samples_take_part_once_there_is_a_mixture() -> None:
    model = _model("vae")
    calibrate(model, _images(), 0)
    by_codes = [each.clone() for each in model.generator.buffers()]
    settings = TrainSettings(data="x", family="vae", out=Path("run"))
    mixture = fit_mixture(model, _images(), settings)
    assert mixture is not None
    model.set_mixture(mixture)
    calibrate(model, _images(), 0)
    assert any(not a.equal(b) for a, b in zip(by_codes, model.generator.buffers(), strict=True))


def test_networks_without_maps_have_nothing_to_calibrate() -> None:
    model = Model(ModelFacts("vae", Architecture(16, 3, 4, 4, 0), [], 0)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate(model, _images(), 0)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
