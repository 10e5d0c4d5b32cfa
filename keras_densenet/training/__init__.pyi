from .calibration import calibrate as calibrate
from .ensemble import ensemble as ensemble
from .fine_tuning import (
    FineTuning as FineTuning,
    freeze as freeze,
)
from .flags import Flags as Flags
from .image_classifier import ImageClassifier as ImageClassifier
from .optimizer import (
    TorchSGD as TorchSGD,
    cosine_schedule as cosine_schedule,
    step_schedule as step_schedule,
)
from .seed import seed_everything as seed_everything
from .trainer import Trainer as Trainer
