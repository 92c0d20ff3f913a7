"""`python -m condconv_mlx` is `condconv-mlx`."""

import sys

from condconv_mlx.cli import main

sys.exit(main())
