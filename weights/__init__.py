"""Trained weights, one safetensors file each, with a model card."""
