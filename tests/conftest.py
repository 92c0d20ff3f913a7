"""Before any test imports MLX: the process as our commands set it up."""

from condconv_mlx.cpu import tune_process

tune_process()
