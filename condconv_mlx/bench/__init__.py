"""What CondConv costs on this machine: beside static convolutions, beside torch, by number of experts, in training."""

SECTIONS = ("layers", "experts", "training", "recipes", "network", "memory")
