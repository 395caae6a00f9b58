"""Mixed traffic for a server, so that every panel of its dashboards moves: `python traffic.py HOST:PORT`.

    models of the server -> callers in threads: drawing, streaming, encoding, failing, giving up, flooding

Each pass of a caller is a call or two and a pause; what the server refuses is part of the traffic.
"""

import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from figment.v1 import image_service_pb2 as pb
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from figment.v1.images_pb2 import IMAGE_FORMAT_JPEG, IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP
from figment_client import Client
from figment_client.errors import FigmentError
from figment_client.models import Model

ALIVE = Path("/tmp/alive")  # noqa: S108  # a file system of the container's own
CHANCE = random.Random()  # noqa: S311  # traffic, not secrets
FORMATS = (IMAGE_FORMAT_PNG, IMAGE_FORMAT_JPEG, IMAGE_FORMAT_WEBP)
PAUSE_S = 0.05
FLOOD_PAUSE_S = 45.0
FLOOD_REQUESTS = 12

Caller = Callable[[Client, ImageServiceStub, Model], None]


def draw(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """One image, a few, now and then many."""
    client.generate(model.name, CHANCE.choices([1, 4, 16, 200], [60, 25, 14, 1])[0])


def draw_files(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """Pictures as PNG, JPEG and WebP, which the server encodes."""
    stub.Generate(pb.GenerateRequest(model=model.name, count=4, format=CHANCE.choice(FORMATS)), timeout=10)


def stream(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """A thousand images, piece by piece."""
    for _ in client.stream(model.name, 1000, timeout_s=30):
        pass
    time.sleep(2)


def encode(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """Round trips through the latent space."""
    images = client.generate(model.name, 8)
    client.interpolate(model.name, start=1, end=2, steps=8)
    client.reconstruct(model.name, images)
    client.decode(model.name, client.encode(model.name, images).mean)


def fail(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """A model that is not there, a count that is not allowed."""
    for request in (pb.GenerateRequest(model="nobody", count=1), pb.GenerateRequest(model=model.name, count=0)):
        try:
            stub.Generate(request, timeout=5)
        except grpc.RpcError:
            time.sleep(2)


def give_up(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """A deadline that is too short, and a call that is cancelled."""
    request = pb.GenerateRequest(model=model.name, count=1024)
    try:
        stub.Generate(request, timeout=0.005)
    except grpc.RpcError:
        time.sleep(1)
    many = pb.StreamGenerateRequest(
        id="many", request=pb.GenerateRequest(model=model.name, count=100_000), timeout_s=0.1
    )
    replies = stub.StreamGenerate(iter([many, many]), timeout=30)
    next(replies)
    replies.cancel()
    time.sleep(2)


def flood(client: Client, stub: ImageServiceStub, model: Model) -> None:
    """More at once than the queue holds."""
    request = pb.GenerateRequest(model=model.name, count=1024)
    for call in [stub.Generate.future(request, timeout=30) for _ in range(FLOOD_REQUESTS)]:
        call.exception()
    time.sleep(FLOOD_PAUSE_S)


def call_on(caller: Caller, address: str, is_about: Callable[[Model], bool]) -> None:
    """The life of a thread: the caller again and again, about models of its choice."""
    with Client(address, timeout_s=30) as client, grpc.insecure_channel(address) as channel:
        stub = ImageServiceStub(channel)
        while True:
            try:
                caller(client, stub, CHANCE.choice([model for model in client.models() if is_about(model)]))
                ALIVE.touch()
            except (FigmentError, grpc.RpcError) as refused:
                reason = refused.details() if isinstance(refused, grpc.Call) else refused
                print(f"{caller.__name__}: {reason}", flush=True)
                time.sleep(1)
            time.sleep(PAUSE_S)


def main(address: str) -> None:
    """Call until the process ends."""
    for caller in (draw, draw, draw_files, stream, encode, fail, give_up, flood):
        encodes = caller is encode
        about = (lambda model: model.family in ("vae", "hybrid")) if encodes else (lambda model: True)
        threading.Thread(target=call_on, args=(caller, address, about), name=caller.__name__, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
