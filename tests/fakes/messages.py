"""Arrays as messages and messages as arrays, the long way round, by protobuf alone."""

import numpy as np

from figment.v1 import image_service_pb2 as pb
from figment.v1.images_pb2 import ImageBatch, ImageFormat, LatentBatch

RAW = ImageFormat.IMAGE_FORMAT_RAW


def pixels(reply: pb.GenerateResponse | pb.DecodeResponse) -> np.ndarray:
    batch = reply.images
    return np.frombuffer(batch.data[0], np.uint8).reshape(batch.count, batch.height, batch.width, batch.channels)


def upload(images: np.ndarray) -> ImageBatch:
    return ImageBatch(format=RAW, count=len(images), data=[images.tobytes()])


def latents(batch: LatentBatch) -> np.ndarray:
    return np.frombuffer(batch.values, "<f4").reshape(batch.count, batch.dim)


def latent_batch(values: np.ndarray) -> LatentBatch:
    return LatentBatch(count=len(values), dim=values.shape[1], values=values.astype("<f4").tobytes())


def seeded(seed: int, index: int = 0) -> pb.Endpoint:
    return pb.Endpoint(seeded=pb.SeededImage(seed=seed, index=index))
