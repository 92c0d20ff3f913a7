"""Before any test imports MLX: the process as our commands set it up."""

import os

from condconv_mlx.cpu import tune_process

tune_process()
# A GPU may multiply float32 in TF32, with 10 bits of each factor. The references have them all.
os.environ["MLX_ENABLE_TF32"] = "0"
