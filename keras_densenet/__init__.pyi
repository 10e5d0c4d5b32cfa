from . import (
    analysis as analysis,
    callbacks as callbacks,
    cross_validation as cross_validation,
    data as data,
    errors as errors,
    export as export,
    layers as layers,
    losses as losses,
    metrics as metrics,
    training as training,
    tuning as tuning,
    weights as weights,
)
from .command_line.recipe import run_recipe as run_recipe
from .cross_validation import (
    CrossValidation as CrossValidation,
    cross_validate as cross_validate,
)
from .fc_densenet import FCDenseNet as FCDenseNet
from .feature_maps import features as features
from .models import (
    DenseNet as DenseNet,
    DenseNet121 as DenseNet121,
    DenseNet161 as DenseNet161,
    DenseNet169 as DenseNet169,
    DenseNet201 as DenseNet201,
    DenseNet232k48 as DenseNet232k48,
    DenseNet264 as DenseNet264,
    DenseNet264k48 as DenseNet264k48,
    DenseNetBC as DenseNetBC,
)
from .training import (
    FineTuning as FineTuning,
    ImageClassifier as ImageClassifier,
    Trainer as Trainer,
    calibrate as calibrate,
    ensemble as ensemble,
    seed_everything as seed_everything,
)
from .tuner import Tuner as Tuner

__version__: str
