"""Images drawn by a Figment server.

    with Client("127.0.0.1:50051") as client:
        client.generate("digits-vae", 16, seed=7).save("sheet.png")

Names are imported on first use: `figment --version` needs no gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from figment.images import Images as Images
    from figment.images import Timing as Timing
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
    "Client": "figment_client.client",
    "Encoding": "figment_client.replies",
    "Images": "figment.images",
    "Timing": "figment.images",
    "Model": "figment_client.models",
    "Version": "figment_client.models",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "figment_client.errors")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
