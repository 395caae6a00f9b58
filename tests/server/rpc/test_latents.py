"""Encode, Decode, Reconstruct and Interpolate."""

import io
from collections.abc import Sequence

import grpc
import numpy as np
import pytest
from PIL import Image

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import ImageBatch, ImageFormat
from tests.fakes.messages import latent_batch, latents, pixels, seeded, upload
from training.sources import load


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Held-out digits and the mean of the others: images that no model has seen."""
    seen, held_out = load("digits", None).split(held_out=0.2, seed=0)
    return held_out.images, seen.images.mean(axis=0)


def test_a_reconstruction_is_far_closer_than_the_mean_image(images: ImageServiceStub, digits: Sequence[np.ndarray]):
    held_out, mean = digits
    reply = images.Reconstruct(pb.ReconstructRequest(model="vae", images=upload(held_out)))
    error = np.square(pixels(reply).astype(float) - held_out).mean()
    assert error < 0.25 * np.square(mean - held_out).mean()


@pytest.mark.parametrize("model", ["vae", "hybrid"])
def test_reconstruct_is_decode_of_the_means_that_encode_gives(
    images: ImageServiceStub, digits: Sequence[np.ndarray], model: str
):
    some = digits[0][:70]
    encoded = images.Encode(pb.EncodeRequest(model=model, images=upload(some)))
    decoded = images.Decode(pb.DecodeRequest(model=model, latents=encoded.mean))
    reconstructed = images.Reconstruct(pb.ReconstructRequest(model=model, images=upload(some)))
    assert latents(encoded.mean).shape == latents(encoded.log_variance).shape == (70, 16)
    assert pixels(decoded).tobytes() == pixels(reconstructed).tobytes()


def test_encoding_does_not_depend_on_the_batch(images: ImageServiceStub, digits: Sequence[np.ndarray]):
    whole = images.Encode(pb.EncodeRequest(model="vae", images=upload(digits[0][:10])))
    one = images.Encode(pb.EncodeRequest(model="vae", images=upload(digits[0][7:8])))
    assert latents(whole.mean)[7].tobytes() == latents(one.mean)[0].tobytes()


@pytest.mark.parametrize("model", ["vae", "gan", "hybrid"])
@pytest.mark.parametrize("method", pb.InterpolationMethod.values())
def test_the_ends_of_an_interpolation_are_the_generated_images(images: ImageServiceStub, model: str, method: int):
    request = pb.InterpolateRequest(model=model, start=seeded(3, 5), end=seeded(4, 2**64 - 1), steps=9, method=method)
    reply = images.Interpolate(request)
    first = images.Generate(pb.GenerateRequest(model=model, seed=3, first_index=5, count=1))
    last = images.Generate(pb.GenerateRequest(model=model, seed=4, first_index=2**64 - 1, count=1))
    assert pixels(reply)[0].tobytes() == pixels(first)[0].tobytes()
    assert pixels(reply)[-1].tobytes() == pixels(last)[0].tobytes()
    decoded = images.Decode(pb.DecodeRequest(model=model, latents=reply.latents))
    assert pixels(decoded).tobytes() == pixels(reply).tobytes()


@pytest.mark.parametrize("model", ["vae", "hybrid", "gan"])
def test_an_interpolation_changes_gradually(images: ImageServiceStub, model: str):
    reply = images.Interpolate(pb.InterpolateRequest(model=model, start=seeded(1), end=seeded(2), steps=33))
    frames = pixels(reply).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    whole = np.abs(frames[-1] - frames[0]).mean()
    assert steps.max() < 0.25 * whole
    assert steps.min() > 0


def test_slerp_interpolates_norms_linearly_and_lerp_goes_straight(images: ImageServiceStub):
    start, end = np.zeros((1, 16)), np.zeros((1, 16))
    start[0, 0], end[0, 1] = 1, 3
    ends = {"start": pb.Endpoint(latent=latent_batch(start)), "end": pb.Endpoint(latent=latent_batch(end))}
    slerp = images.Interpolate(
        pb.InterpolateRequest(model="gan", steps=5, method=pb.INTERPOLATION_METHOD_SLERP, **ends)
    )
    lerp = images.Interpolate(pb.InterpolateRequest(model="gan", steps=5, **ends))
    assert np.linalg.norm(latents(slerp.latents), axis=1) == pytest.approx([1, 1.5, 2, 2.5, 3])
    assert latents(lerp.latents)[2] == pytest.approx((start + end)[0] / 2)


def test_a_conditional_model_needs_labels_where_it_cannot_draw_them(images: ImageServiceStub):
    values = latent_batch(np.zeros((3, 16)))
    for labels in ([], [1, 2]):
        with pytest.raises(grpc.RpcError) as refused:
            images.Decode(pb.DecodeRequest(model="labelled-vae", latents=values, labels=labels))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "1 or 3" in refused.value.details()
    one = images.Decode(pb.DecodeRequest(model="labelled-vae", latents=values, labels=[4]))
    each = images.Decode(pb.DecodeRequest(model="labelled-vae", latents=values, labels=[4, 4, 4]))
    assert pixels(one).tobytes() == pixels(each).tobytes()
    small = load("digits", 16).images[:2]
    images.Encode(pb.EncodeRequest(model="labelled-vae", images=upload(small), labels=[0, 1]))
    images.Reconstruct(pb.ReconstructRequest(model="labelled-vae", images=upload(small), labels=[0, 1]))
    reply = images.Interpolate(
        pb.InterpolateRequest(model="labelled-vae", start=seeded(1), end=seeded(2), steps=3, label=4)
    )
    generated = images.Generate(pb.GenerateRequest(model="labelled-vae", seed=1, count=1, label=4))
    assert pixels(reply)[0].tobytes() == pixels(generated)[0].tobytes()


@pytest.mark.parametrize("method", ["Encode", "Reconstruct"])
def test_a_gan_has_no_encoder_and_says_so(images: ImageServiceStub, digits: Sequence[np.ndarray], method: str):
    request = pb.EncodeRequest if method == "Encode" else pb.ReconstructRequest
    with pytest.raises(grpc.RpcError) as refused:
        getattr(images, method)(request(model="gan", images=upload(digits[0][:1])))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "gan has no encoder, because it is of the family 'gan'" in refused.value.details()


def test_uploaded_files_are_turned_flattened_and_converted(images: ImageServiceStub, digits: Sequence[np.ndarray]):
    original = Image.fromarray(digits[0][0][..., 0])
    expected = images.Encode(pb.EncodeRequest(model="vae", images=upload(digits[0][:1])))

    def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        batch = ImageBatch(format=ImageFormat.IMAGE_FORMAT_PNG, data=[file.getvalue()])
        return latents(images.Encode(pb.EncodeRequest(model="vae", images=batch)).mean)

    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to show"
    see_through = Image.merge("LA", (Image.new("L", original.size, 255), original))
    assert np.array_equal(encoded(original), latents(expected.mean))
    assert np.array_equal(encoded(original.convert("RGB")), latents(expected.mean))
    assert np.array_equal(encoded(original, "WEBP", lossless=True), latents(expected.mean))
    assert np.array_equal(encoded(original.rotate(90), exif=exif), latents(expected.mean))
    assert np.array_equal(encoded(see_through), latents(expected.mean))
