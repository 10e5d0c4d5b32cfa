from .publish import savedmodel as savedmodel
from .server_config import write_server_config as write_server_config
from .verification import (
    ExportError as ExportError,
    verify as verify,
)
