"""How a server is set up: frozen, checked at birth, built once.

Flag `--batch.max-size` is the environment variable FIGMENT_BATCH__MAX_SIZE.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, PositiveFloat, model_validator

from figment.bundles import LossyVariant
from server.addresses import Address

MIB = 1024 * 1024

Choice = Literal["fp32", LossyVariant, "auto"]
"""What an operator may ask for; "auto" is the variant that is the fastest on the engine's provider."""


class BatchSettings(BaseModel, frozen=True, extra="forbid"):
    """How images are put together for the engine."""

    max_size: int = Field(64, ge=1, le=1024, description="images of one run of the engine at most")
    sizes: tuple[int, ...] = Field(
        (), description="sizes that batches are padded to, ascending; none on a CPU, powers of two on CUDA"
    )
    cuda_graphs: bool = Field(False, description="capture a run of each size once, and launch it as a whole: CUDA only")

    @model_validator(mode="after")
    def _sizes_reach_max_size(self) -> "BatchSettings":
        if self.sizes and (list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1):
            raise ValueError(f"sizes: got {self.sizes}, allowed are ascending numbers from 1")
        if self.sizes and self.sizes[-1] != self.max_size:
            raise ValueError(f"sizes: the last is {self.sizes[-1]}, it must be max_size, {self.max_size}")
        return self


class LimitSettings(BaseModel, frozen=True, extra="forbid"):
    """What one request may ask for."""

    queue_images: int = Field(8192, ge=1, description="images admitted at once, all requests together")
    model_queue_images: int | None = Field(
        None, ge=1, description="images admitted at once of one model; by default as many as of all"
    )
    unary_images: int = Field(1024, ge=1, description="images of one unary request")
    unary_bytes: int = Field(
        7 * MIB // 2, ge=1, description="raw bytes of one unary reply; gRPC clients refuse more than 4 MiB by default"
    )
    stream_images: int = Field(1_000_000, ge=1, description="images of one request on a stream")
    stream_chunk_bytes: int = Field(MIB, ge=1, description="raw bytes of images in one response on a stream")
    stream_requests: int = Field(64, ge=1, description="requests in flight on one stream")
    receive_bytes: int = Field(16 * MIB, ge=1024, description="bytes of one received message")
    received_bytes: int = Field(
        256 * MIB,
        ge=1024,
        description="bytes of all messages that are being received or are in use; one that is not here yet counts as the longest",
    )
    receive_s: float = Field(30.0, gt=0, description="seconds that one message may take to come")
    connection_calls: int = Field(
        64,
        ge=1,
        description="calls at once on one connection; more wait in their client, so that nobody waits behind a crowd",
    )
    connections: int = Field(1000, ge=1, description="connections at once to one gateway")

    @model_validator(mode="after")
    def _one_message_has_room(self) -> "LimitSettings":
        if self.received_bytes < self.receive_bytes:
            raise ValueError(
                f"received_bytes: got {self.received_bytes}, it must be at least receive_bytes, {self.receive_bytes}"
            )
        return self


class TraceSettings(BaseModel, frozen=True, extra="forbid"):
    """Who gets to see where the time of requests goes."""

    endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="collector that traces are sent to by OTLP over gRPC, such as http://127.0.0.1:4317",
    )
    ratio: float = Field(
        1.0, ge=0, le=1, description="part of the requests to trace, of those whose callers do not say"
    )


class ServerSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides how the server behaves."""

    models: Path = Field(Path("models"), description="folder of models that figment export wrote")
    variant: Choice = Field(
        "fp32", description="which graphs to serve; auto: for each model the fastest measured on the device, else fp32"
    )
    address: Address = Field("127.0.0.1:50051", description="host:port or [IPv6]:port of gRPC; port 0 = any free one")
    metrics_address: Address = Field(
        "127.0.0.1:9464", description="host:port or [IPv6]:port of /metrics and /healthz; port 0 = any free one"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?(,cuda:\d+)*)$",
        description="auto: cuda where there is a GPU, else cpu; cuda: fail where there is none; cuda:0,cuda:1: several",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of the engine; by default all that the process may use"
    )
    threads_per_run: int = Field(
        1, ge=1, description="CPU threads of one batch; more help large models where few requests come at a time"
    )
    shares: dict[str, PositiveFloat] = Field(
        {}, description="weights of models in the engine's time, 1 where not named: '{\"digits-gan\": 2}'"
    )
    gateways: int = Field(1, ge=1, le=64, description="processes that speak gRPC on one port")
    engines: Literal["auto", "own", "shared"] = Field(
        "auto",
        description="of several gateways: own: each has engines; shared: one more process has them; auto: own on a CPU",
    )
    drain_s: float = Field(
        30.0, ge=0, le=86_400, description="seconds that admitted requests have to finish after SIGTERM"
    )
    batch: BatchSettings = BatchSettings()
    limits: LimitSettings = LimitSettings()
    traces: TraceSettings = TraceSettings()
