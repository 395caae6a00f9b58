"""The gateway's end of a link to the engines: what is submitted when they are gone, have changed, or memory has ended."""

import asyncio
import os
from collections.abc import Iterator

import numpy as np
import pytest

from figment.v1.manifest_pb2 import Graph as ManifestGraph
from figment.v1.manifest_pb2 import Manifest
from figment.v1.model_service_pb2 import GetModelResponse, VersionState, VersionStatus
from server import allocation as room
from server.arrays import Arrays
from server.errors import Rejected, ServingError, Unavailable
from server.models.registry import LoadedModel, ModelRegistry
from server.processes.engine_client import EngineClient
from server.processes.ipc import VERSION, Kind
from server.processes.shared_memory import STEP_BYTES, SharedMemoryPool, make_shared_memory

Outcome = Arrays | ServingError


class Link(EngineClient):
    """A link whose engines say what a test has them say; `records` are what they hear."""

    def __init__(self, descriptor: int) -> None:
        self.registry = ModelRegistry()
        self.records: list[Kind] = []
        super().__init__(0, SharedMemoryPool(descriptor), self.registry, lambda: None, lambda: None)

    def send(self, kind: Kind, payload: bytes) -> None:
        self.records.append(kind)

    def connect(self, *versions: tuple[str, str]) -> None:
        """The engines serve these versions of `vae`, each with its fingerprint."""
        self.connection_made(None)
        for version, engine in versions:
            manifest = Manifest(name="vae", version=version, height=8, width=8, channels=1, noise_dim=4, latent_dim=4)
            manifest.graphs["generator.onnx"].CopyFrom(ManifestGraph(role="generator", variant="fp32"))
            status = VersionStatus(version=version, state=VersionState.VERSION_STATE_READY)
            told = GetModelResponse(manifest=manifest, versions=[status], engine=engine)
            self.receive(Kind.VERSION, VERSION.pack(b"fp32") + told.SerializeToString())
        self.receive(Kind.READY, b"")

    async def outcome(self, model: LoadedModel, rows: int = 1) -> Outcome | None:
        """How a request ends that nobody answers, or None if it was sent."""
        outcomes: list[Outcome] = []
        inputs: Arrays = {"noise": np.zeros((rows, 4), np.float32)}
        self.submit(
            model.graphs["generator"],
            inputs,
            "caller",
            lambda request: outcomes.append(request.error or request.outputs),
        )
        assert not outcomes, "told before its caller knows of it"
        await asyncio.sleep(0)
        return outcomes[0] if outcomes else None


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = make_shared_memory(64 * STEP_BYTES)
    yield descriptor
    os.close(descriptor)


async def test_a_version_that_has_changed_is_not_run_for_who_found_the_old_one(descriptor: int):
    link = Link(descriptor)
    link.connect(("1", "old"), ("2", "same"))
    old, same = link.registry["vae", "1"], link.registry["vae", "2"]
    assert await link.outcome(old) is None
    link.connection_lost(None)
    ended = await link.outcome(old)
    assert isinstance(ended, Unavailable)
    assert "is started again" in str(ended)
    link.connect(("1", "new"), ("2", "same"))
    ended = await link.outcome(old)
    assert isinstance(ended, Unavailable)
    assert str(ended).startswith("vae 1: engine old is not served any more")
    assert await link.outcome(same) is None
    assert await link.outcome(link.registry["vae", "1"]) is None


async def test_a_version_that_is_gone_ends_a_request_for_it_as_unavailable(descriptor: int):
    link = Link(descriptor)
    link.connect(("1", "one"), ("2", "two"))
    gone = link.registry["vae", "2"]
    link.connection_lost(None)
    link.connect(("1", "one"))
    assert isinstance(await link.outcome(gone), Unavailable)


async def test_a_request_that_no_memory_is_left_for_is_refused_and_the_next_ones_are_tried(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
):
    link = Link(descriptor)
    link.connect(("1", "one"))
    model = link.registry["vae", ""]

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(room.os, "pwrite", full)
        refused = await link.outcome(model)
        assert isinstance(refused, Rejected)
        assert "no memory for more images" in str(refused)
    assert link.records == [Kind.HELLO]
    assert await link.outcome(model) is None
    assert link.records[-1] is Kind.SUBMIT
