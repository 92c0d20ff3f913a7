"""Training a network and measuring its accuracy."""

from condconv_mlx.training.evaluation import Evaluation, evaluate
from condconv_mlx.training.finetuning import for_classes
from condconv_mlx.training.log import Log, read_log
from condconv_mlx.training.loop import Progress
from condconv_mlx.training.run_folder import RunStatus, run_status, stop_run
from condconv_mlx.training.settings import TrainingSettings
from condconv_mlx.training.stopping import Diverged, Stopped
from condconv_mlx.training.trainer import train

__all__ = [
    "Diverged",
    "Evaluation",
    "Log",
    "Progress",
    "RunStatus",
    "Stopped",
    "TrainingSettings",
    "evaluate",
    "read_log",
    "run_status",
    "stop_run",
    "train",
    "for_classes",
]
