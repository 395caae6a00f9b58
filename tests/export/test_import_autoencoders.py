"""Autoencoders from elsewhere, in two files: their bundles encode and decode what their networks do, and are served."""

from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.command import Import
from export.errors import ImportRefused
from export.golden import golden_inputs
from export.onnx_import.autoencoder import from_autoencoder
from export.onnx_import.options import ImageShape, ImportOptions
from export.publish import Published, publish
from export.sessions import run, session
from figment_client import Client
from tests.fakes import autoencoders
from tests.fakes.autoencoders import CHANNELS, SIZE, Encoder, FlatDecoder, FlatEncoder, applied
from tests.fakes.servers import running_server

SCALING, SHIFT = 0.18215, 0.25
KL = ImportOptions(value_range="-1..1", shape=ImageShape(SIZE, SIZE, 3), scaling_factor=SCALING, shift_factor=SHIFT)
TINY = ImportOptions(value_range="0..1")
Z = CHANNELS * (SIZE // 8) ** 2


def pair(folder: Path) -> tuple[Path, Path]:
    return folder / "vae_encoder" / "model.onnx", folder / "vae_decoder" / "model.onnx"


def pictures(count: int, channels: int = 3, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, size, size, channels), np.uint8)


def graphs(published: Published) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the published encoder gives of some pictures, and the generator of some noise."""
    encoder, generator = (onnx.load(published.folder / f"{role}.onnx") for role in ("encoder", "generator"))
    size, channels, dim = published.manifest.height, published.manifest.channels, published.manifest.noise_dim
    given = run(session(encoder), {"images": pictures(5, channels, size)})
    return given, run(session(generator), golden_inputs(5, dim, 0, seed=2))


def bytes_of(levels: np.ndarray) -> np.ndarray:
    return levels.transpose(0, 2, 3, 1).clip(0, 255)


def test_a_kl_autoencoder_encodes_and_decodes_in_scaled_units(tmp_path: Path) -> None:
    encoder, decoder = autoencoders.kl_autoencoder(tmp_path)
    source = from_autoencoder(*pair(tmp_path), KL)
    published = publish(source, tmp_path / "models", "kl")
    manifest = published.manifest
    assert set(manifest.graphs) == {"generator.onnx", "encoder.onnx"}
    assert (manifest.latent_dim, manifest.noise_dim, list(manifest.latent_shape)) == (Z, Z, [CHANNELS, 4, 4])
    encoded, drawn = graphs(published)
    mean, log_variance = np.split(applied(encoder, pictures(5).transpose(0, 3, 1, 2) / 127.5 - 1), 2, axis=1)
    assert encoded["mean"].reshape(mean.shape) == pytest.approx((mean - SHIFT) * SCALING, abs=1e-5)
    expected = log_variance.clip(-30, 20) + 2 * log(SCALING)
    assert encoded["log_variance"].reshape(mean.shape) == pytest.approx(expected, abs=1e-5)
    latents = golden_inputs(5, Z, 0, seed=2)["noise"].reshape(mean.shape) / SCALING + SHIFT
    assert np.abs(drawn["images"] - bytes_of(applied(decoder, latents) * 127.5 + 127.5)).max() < 0.51
    assert "latent_parameters is mean and log variance, the halves of axis 1" in source.note
    assert "an autoencoder has no prior of its own: Generate draws latents from N(0, I)" in source.note


def test_an_encoder_without_variance_tells_the_least_there_is(tmp_path: Path) -> None:
    encoder, decoder = autoencoders.tiny_autoencoder(tmp_path)
    source = from_autoencoder(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx", TINY)
    encoded, drawn = graphs(publish(source, tmp_path / "models", "tiny"))
    mean = applied(encoder, pictures(5).transpose(0, 3, 1, 2) / 255)
    assert encoded["mean"].reshape(mean.shape) == pytest.approx(mean, abs=1e-5)
    assert (encoded["log_variance"] == -30).all()
    latents = golden_inputs(5, Z, 0, seed=2)["noise"].reshape(mean.shape)
    assert np.abs(drawn["images"] - bytes_of(applied(decoder, latents) * 255)).max() < 0.51
    assert "latents is the latent itself: its log variance is told as -30" in source.note


def test_a_vae_of_flat_pixels_has_mean_and_log_variance_by_their_names(tmp_path: Path) -> None:
    torch.manual_seed(2)
    encoder, decoder = FlatEncoder(), FlatDecoder()
    files = tmp_path / "e.onnx", tmp_path / "d.onnx"
    autoencoders.saved(encoder, torch.zeros(2, 784), files[0], "x", "logvar mu")
    autoencoders.saved(decoder, torch.zeros(2, 6), files[1], "z", "y")
    options = ImportOptions(shape=ImageShape(28, 28))
    published = publish(from_autoencoder(*files, options), tmp_path / "models", "flat")
    assert (published.manifest.latent_dim, list(published.manifest.latent_shape)) == (6, [])
    encoded, _ = graphs(published)
    flat = pictures(5, 1, 28).reshape(5, 784) / np.float32(255)
    assert encoded["mean"] == pytest.approx(applied(encoder.mean, flat), abs=1e-5)
    assert encoded["log_variance"] == pytest.approx(applied(encoder.log_variance, flat), abs=1e-5)
    mean_alone = from_autoencoder(*files, replace(options, output="mu"))
    assert "mu is the latent itself" in mean_alone.note


def test_an_encoder_that_is_made_for_one_image_is_run_row_by_row(tmp_path: Path) -> None:
    class Baked(Encoder):
        def forward(self, sample: torch.Tensor) -> torch.Tensor:
            return super().forward(sample.reshape(3, SIZE, SIZE)[None])

    torch.manual_seed(3)
    _, files = autoencoders.tiny_autoencoder(tmp_path), (tmp_path / "baked.onnx", tmp_path / "decoder.onnx")
    baked = Baked(CHANNELS)
    autoencoders.saved(baked, torch.zeros(1, 3, SIZE, SIZE), files[0], "images", "latents", axes=())
    source = from_autoencoder(*files, TINY)
    assert "draws one image after the other" in source.note
    encoded, _ = graphs(publish(source, tmp_path / "models", "baked"))
    rows = [applied(baked, row[None].transpose(0, 3, 1, 2) / 255) for row in pictures(5)]
    assert encoded["mean"] == pytest.approx(np.concatenate(rows).reshape(5, -1), abs=1e-5)


@pytest.mark.slow
def test_a_foreign_autoencoder_is_a_service(tmp_path: Path) -> None:
    autoencoders.kl_autoencoder(tmp_path)
    models = tmp_path / "models"
    publish(from_autoencoder(*pair(tmp_path), KL), models, "kl")
    some = pictures(3)
    with running_server(models) as app, Client(app.address) as client:
        encoding = client.encode("kl", some)
        assert encoding.mean.shape == encoding.log_variance.shape == (3, Z)
        decoded = client.decode("kl", encoding.mean)
        assert np.array_equal(np.asarray(decoded), np.asarray(client.reconstruct("kl", some)))
        way = client.interpolate("kl", encoding.mean[0], encoding.mean[1], steps=5)
        assert np.array_equal(np.asarray(way)[[0, -1]], np.asarray(decoded)[:2])
        drawn = client.generate("kl", count=4, seed=1)
        assert np.asarray(drawn).shape == (4, SIZE, SIZE, 3)
        assert list(client.model("kl").manifest.latent_shape) == [CHANNELS, 4, 4]


def test_sizes_and_ranges_that_no_file_tells_are_asked_for(tmp_path: Path) -> None:
    autoencoders.kl_autoencoder(tmp_path)
    with pytest.raises(ImportRefused, match=r"inputs of the encoder: got sample .*sizes left open; --shape tells"):
        from_autoencoder(*pair(tmp_path), replace(KL, shape=None))
    autoencoders.tiny_autoencoder(tmp_path)
    with pytest.raises(ImportRefused, match=r"got values from .*; --range tells what black and white are"):
        from_autoencoder(tmp_path / "encoder.onnx", tmp_path / "decoder.onnx", ImportOptions())


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    autoencoders.tiny_autoencoder(tmp_path)
    torch.manual_seed(4)
    autoencoders.saved(FlatEncoder(), torch.zeros(2, 784), tmp_path / "flat.onnx", "x", "mu logvar")
    autoencoders.saved(Encoder(3), torch.zeros(1, 3, SIZE, SIZE), tmp_path / "three.onnx", "images", "latents")
    decoder = tmp_path / "decoder.onnx"
    with pytest.raises(ImportRefused, match=r"inputs of the encoder: got x float .*allowed is one, the images.*32x32"):
        from_autoencoder(tmp_path / "flat.onnx", decoder, TINY)
    with pytest.raises(ImportRefused, match=r"outputs of the encoder: got latents .*takes latents \(N, 4, 4, 4\)"):
        from_autoencoder(tmp_path / "three.onnx", decoder, TINY)
    with pytest.raises(ImportRefused, match=r"output: got 'x'; the graph has latents"):
        from_autoencoder(tmp_path / "encoder.onnx", decoder, replace(TINY, output="x"))
    with pytest.raises(ImportRefused, match=r"labels: got 1, but the graph has no input for a label"):
        from_autoencoder(tmp_path / "encoder.onnx", decoder, replace(TINY, labels=("a",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "allowed are the FILE of a generator, or --encoder and --decoder together"),
        ({"file": "g.onnx", "decoder": "d.onnx"}, "allowed are the FILE of a generator, or"),
        ({"encoder": "e.onnx"}, "--encoder and --decoder together"),
        ({"file": "g.onnx", "scaling_factor": 2}, "--scaling-factor and --shift-factor are of autoencoders"),
        ({"file": "g.onnx", "shape": "28"}, "allowed are HxW and HxWxC"),
        ({"file": "g.onnx", "background": "reddish"}, "allowed are names, as white, and red, green and blue"),
    ],
)
def test_options_that_do_not_go_together_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Import.model_validate(options)


def test_what_can_be_typed_is_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    autoencoders.kl_autoencoder(tmp_path)
    encoder, decoder = pair(tmp_path)
    options = {"range": "-1..1", "shape": "32x32x3", "scaling_factor": SCALING, "name": "kl"}
    Import.model_validate({"encoder": encoder, "decoder": decoder, "models": tmp_path / "models", **options}).cli_cmd()
    assert (tmp_path / "models" / "kl" / "1" / "encoder.onnx").is_file()
    assert "an autoencoder has no prior of its own" in capsys.readouterr().out
