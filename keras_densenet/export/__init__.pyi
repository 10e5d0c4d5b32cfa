from .conversion import (
    Conversion as Conversion,
    litert as litert,
    litert_of_data as litert_of_data,
    onnx as onnx,
)
from .publish import savedmodel as savedmodel
from .server_config import write_server_config as write_server_config
from .verification import (
    ExportError as ExportError,
    verify as verify,
)
