"""Load the versions of a folder of models into the engines.

    plan -> [version folder -> read_bundle -> engine.load -> LoadedModel | reason] ... -> registry

A version that cannot be loaded is kept with its reason; the others are served.
"""

from collections.abc import Sequence
from pathlib import Path

import structlog

from figment.v1.model_service_pb2 import VersionState, VersionStatus
from server.errors import BundleRefused, CannotStart
from server.models.bundle import read_bundle
from server.models.load_plan import LoadPlan, Version
from server.models.registry import LoadedModel, ModelRegistry
from server.runtime.engine import Engine
from server.settings import Choice
from server.telemetry.metrics import Metrics

log = structlog.get_logger()


def load_all(
    folder: Path, plan: LoadPlan, variant: Choice, engines: Sequence[Engine], registry: ModelRegistry, metrics: Metrics
) -> None:
    """Load all versions, each as the variant asked for, then open the registry. Blocks; for a thread.

    Raises: CannotStart, if what was served before cannot be.
    """
    lost: list[str] = []
    registry.nothing = plan.nothing
    for planned in plan.versions:
        name, version = planned.name, planned.version
        registry.put(name, VersionStatus(version=version, state=VersionState.VERSION_STATE_LOADING))
        try:
            model, reason = _load(folder / name / version, planned, variant, engines), ""
        except BundleRefused as error:
            model, reason = None, str(error)
        except OSError as error:
            file = Path(str(error.filename or folder)).name
            model, reason = None, f"{file} cannot be read: {error.strerror or error}"
        except Exception as error:
            # Whatever else a damaged folder leads to, a lack of memory included, the other versions are served.
            log.exception("bug: a version was not loaded", model=name, version=version)
            model, reason = None, f"cannot be loaded: {type(error).__name__}: {str(error)[:200]}"
        if model:
            log.info("version loaded", model=name, version=version, variant=model.variant, engine=model.engine)
            facts = (name, version, model.manifest.family, engines[0].provider, model.variant)
            metrics.model_info.labels(*facts).set(1)
            metrics.expect(name)
            for measure, figure in model.manifest.quality.items():
                metrics.model_quality.labels(name, version, measure).set(figure)
        else:
            log.warning("version refused", model=name, version=version, reason=reason)
            if planned.engine:
                lost.append(f"{name} {version}: {reason}")
        state = VersionState.VERSION_STATE_READY if model else VersionState.VERSION_STATE_FAILED
        registry.put(name, VersionStatus(version=version, state=state, reason=reason), model)
        metrics.model_ready.labels(name, version).set(model is not None)
        metrics.model_loads.labels(name, "ok" if model else "failed").inc(1)
    if plan.is_again and (lost or registry.problem()):
        raise CannotStart(f"cannot serve what this server serves: {'; '.join(lost) or registry.problem()}")
    registry.open()


def loaded(registry: ModelRegistry) -> tuple[Version, ...]:
    """What a registry holds, as others are told to load it."""
    return tuple(
        Version(name=name, version=status.version, engine=model.engine if model else "", refusal=status.reason)
        for name, status, model in registry.versions()
    )


def _load(path: Path, planned: Version, variant: Choice, engines: Sequence[Engine]) -> LoadedModel:
    if planned.refusal:
        raise BundleRefused(planned.refusal)
    if not path.exists():
        raise BundleRefused("its folder is gone since the server started")
    bundle = read_bundle(path, variant, engines[0].provider)
    engine = engines[0].fingerprint(bundle)
    if planned.engine not in ("", engine):
        raise BundleRefused(
            f"its folder was replaced: it holds engine {engine}, this server serves {planned.engine}: put that one back, "
            "or start the server again (figment export publishes a new version beside the old one)"
        )
    for each in engines:
        each.load(bundle)
    return LoadedModel(bundle.manifest, engine, bundle.variant)
