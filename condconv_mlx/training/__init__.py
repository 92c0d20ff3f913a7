"""Training a network and measuring its accuracy."""

from condconv_mlx.training.evaluation import Evaluation, evaluate
from condconv_mlx.training.trainer import Progress, TrainingSettings, train

__all__ = ["Evaluation", "Progress", "TrainingSettings", "evaluate", "train"]
