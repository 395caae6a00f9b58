"""Load every version of a folder of models into the engines.

    models folder -> [version folder -> read_bundle -> engine.load -> LoadedModel | reason] ... -> catalogue

A version that cannot be loaded is kept with its reason; the others are served.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from figment.v1.model_service_pb2 import VersionState, VersionStatus
from server.bundle import NAME, read_bundle
from server.catalogue import Catalogue, LoadedModel
from server.engine import Engine
from server.errors import BundleRefused
from server.metrics import Metrics
from server.variants import Choice

log = structlog.get_logger()


def load_all(folder: Path, variant: Choice, engines: Sequence[Engine], catalogue: Catalogue, metrics: Metrics) -> None:
    """Load all versions, each as the variant asked for, then open the catalogue. Blocks; for a thread."""
    for path in _versions(folder):
        name, version = path.parent.name, path.name
        catalogue.put(name, VersionStatus(version=version, state=VersionState.VERSION_STATE_LOADING))
        try:
            model, reason = _load(path, variant, engines), ""
        except (BundleRefused, OSError) as error:
            model, reason = None, str(error)
        if model:
            log.info("version loaded", model=name, version=version, variant=model.variant, engine=model.engine)
            facts = (name, version, model.manifest.family, engines[0].provider, model.variant)
            metrics.model_info.labels(*facts).set(1)
            metrics.expect(name)
            for measure, figure in model.manifest.quality.items():
                metrics.model_quality.labels(name, version, measure).set(figure)
        else:
            log.warning("version refused", model=name, version=version, reason=reason)
        state = VersionState.VERSION_STATE_READY if model else VersionState.VERSION_STATE_FAILED
        catalogue.put(name, VersionStatus(version=version, state=state, reason=reason), model)
        metrics.model_ready.labels(name, version).set(model is not None)
        metrics.model_loads.labels(name, "ok" if model else "failed").inc()
    catalogue.open()


def _versions(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob("*/*")):
        if path.is_dir() and re.fullmatch("[1-9][0-9]*", path.name) and NAME.fullmatch(path.parent.name):
            yield path


def _load(path: Path, variant: Choice, engines: Sequence[Engine]) -> LoadedModel:
    bundle = read_bundle(path, variant, engines[0].provider)
    for engine in engines:
        engine.load(bundle)
    return LoadedModel(bundle.manifest, engines[0].fingerprint(bundle), bundle.variant)
