"""What averaged weights lack to be a model that draws: batch norms' statistics, the mixture, the variance of pixels.

averaged model, images -> calibrated -> mixture -> variance, or how well an inverse does -> Model on the CPU
"""

from training.calibration import calibrate
from training.data import ImageSet
from training.errors import Diverged
from training.families import family
from training.inversion import reconstruction_psnr_db
from training.likelihood import LIKELIHOODS
from training.model import Model
from training.posterior import fit_mixture, pixel_variance
from training.settings import TrainSettings


def complete(model: Model, images: ImageSet, held_out: ImageSet, settings: TrainSettings, step: int) -> Model:
    """Give `model`, whose weights are those after `step`, what it lacks. Raises: Diverged, if a number in it is not finite."""
    calibrate(model, images, settings.seed)
    if family(settings.family).has_encoder:
        if model.mixture is None:
            model.set_mixture(fit_mixture(model, images, settings))
        if LIKELIHOODS[settings.likelihood].has_variance:
            model.variance.copy_(pixel_variance(model, images, settings))
    if bad := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise Diverged.with_advice(f"step {step}: {bad[0]} is not finite after it", settings)
    if model.is_inverted:
        model.inverse_psnr_db = reconstruction_psnr_db(model, held_out)
    return model.to("cpu")
