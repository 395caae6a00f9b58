"""What a model saves is what it loads; everything else is an error that names the file."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from training.architecture import Architecture
from training.errors import RunFolderError
from training.families import FamilyName
from training.model import FORMAT, Model, ModelFacts, ema_into
from training.settings import Likelihood


def _model(
    family: FamilyName = "vae", labels: int = 0, components: int = 3, likelihood: Likelihood = "gaussian", **shape: Any
) -> Model:
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(labels)]
    architecture = Architecture(16, 1, 6, 4, labels, **shape)
    model = Model(ModelFacts(family, architecture, names, components, likelihood)).eval()
    if model.prior:
        for buffer in model.prior.buffers():
            buffer.normal_()
    return model


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _noise(model: Model) -> torch.Tensor:
    return _normal(4, model.noise_dim)


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("family", get_args(FamilyName))
def test_a_loaded_model_draws_the_images_of_the_saved_one(family: FamilyName, labels: int, tmp_path: Path) -> None:
    saved = _model(family, labels, components=0 if family == "gan" else 3)
    saved.save(tmp_path)
    loaded = Model.load(tmp_path)
    label = torch.tensor([0, 1, 2, 0]) if labels else None
    assert loaded.facts == saved.facts
    assert not loaded.training
    assert torch.equal(loaded.generate(_noise(saved), label), saved.generate(_noise(saved), label))


def test_blocks_batch_norms_and_their_statistics_survive_saving(tmp_path: Path) -> None:
    saved = _model("gan", components=0, blocks=1, normalised=True)
    for name, buffer in saved.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    saved.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.architecture == saved.architecture
    assert torch.equal(loaded.generate(_noise(saved)), saved.generate(_noise(saved)))


@pytest.mark.parametrize("likelihood", get_args(Likelihood))
def test_a_loaded_model_knows_its_likelihood_and_variance(likelihood: Likelihood, tmp_path: Path) -> None:
    saved = _model(likelihood=likelihood)
    saved.variance.fill_(0.03)
    saved.save(tmp_path)
    loaded = Model.load(tmp_path)
    images, latents = torch.tanh(_normal(4, 1, 16, 16)), _normal(4, 2, 6)
    assert json.loads((tmp_path / "model.json").read_text())["format"] == FORMAT == 2
    assert loaded.likelihood == likelihood
    assert loaded.variance.item() == pytest.approx(0.03)
    assert torch.equal(loaded.log_likelihood(images, latents), saved.log_likelihood(images, latents))


@pytest.mark.parametrize("labels", [0, 3])
def test_the_gaussian_likelihood_is_that_of_torch_distributions(labels: int) -> None:
    model = _model(labels=labels)
    model.variance.fill_(0.03)
    images, latents, label = _normal(4, 1, 16, 16), _normal(4, 5, 6), torch.tensor([0, 1, 2, 0]) if labels else None
    found = model.log_likelihood(images, latents, label)
    assert found.shape == (4, 5)
    for draw in range(5):
        means = model.generator(latents[:, draw], label)
        expected = Independent(Normal(means, 0.03**0.5), 3).log_prob(images)
        torch.testing.assert_close(found[:, draw], expected)


@pytest.mark.parametrize("labels", [0, 3])
def test_the_bernoulli_likelihood_is_that_of_torch_distributions(labels: int) -> None:
    model = _model(labels=labels, likelihood="bernoulli")
    white, latents = (_normal(4, 1, 16, 16) > 0).float(), _normal(4, 5, 6)
    label = torch.tensor([0, 1, 2, 0]) if labels else None
    found = model.log_likelihood(2 * white - 1, latents, label)
    assert found.shape == (4, 5)
    for draw in range(5):
        shown = model.generator(latents[:, draw], label)  # twice the probability of white, less 1
        expected = Independent(Bernoulli((shown + 1) / 2), 3).log_prob(white)
        torch.testing.assert_close(found[:, draw], expected, rtol=1e-4, atol=1e-3)


def test_without_a_mixture_the_prior_is_the_standard_normal_density() -> None:
    latents = _normal(4, 5, 6)
    torch.testing.assert_close(_model(components=0).log_prior(latents), Normal(0.0, 1.0).log_prob(latents).sum(-1))


def test_with_a_mixture_the_priors_density_is_the_mixtures() -> None:
    model, latents = _model(), _normal(4, 5, 6)
    assert model.prior is not None
    for buffer in (model.prior.thresholds, model.prior.scales):
        buffer.copy_(buffer.sort(0).values if buffer.dim() == 1 else torch.eye(6).expand(3, 6, 6))
    assert torch.equal(model.log_prior(latents), model.prior.log_prob(latents))
    assert model.log_prior(latents).shape == (4, 5)
    assert model.log_prior(latents).isfinite().all()


def test_only_an_autoencoder_has_an_encoder() -> None:
    assert _model("gan", components=0).encoder is None
    assert _model("vae").encoder is not None
    assert _model("hybrid").encoder is not None


def test_noise_has_one_entry_more_than_the_latent_where_the_prior_is_a_mixture() -> None:
    assert _model(components=0).noise_dim == 6
    assert _model(components=3).noise_dim == 7


def test_a_folder_without_a_model_is_an_error_that_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"not a finished run: model\.json is missing"):
        Model.load(tmp_path)


def test_a_model_without_weights_is_an_error_that_names_the_missing_file(tmp_path: Path) -> None:
    _model().save(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(RunFolderError, match=r"weights\.safetensors is missing"):
        Model.load(tmp_path)


def test_cut_weights_are_an_error(tmp_path: Path) -> None:
    _model().save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunFolderError, match="no model that can be read"):
        Model.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "reads format 2 only"),
        ({"family": "flow"}, "no model that can be read"),
        ({"surprise": 1}, "no model that can be read"),
        ({"prior_components": 4}, "no model that can be read"),
        ({"architecture": {"size": 16}}, "no model that can be read"),
    ],
)
def test_a_record_of_another_form_is_an_error(change: dict[str, object], message: str, tmp_path: Path) -> None:
    _model().save(tmp_path)
    record = tmp_path / "model.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(RunFolderError, match=message):
        Model.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 10**6}, r"wants encoder.* of shape .*, weights.safetensors has \("),
        ({"latent_dim": 10**6}, r"wants encoder.* of shape .*, weights.safetensors has \("),
        ({"channels": 10**9}, r"wants encoder.* of shape .*, weights.safetensors has \("),
        ({"blocks": 10**9}, "blocks: got 1000000000, allowed are 0 to 1000"),
        ({"blocks": -1}, "blocks: got -1, allowed are 0 to 1000"),
    ],
)
def test_huge_sizes_are_refused_before_they_take_memory(changed: dict[str, int], message: str, tmp_path: Path) -> None:
    _model().save(tmp_path)
    record = json.loads((tmp_path / "model.json").read_text())
    record["architecture"].update(changed)
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match=message):
        Model.load(tmp_path)


def test_the_average_moves_by_one_minus_the_decay() -> None:
    target, source = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.75 * target.weight.detach() + 0.25 * source.weight.detach()
    ema_into(target, source, decay=0.75)
    torch.testing.assert_close(target.weight.detach(), expected)


def test_the_average_takes_statistics_as_they_are() -> None:
    target, source = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    source(_normal(4, 2, 3, 3))
    ema_into(target, source, decay=0.75)
    assert torch.equal(target.running_mean, source.running_mean)  # type: ignore[arg-type]
    assert target.num_batches_tracked == 1
