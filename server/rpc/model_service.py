"""ModelService: what the registry knows, as messages."""

from figment.v1 import model_service_pb2 as pb
from figment.v1.model_service_pb2_grpc import ModelServiceServicer
from server.models.registry import ModelRegistry
from server.rpc.interceptor import Context
from server.rpc.limits import Limits


class ModelService(ModelServiceServicer):
    """Tells the models and their versions."""

    def __init__(self, registry: ModelRegistry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """All models by name, those that failed to load included."""
        return pb.ListModelsResponse(models=[self._summary(name) for name in self._registry.names])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """One version's manifest, the state of every version, and the limits."""
        model = self._registry[request.model, request.version]
        return pb.GetModelResponse(
            manifest=model.manifest,
            versions=self._registry.statuses(model.name),
            default_version=self._registry.default_version(model.name),
            limits=self._limits.message(model.image_bytes),
            engine=model.engine,
        )

    def _summary(self, name: str) -> pb.ModelSummary:
        return pb.ModelSummary(
            name=name,
            family=self._registry.family(name),
            default_version=self._registry.default_version(name),
            versions=self._registry.statuses(name),
        )
