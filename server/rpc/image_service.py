"""ImageService: each method resolves the model, checks the request, reserves places, runs graphs and replies.

    message -> find model -> check -> admit -> [decode uploads] -> run -> encode -> message, serialised where it carries images

Errors are raised as ServingError and become statuses in `calls`; streams have a file of their own.
"""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from figment.v1 import image_service_pb2 as pb
from figment.v1.images_pb2 import LatentBatch
from server.arrays import Array, Arrays
from server.models.registry import Catalogue, LoadedModel
from server.rpc import codecs as pictures
from server.rpc import uploads
from server.rpc import validation as requests
from server.rpc.interceptor import Context
from server.rpc.interpolation import Latents, lerp, slerp
from server.rpc.limits import Limits
from server.rpc.noise import Sampler
from server.rpc.pipeline import Stages, timing
from server.rpc.protobuf_parts import joined, nested
from server.rpc.streaming import Streams
from server.rpc.validation import Labels
from server.scheduling.admission import Admission, Place

FLOAT_BYTES = 4


class ImageService:
    """The methods of figment.v1.ImageService; replies that carry images are returned serialised."""

    def __init__(
        self, catalogue: Catalogue, admission: Admission, stages: Stages, limits: Limits, streams: Streams
    ) -> None:
        self._catalogue = catalogue
        self._admission = admission
        self._stages = stages
        self._limits = limits
        self._streams = streams
        self._decoded = uploads.Room(limits.decoded_bytes)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> bytes:
        """Draw images."""
        model = self._catalogue.find(request.model, request.version)
        limit = self._limits.unary_images(model.image_bytes)
        drawing = requests.drawing(request, model, limit, beyond="; StreamGenerate gives more")
        with self._admission.admit(model.name, drawing.count, context.peer()) as place:
            return joined(await self._stages.draw(place, drawing))

    async def StreamGenerate(self, request_iterator: object, context: Context) -> None:
        """Answer many Generate requests on one stream."""
        await self._streams.serve(context)

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Map images to q(z|x)."""
        model = self._catalogue.find(request.model, request.version)
        limit = self._limits.unary_images(2 * FLOAT_BYTES * model.latent_dim)
        count, labels = self._upload(request, model, limit)
        with self._admission.admit(model.name, count, context.peer()) as place, self._held(request, model):
            images = await uploads.decode(request.images, model.manifest)
            outputs = await place.run(model.graphs["encoder"], {"images": images, **_labelled(labels)})
        return pb.EncodeResponse(
            mean=_latent_batch(outputs["mean"]),
            log_variance=_latent_batch(outputs["log_variance"]),
            timing=timing(place, 0.0),
            **_served_by(model),
        )

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> bytes:
        """Map latents to images."""
        model = self._catalogue.find(request.model, request.version)
        limit = self._limits.unary_images(model.image_bytes)
        latents = requests.latents_of("latents", request.latents, model, limit)
        labels = requests.labels_of("labels", request.labels, len(latents), model)
        image_format = pictures.check_format(request.format)
        with self._admission.admit(model.name, len(latents), context.peer()) as place:
            outputs = await _decode(place, model, latents, labels)
        images, encode_s = await self._stages.encode_beside(model, outputs, image_format)
        response = pb.DecodeResponse(timing=timing(place, encode_s), **_served_by(model))
        return joined(nested(response, "images", images))

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> bytes:
        """Map images to the images decoded from their means."""
        model = self._catalogue.find(request.model, request.version)
        count, labels = self._upload(request, model, self._limits.unary_images(model.image_bytes))
        image_format = pictures.check_format(request.format)
        with self._admission.admit(model.name, count, context.peer()) as place, self._held(request, model):
            uploaded = await uploads.decode(request.images, model.manifest)
            encoded = await place.run(model.graphs["encoder"], {"images": uploaded, **_labelled(labels)})
            outputs = await _decode(place, model, encoded["mean"], labels)
        batch, encode_s = await self._stages.encode_beside(model, outputs, image_format)
        response = pb.ReconstructResponse(timing=timing(place, encode_s), **_served_by(model))
        return joined(nested(response, "images", batch))

    async def Interpolate(self, request: pb.InterpolateRequest, context: Context) -> bytes:
        """Draw images along the way between two latents."""
        model = self._catalogue.find(request.model, request.version)
        limit = self._limits.unary_images(model.image_bytes + FLOAT_BYTES * model.latent_dim)
        requests.check_steps(request, limit)
        labels = requests.labels_of("label", [request.label] if request.HasField("label") else [], request.steps, model)
        given = [requests.check_endpoint(field, getattr(request, field), model) for field in ("start", "end")]
        image_format = pictures.check_format(request.format)
        with self._admission.admit(model.name, request.steps, context.peer()) as place:
            ends = [
                await _drawn_latent(place, model, end.seeded) if latent is None else latent
                for end, latent in zip((request.start, request.end), given, strict=True)
            ]
            between = slerp if request.method == pb.InterpolationMethod.INTERPOLATION_METHOD_SLERP else lerp
            latents = between(ends[0][0], ends[1][0], request.steps)
            outputs = await _decode(place, model, latents, labels)
        images, encode_s = await self._stages.encode_beside(model, outputs, image_format)
        response = pb.InterpolateResponse(
            latents=_latent_batch(latents), timing=timing(place, encode_s), **_served_by(model)
        )
        return joined(nested(response, "images", images))

    def _upload(
        self, request: pb.EncodeRequest | pb.ReconstructRequest, model: LoadedModel, limit: int
    ) -> tuple[int, Labels | None]:
        """The number of images of a request and their labels, checked."""
        requests.check_encoder(model)
        limit = min(limit, self._limits.uploaded_images(model.image_bytes))
        count = uploads.check_batch(request.images, model.manifest, limit)
        return count, requests.labels_of("labels", request.labels, count, model)

    def _held(
        self, request: pb.EncodeRequest | pb.ReconstructRequest, model: LoadedModel
    ) -> AbstractContextManager[None]:
        """Room for the pictures of a request that was checked."""
        return self._decoded.hold(uploads.decoded_bytes(request.images, model.manifest))


async def _decode(place: Place, model: LoadedModel, latents: Array, labels: Labels | None) -> Arrays:
    graph, name = model.decoder
    return await place.run(graph, {name: latents, **_labelled(labels)})


async def _drawn_latent(place: Place, model: LoadedModel, image: pb.SeededImage) -> Latents:
    """The latent (1, Z) that Generate draws an image from at truncation 1."""
    noise, _ = Sampler().sample(image.seed, image.index, 1, model.noise_dim, 0)
    if "prior" not in model.graphs:
        return noise
    outputs = await place.run(model.graphs["prior"], {"noise": noise})
    return outputs["latent"].astype(np.float32, copy=False)


def _labelled(labels: Labels | None) -> Arrays:
    return {} if labels is None else {"label": labels}


def _latent_batch(latents: Array) -> LatentBatch:
    count, dim = latents.shape
    return LatentBatch(count=count, dim=dim, values=latents.astype("<f4", copy=False).tobytes())


def _served_by(model: LoadedModel) -> dict[str, Any]:
    """Fields that every reply has."""
    return {"model": model.name, "version": model.version, "engine": model.engine}
