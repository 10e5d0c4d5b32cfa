from .results import (
    CrossValidation as CrossValidation,
    FoldRecord as FoldRecord,
    OutOfFold as OutOfFold,
)
from .run import cross_validate as cross_validate
