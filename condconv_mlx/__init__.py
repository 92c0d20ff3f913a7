"""CondConv for Apple Silicon, in MLX."""
