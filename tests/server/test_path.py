"""The path of a request is short, and the page that shows it, `ImageService.Generate`, names every file on it."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import grpc

import server
from figment.v1.image_service_pb2 import GenerateRequest
from figment.v1.image_service_pb2_grpc import ImageServiceStub
from server.rpc.image_service import ImageService
from tests.fakes.servers import running_server

SERVER = Path(server.__file__).parent
MOST_FILES = 10
REQUESTS = 5
"""What other tasks of the server do once a second is not between all of their beginnings and ends."""


@contextmanager
def files_called() -> Iterator[set[str]]:
    """The files of the server of which a function has been called, by threads that are started in the block."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(str(SERVER)):
            files.add(Path(name).relative_to(SERVER).with_suffix("").as_posix())

    threading.setprofile(note)
    try:
        yield files
    finally:
        threading.setprofile(None)


def test_a_request_crosses_few_files_and_its_page_names_them(models: Path):
    request = GenerateRequest(model="labelled-gan", seed=3, count=4)
    with files_called() as files, running_server(models) as app, grpc.insecure_channel(app.address) as channel:
        stub = ImageServiceStub(channel)
        stub.Generate(request)
        crossed: list[set[str]] = []
        for _ in range(REQUESTS):
            files.clear()
            stub.Generate(request)
            crossed.append(set(files))
    path = set.intersection(*crossed)
    page = ImageService.Generate.__doc__ or ""
    assert path == set(re.findall(r"\b(?:rpc|scheduling|runtime|models|telemetry)/\w+", page))
    assert len(path) <= MOST_FILES
