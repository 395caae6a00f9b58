"""ImageService: each method finds the model, checks the request, reserves room, runs graphs and replies.

    message -> registry -> validation -> admission -> [uploads] -> pipeline: sample, run, encode -> reply

Errors are raised as ServingError and become statuses in `interceptor`; a method that carries images returns its reply
serialised. Streams have a file of their own.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from google.protobuf.message import Message

from figment.v1 import image_service_pb2 as pb
from figment.v1.images_pb2 import LatentBatch
from server.arrays import Array, Arrays
from server.models.registry import LoadedModel
from server.rpc import uploads, validation
from server.rpc.interceptor import Context
from server.rpc.interpolation import Latents, lerp, slerp
from server.rpc.noise import Sampler
from server.rpc.pipeline import Services, timing, with_images
from server.rpc.protobuf_parts import joined
from server.rpc.streaming import Streams
from server.rpc.validation import Labels
from server.scheduling.request import Request

FLOAT_BYTES = 4


class ImageService:
    """The methods of figment.v1.ImageService."""

    def __init__(self, services: Services, streams: Streams) -> None:
        self._registry, self._admission, self._pipeline = services.registry, services.admission, services.pipeline
        self._limits = services.limits
        self._streams = streams
        self._decoded = uploads.Room(services.limits.settings.received_bytes)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> bytes:
        """Draw images: the path of a request on one page.

        These files it passes, where its model and number of images were seen before: rpc/interceptor, which calls this,
        and rpc/receiving, where its message had room; rpc/image_service; rpc/validation; scheduling/admission;
        rpc/pipeline, which samples by rpc/noise; scheduling/batcher and scheduling/fair_queue, from which a worker
        thread takes it into a run of runtime/sessions; and back by batcher, pipeline and interceptor.
        """
        model = self._registry[request.model, request.version]
        limit = self._limits.unary_images(model.image_bytes)
        params = validation.generate_params(request, model, limit, beyond="; StreamGenerate gives more")
        with self._admission.reserve(model.name, params.count):
            inputs = await self._pipeline.sample(params)
            run = await self._pipeline.run(model.graphs["generator"], inputs, context.peer())
            images, encode_s = await self._pipeline.encode(model, run, params.image_format)
        reply = self._pipeline.generate_response(params, params.first_index, inputs, run, images, encode_s)
        return joined(reply)

    async def StreamGenerate(self, request_iterator: object, context: Context) -> None:
        """Answer many Generate requests on one stream."""
        await self._streams.serve(context)

    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Map images to q(z|x)."""
        model = self._registry[request.model, request.version]
        limit = self._limits.unary_images(2 * FLOAT_BYTES * model.manifest.latent_dim)
        count, labels = self._upload(request, model, limit)
        with self._admission.reserve(model.name, count), self._held(request, model):
            images = await uploads.decode(request.images, model.manifest)
            inputs = {"images": images, **_labelled(labels)}
            run = await self._pipeline.run(model.graphs["encoder"], inputs, context.peer())
        return pb.EncodeResponse(
            mean=_latent_batch(run.outputs["mean"]),
            log_variance=_latent_batch(run.outputs["log_variance"]),
            timing=timing(run),
            **_served_by(model),
        )

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> bytes:
        """Map latents to images."""
        model = self._registry[request.model, request.version]
        limit = self._limits.unary_images(model.image_bytes)
        latents = validation.latents_of("latents", request.latents, model, limit)
        labels = validation.labels_of("labels", request.labels, len(latents), model)
        image_format = validation.check_format(request.format)
        with self._admission.reserve(model.name, len(latents)):
            run = await self._decode(model, latents, labels, context)
        return await self._reply(pb.DecodeResponse, model, image_format, [run])

    async def Reconstruct(self, request: pb.ReconstructRequest, context: Context) -> bytes:
        """Map images to the images decoded from their means."""
        model = self._registry[request.model, request.version]
        count, labels = self._upload(request, model, self._limits.unary_images(model.image_bytes))
        image_format = validation.check_format(request.format)
        with self._admission.reserve(model.name, count), self._held(request, model):
            images = await uploads.decode(request.images, model.manifest)
            inputs = {"images": images, **_labelled(labels)}
            encoded = await self._pipeline.run(model.graphs["encoder"], inputs, context.peer())
            decoded = await self._decode(model, encoded.outputs["mean"], labels, context)
        return await self._reply(pb.ReconstructResponse, model, image_format, [encoded, decoded])

    async def Interpolate(self, request: pb.InterpolateRequest, context: Context) -> bytes:
        """Draw images along the way between two latents."""
        model = self._registry[request.model, request.version]
        limit = self._limits.unary_images(model.image_bytes + FLOAT_BYTES * model.manifest.latent_dim)
        validation.check_steps(request, limit)
        label = [request.label] if request.HasField("label") else []
        labels = validation.labels_of("label", label, request.steps, model)
        latents_sent = [validation.check_endpoint(field, getattr(request, field), model) for field in ("start", "end")]
        image_format = validation.check_format(request.format)
        runs: list[Request] = []
        with self._admission.reserve(model.name, request.steps):
            start, end = [
                await self._latent_of(endpoint.seeded, labels, model, context, runs) if latent is None else latent
                for endpoint, latent in zip((request.start, request.end), latents_sent, strict=True)
            ]
            between = slerp if request.method == pb.InterpolationMethod.INTERPOLATION_METHOD_SLERP else lerp
            latents = between(start[0], end[0], request.steps)
            runs.append(await self._decode(model, latents, labels, context))
        return await self._reply(pb.InterpolateResponse, model, image_format, runs, latents=_latent_batch(latents))

    def _upload(
        self, request: pb.EncodeRequest | pb.ReconstructRequest, model: LoadedModel, limit: int
    ) -> tuple[int, Labels | None]:
        """The number of images of a request and their labels, checked."""
        validation.check_encoder(model)
        limit = min(limit, self._limits.uploaded_images(model.image_bytes))
        count = uploads.check_batch(request.images, model.manifest, limit)
        return count, validation.labels_of("labels", request.labels, count, model)

    def _held(
        self, request: pb.EncodeRequest | pb.ReconstructRequest, model: LoadedModel
    ) -> AbstractContextManager[None]:
        """Room for the pictures of a request that was checked."""
        return self._decoded.hold(uploads.decoded_bytes(request.images, model.manifest))

    async def _decode(self, model: LoadedModel, latents: Array, labels: Labels | None, context: Context) -> Request:
        graph, name = model.decoder
        return await self._pipeline.run(graph, {name: latents, **_labelled(labels)}, context.peer())

    async def _latent_of(
        self, image: pb.SeededImage, labels: Labels | None, model: LoadedModel, context: Context, runs: list[Request]
    ) -> Latents:
        """The latent (1, Z) that Generate draws an image from at truncation 1; a run that it takes is added to `runs`."""
        noise, _ = Sampler().sample(image.seed, image.index, 1, model.manifest.noise_dim, 0)
        if "prior" not in model.graphs:
            return noise
        inputs = {"noise": noise, **_labelled(None if labels is None else labels[:1])}
        runs.append(await self._pipeline.run(model.graphs["prior"], inputs, context.peer()))
        return runs[-1].outputs["latent"].astype(np.float32, copy=False)

    async def _reply(
        self, kind: Callable[..., Message], model: LoadedModel, image_format: int, runs: list[Request], **fields: Any
    ) -> bytes:
        """A reply of a kind with the images of the last of `runs`."""
        images, encode_s = await self._pipeline.encode(model, runs[-1], image_format)
        reply = kind(timing=timing(*runs, encode_s=encode_s), **_served_by(model), **fields)
        return joined(with_images(reply, images))


def _labelled(labels: Labels | None) -> Arrays:
    return {} if labels is None else {"label": labels}


def _latent_batch(latents: Array) -> LatentBatch:
    count, dim = latents.shape
    return LatentBatch(count=count, dim=dim, values=latents.astype("<f4", copy=False).tobytes())


def _served_by(model: LoadedModel) -> dict[str, Any]:
    """Fields that every reply has."""
    return {"model": model.name, "version": model.version, "engine": model.engine}
