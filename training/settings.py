"""What a training run is told: one frozen record, checked at birth and saved with the run.

Knows the names of families and presets, nothing of networks or losses.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

Family = Literal["vae", "gan", "hybrid"]
Preset = Literal["tiny", "small"]


class TrainSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides what a run produces, besides the code and the machine."""

    data: str = Field(description="digits, a folder of images, or a .parquet file with an image column")
    family: Family = Field(description="vae, gan or hybrid")
    out: Path = Field(description="run folder to write; must not hold a run already")
    size: int | None = Field(None, description="height and width in pixels; by default the images' own, if they agree")
    preset: Preset = Field("tiny", description="width of the networks")
    latent_dim: int = Field(16, ge=1, le=1024, description="entries of a latent vector")
    conditional: bool = Field(False, description="teach the networks the images' labels")
    images: int = Field(100_000, ge=1, description="training length: real images shown, repeats counted")
    batch: int = Field(32, ge=2, description="images a step")
    learning_rate: float = Field(1e-3, gt=0, description="at the start; falls to a tenth by a cosine")
    gamma: float = Field(0.5, ge=0, description="weight of the gradient penalties R1 and R2")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the images kept for evaluation")
    skip_broken: bool = Field(False, description="leave unreadable images out instead of stopping")
    seed: int = Field(0, ge=0, lt=2**63, description="decides the split, the weights and every random draw")
    threads: int = Field(1, ge=1, description="CPU threads of torch; one is fastest for tiny networks")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
