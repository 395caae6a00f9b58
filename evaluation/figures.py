"""The quality figures: key, wording, and how each is computed. All that computes, prints or documents figures reads this table.

    Outputs -> Figure.compute -> a number, or None where the figure does not apply to the model

A new figure is a row here, and a module for its computation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evaluation.colour import colour_histogram, sliced_wasserstein, thumbnail_rows, total_variation
from evaluation.latents import active_units, probe_accuracy
from evaluation.lattice import border, lattice
from evaluation.outputs import Outputs
from evaluation.pretrained import ALEXNET, EFFNET, Judge
from evaluation.reconstruction import psnr_db, ssim
from evaluation.spectrum import high_frequency_energy


class Figure(NamedTuple):
    """One quality figure.

    key       in quality.json, manifests and tables of the terminal
    title     in the report, with its unit
    better    which values are, in a few words
    digits    behind the point
    meaning   what it tells, in docs/quality.md
    """

    key: str
    title: str
    better: str
    digits: int
    compute: Callable[[Outputs], float | None]
    meaning: str

    def text(self, value: float | None) -> str:
        """The value as tables show it, a dash where there is none."""
        return "-" if value is None else f"{value:.{self.digits}f}"


def rows(figures: Iterable[Figure], values: Sequence[Mapping[str, float]]) -> list[tuple[Figure, list[str]]]:
    """Those of `figures` that any model has, with a cell for each model. values: by key, of each model."""
    return [
        (figure, [figure.text(each.get(figure.key)) for each in values])
        for figure in figures
        if any(figure.key in each for each in values)
    ]


def _detail(outputs: Outputs) -> float | None:
    """None where the real images have no such energy, as images of one grey."""
    real = high_frequency_energy(outputs.reference.held_out.images)
    return high_frequency_energy(outputs.drawn) / real if real else None


def _colour_histogram(outputs: Outputs) -> float | None:
    real = outputs.reference
    return total_variation(colour_histogram(outputs.drawn), real.colours) if real.is_colour else None


def _colour_swd(outputs: Outputs) -> float | None:
    real = outputs.reference
    return sliced_wasserstein(thumbnail_rows(outputs.drawn), real.thumbnails) if real.is_colour else None


def _lattice(outputs: Outputs, end: int) -> float | None:
    """end: 0 for the smallest ratio, 1 for the largest."""
    ratios = None if outputs.neighbours is None else lattice(outputs.neighbours, outputs.reference.neighbours)
    return None if ratios is None else ratios[end]


def _applied(function: Callable[..., float], arguments: tuple[Any, ...] | None) -> float | None:
    """`function` of `arguments`; None where the model does not give them."""
    return None if arguments is None else float(function(*arguments))


LATENT_STRUCTURE = "latent structure"
"""The group of figures that need more of a model than its samples."""

# fmt: off
FIGURES: dict[str, tuple[Figure, ...]] = {
    "fidelity": (
        Figure("fid", "FID", "lower", 3, lambda of: of.distances.get("fid"),
               "`fid_clf` by features of Inception weights, from a file that you give (`--inception`), in its place"),
        Figure("fid_clf", "Frechet distance, classifier", "lower", 3, lambda of: of.distances.get("fid_clf"),
               "Frechet distance of 10,000 samples to 10,000 training images, between the features of a classifier trained on "
               "the labels. Not FID: distances by other classifiers, of other hashes, cannot be compared"),
        Figure("frechet_random", "Frechet distance, random features", "lower", 5,
               lambda of: of.distances.get("frechet_random"),
               "the same between features of a network with fixed random weights, which needs no labels"),
        Figure("fd_effnet_lite0", "Frechet distance, EfficientNet-Lite0", "lower", 2,
               lambda of: of.judged(EFFNET, Judge.frechet),
               "the same between features of EfficientNet-Lite0, of colour pictures at 128x128, by weights that "
               "`figment[features]` brings: comparable from run to run, also of different labels"),
        Figure("fd_effnet_lite0_held_out", "Frechet distance to held-out images, EfficientNet-Lite0", "lower", 2,
               lambda of: of.judged(EFFNET, Judge.frechet_held_out),
               "the same to test images; the fewer there are, the larger it is"),
        Figure("kid_effnet_lite0", "kernel distance, EfficientNet-Lite0", "lower", 5,
               lambda of: of.judged(EFFNET, Judge.kernel),
               "unbiased kernel distance between these features (Binkowski et al. 2018), whatever the number of samples"),
        Figure("fd_alexnet", "Frechet distance, AlexNet", "lower", 4, lambda of: of.judged(ALEXNET, Judge.frechet),
               "a second opinion: by a network of another family, where a discriminator saw through EfficientNet "
               "(shift-tolerant LPIPS, Ghildyal and Liu 2022, at 64x64)"),
        Figure("fd_alexnet_held_out", "Frechet distance to held-out images, AlexNet", "lower", 4,
               lambda of: of.judged(ALEXNET, Judge.frechet_held_out), "the same to test images"),
        Figure("precision", "precision", "higher", 3, lambda of: of.prdc.precision,
               "share of samples near real images (Kynkaanniemi et al. 2019)"),
        Figure("density", "density", "about 1", 3, lambda of: of.prdc.density,
               "how many real images samples are near (Naeem et al. 2020); about 1 of a perfect sampler"),
    ),
    "diversity": (
        Figure("recall", "recall", "higher", 3, lambda of: of.prdc.recall,
               "share of real images near samples, by the samples' neighbourhoods"),
        Figure("coverage", "coverage", "higher", 3, lambda of: of.prdc.coverage,
               "share of real images near samples, by the real images' neighbourhoods"),
        Figure("classes_missing", "classes missing", "0", 0,
               lambda of: None if of.class_histogram is None else float(len(of.class_histogram.missing)),
               "classes of the data that no sample is of, by the classifier"),
        Figure("class_kl_nats", "KL of the classes, nats", "lower", 4,
               lambda of: None if of.class_histogram is None else of.class_histogram.kl_nats,
               "KL divergence of the classes of samples from those of the data"),
        Figure("authenticity", "authenticity", "as held-out's", 3,
               lambda of: None if of.nearest is None else of.nearest.authenticity,
               "share of samples farther from the nearest training image than another training image is from that (Alaa et al. "
               "2022), by pixels at 32x32, shifted and mirrored: lower than that of held-out images, it copies"),
        Figure("authenticity_held_out", "authenticity of held-out images", "", 3,
               lambda of: of.reference.held_out_nearest.authenticity if of.reference.is_colour else None,
               "the same of test images: what a model reaches that does not copy"),
    ),
    "classes asked for": (
        Figure("label_accuracy", "samples of the class asked for", "as held-out's", 3, lambda of: of.label_accuracy,
               "of a conditional model, share of samples that the classifier, trained on real images only, names by the label "
               "that was asked for"),
        Figure("label_accuracy_held_out", "held-out images of their class", "", 3,
               lambda of: of.reference.held_out_accuracy if of.is_asked_for_classes else None,
               "the same of test images by their labels, which tells how far the classifier is right"),
        Figure("cas", "classification accuracy score", "as by real images", 3, lambda of: of.accuracy_score,
               "accuracy on test images of a classifier trained on samples alone, by the labels asked for (Ravuri and Vinyals "
               "2019): low where classes are mixed up, or samples of one are too much alike"),
        Figure("cas_real", "classification accuracy score, real images", "", 3,
               lambda of: of.reference.sample_score if of.is_asked_for_classes else None,
               "the same of a classifier trained on as many training images"),
    ),
    "colour": (
        Figure("colour_histogram", "colours, total variation", "lower", 3, _colour_histogram,
               "total variation between the joint histograms of red, green and blue, 8 levels each, of all pixels"),
        Figure("colour_swd", "colours by place, sliced Wasserstein", "lower", 4, _colour_swd,
               "sliced Wasserstein-1 distance of pictures averaged down to 8x8 in [0, 1], over 256 directions"),
    ),
    "blur": (
        Figure("detail", "energy above 0.25 cycles/pixel, by the real images'", "1", 3, _detail,
               "spectral energy above 0.25 cycles a pixel, samples by test images: the blur"),
    ),
    "artefacts": (
        Figure("lattice_low", "neighbours' energy by pixel phase, least", "1", 3, lambda of: _lattice(of, 0),
               "squared differences of neighbouring pixels, samples by training images, at the phase modulo 8 where that is "
               "least: blur, or a lattice of upsampling"),
        Figure("lattice_high", "neighbours' energy by pixel phase, most", "1", 3, lambda of: _lattice(of, 1),
               "the same at the phase where it is most: noise, or a lattice of upsampling"),
        Figure("border", "neighbours' energy along the border", "1", 3,
               lambda of: None if of.neighbours is None else border(of.neighbours, of.reference.neighbours),
               "the same of the outermost pixels"),
    ),
    LATENT_STRUCTURE: (
        Figure("reconstruction_psnr_db", "reconstructions, PSNR in dB", "higher", 2,
               lambda of: _applied(psnr_db, of.reconstructions),
               "how near reconstructions of test images come to them, by grey levels"),
        Figure("reconstruction_ssim", "reconstructions, SSIM", "higher", 3, lambda of: _applied(ssim, of.reconstructions),
               "how near they come by structure (Wang et al. 2004)"),
        Figure("probe_accuracy", "labels by a linear probe, accuracy", "higher", 3,
               lambda of: _applied(probe_accuracy, of.labelled_latents),
               "accuracy of a linear classifier of the latents: the structure of the latent space"),
        Figure("active_units", "active latent units", "", 0, lambda of: _applied(active_units, of.posterior),
               "entries of the latent that tell images apart (Burda et al. 2016)"),
        Figure("iwae_nats", "bound on log p(x), nats", "higher", 2, lambda of: of.bound_nats,
               "bound on log p(x) (Burda et al. 2016), where `--iwae-draws` asks for it"),
        Figure("interpolation_detour", "interpolation: way by its chord", "lower", 3,
               lambda of: of.path_smoothness.arc_chord_ratio,
               "length of a path through the latent space, seen in features, by the distance of its ends; at least 1"),
        Figure("interpolation_jump", "interpolation: largest step by the mean one", "lower", 3,
               lambda of: of.path_smoothness.largest_step_ratio,
               "largest step of such a path by its mean one; at least 1"),
    ),
}
# fmt: on
"""Figures by the group that reports show them in."""
