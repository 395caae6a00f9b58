"""What is served: versions, variants, readiness, quality, cost."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.frame import framed
from deploy.grafana.panels import Panel, lines, rows, states
from deploy.grafana.queries import MODEL, rate, total

READY = {"0": ("not ready", "red"), "1": ("ready", "green")}


def dashboard() -> Dashboard:
    """The dashboard figment-models."""
    about = (
        "Versions and variants that are served, whether they are ready, how good their images are and what they cost."
    )
    return framed("models", "Models", about, {"Served": _served(), "Readiness": _readiness(), "Use and cost": _use()})


def _served() -> list[Panel]:
    return [
        rows(
            "Versions",
            "none",
            "Versions that can be used: family, execution provider and variant, by replica.",
            "A row is missing: the version was refused; `figment models` says why. Replicas that differ have another "
            "models folder or another --variant, and draw other images for equal seeds.",
            {"": f"figment_model_info{{{MODEL}}}"},
            columns={name: name for name in ("model", "version", "family", "variant", "provider", "instance")},
            width=12,
        ),
        rows(
            "Quality",
            "none",
            "What the export measured: Frechet distances to the real images (lower is better) by random and by classifier "
            "features, and the PSNR of reconstructions in dB (higher is better).",
            "High distance or low PSNR beside the version before: `figment export --evaluate` again, or train longer.",
            {
                measure: f'max by (model, version) (figment_model_quality{{{MODEL},measure="{measure}"}})'
                for measure in ("frechet_random", "fid_clf", "reconstruction_psnr_db")
            },
            columns={
                "model": "model",
                "version": "version",
                "Value #A": "Frechet, random",
                "Value #B": "Frechet, classifier",
                "Value #C": "PSNR, dB",
            },
            width=12,
        ).decimals(2),
    ]


def _readiness() -> list[Panel]:
    return [
        states(
            "Readiness",
            "none",
            "Whether each version can be used, on each replica.",
            "Red: `figment models` tells the reason; see FigmentModelNotReady and FigmentVersionStuck in docs/runbooks.md.",
            {
                "{{model}}/{{version}} {{instance}}": f"max by (model, version, instance) (figment_model_ready{{{MODEL}}})"
            },
            READY,
            width=16,
        ),
        lines(
            "Loads",
            "none",
            "Attempts to load versions since the servers started, by outcome.",
            "High at failed: a bundle is damaged, too new or lacks the variant; the log line `version refused` says which.",
            {"{{model}} {{outcome}}": f"sum by (model, outcome) (figment_model_loads_total{{{MODEL}}})"},
            width=8,
        ),
    ]


def _use() -> list[Panel]:
    seconds = total(rate("figment_stage_seconds_sum", f'{MODEL},stage="infer"'), "model")
    rows_computed = total(rate("figment_batch_images_sum"), "model")
    return [
        lines(
            "Images",
            "suffix: images/s",
            "Images computed for requests, a second.",
            "Low or nothing: nobody asks for the model; it costs memory all the same.",
            {"{{model}}": total(rate("figment_images_total"), "model")},
            width=8,
        ),
        lines(
            "Time an image",
            "s",
            "Time of runs by the images or latents in them.",
            "High: `figment export --tune` looks for a quicker variant, `--variant auto` serves it.",
            {"{{model}}": f"{seconds} / {rows_computed}"},
            width=8,
        ),
        lines(
            "Share of the engines' time",
            "percentunit",
            "How the time that goes into runs is divided between models.",
            "High for one model while others wait: --shares gives models weights.",
            {"{{model}}": f"{seconds} / ignoring (model) group_left () sum({seconds})"},
            width=8,
            stacked=True,
            most=1,
        ),
    ]
