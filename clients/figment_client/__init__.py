"""Images drawn by a Figment server.

    with Client("127.0.0.1:50051") as client:
        client.generate("digits-vae", 16, seed=7).save("sheet.png")

Names are imported on first use, so that `figment_client.images` can be had without gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from figment_client.client import Client as Client
    from figment_client.errors import Cancelled as Cancelled
    from figment_client.errors import DeadlineExceeded as DeadlineExceeded
    from figment_client.errors import Exhausted as Exhausted
    from figment_client.errors import FailedPrecondition as FailedPrecondition
    from figment_client.errors import FigmentError as FigmentError
    from figment_client.errors import Internal as Internal
    from figment_client.errors import InvalidArgument as InvalidArgument
    from figment_client.errors import NotFound as NotFound
    from figment_client.errors import PermissionDenied as PermissionDenied
    from figment_client.errors import Unauthenticated as Unauthenticated
    from figment_client.errors import Unavailable as Unavailable
    from figment_client.errors import Unimplemented as Unimplemented
    from figment_client.images import Images as Images
    from figment_client.images import Timing as Timing
    from figment_client.models import Model as Model
    from figment_client.models import Version as Version
    from figment_client.replies import Encoding as Encoding

__all__ = [
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Encoding",
    "Exhausted",
    "FailedPrecondition",
    "FigmentError",
    "Images",
    "Internal",
    "InvalidArgument",
    "Model",
    "NotFound",
    "PermissionDenied",
    "Timing",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Version",
]

_HOME = {
    "Client": "client",
    "Encoding": "replies",
    "Images": "images",
    "Timing": "images",
    "Model": "models",
    "Version": "models",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
