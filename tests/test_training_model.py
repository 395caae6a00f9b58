"""What a model saves is what it loads; everything else is an error that names the file."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from training.errors import RunFolderError
from training.model import Model, ModelFacts, average_into
from training.networks import Architecture
from training.settings import Family


def _model(family: Family = "vae", labels: int = 0, components: int = 3) -> Model:
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(labels)]
    model = Model(ModelFacts(family, Architecture(16, 1, 6, 4, labels), names, components)).eval()
    if model.prior:
        for buffer in model.prior.buffers():
            buffer.normal_()
    return model


def _noise(model: Model) -> torch.Tensor:
    return torch.randn(4, model.noise_dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("family", get_args(Family))
def test_a_loaded_model_draws_the_images_of_the_saved_one(family: Family, labels: int, tmp_path: Path) -> None:
    saved = _model(family, labels, components=0 if family == "gan" else 3)
    saved.save(tmp_path)
    loaded = Model.load(tmp_path)
    label = torch.tensor([0, 1, 2, 0]) if labels else None
    assert loaded.facts == saved.facts
    assert not loaded.training
    assert torch.equal(loaded.generate(_noise(saved), label), saved.generate(_noise(saved), label))


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
        ({"format": 2}, "reads format 1 only"),
        ({"family": "flow"}, "no model that can be read"),
        ({"surprise": 1}, "no model that can be read"),
        ({"prior_components": 4}, "no model that can be read"),
    ],
)
def test_a_record_of_another_form_is_an_error(change: dict[str, object], message: str, tmp_path: Path) -> None:
    _model().save(tmp_path)
    record = tmp_path / "model.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(RunFolderError, match=message):
        Model.load(tmp_path)


def test_the_average_moves_by_one_minus_the_decay() -> None:
    target, source = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.75 * target.weight.detach() + 0.25 * source.weight.detach()
    average_into(target, source, decay=0.75)
    torch.testing.assert_close(target.weight.detach(), expected)
