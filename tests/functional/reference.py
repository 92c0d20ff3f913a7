"""Plain, slow references: one `mx.conv2d` an example, and the same sum in float64 NumPy."""

import shutil

import mlx.core as mx
import numpy as np
import pytest

needs_compiler = pytest.mark.skipif(
    mx.default_device() == mx.cpu and not shutil.which("g++"),
    reason="MLX compiles for a CPU with g++, which is not here",
)


def same_padding(size, kernel, stride, dilation):
    """TensorFlow's rule, by axis."""
    pairs = []
    for s, k, st, d in zip(size, kernel, stride, dilation, strict=True):
        out = (s + st - 1) // st
        total = max((out - 1) * st + (k - 1) * d + 1 - s, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def as_pairs(padding, size, kernel, stride, dilation):
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        return same_padding(size, kernel, stride, dilation)
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    if isinstance(padding[0], int):
        return ((padding[0], padding[0]), (padding[1], padding[1]))
    return padding


def loop_conv2d(x, kernels, bias=None, stride=(1, 1), padding=0, dilation=(1, 1), groups=1):
    """One `mx.conv2d` an example, on explicitly padded images."""
    pairs = as_pairs(padding, x.shape[1:3], kernels.shape[2:4], stride, dilation)
    padded = mx.pad(x, [(0, 0), *pairs, (0, 0)])
    outputs = [
        mx.conv2d(padded[n : n + 1], kernels[n], stride=stride, dilation=dilation, groups=groups)
        for n in range(x.shape[0])
    ]
    output = mx.concatenate(outputs)
    return output if bias is None else output + bias[:, None, None]


def numpy_conv2d(x, kernels, stride=(1, 1), padding=0, dilation=(1, 1), groups=1):
    """The definition, in the precision of its arguments."""
    pairs = as_pairs(padding, x.shape[1:3], kernels.shape[2:4], stride, dilation)
    padded = np.pad(x, [(0, 0), *pairs, (0, 0)])
    n, out, kh, kw, depth = kernels.shape
    rows = (padded.shape[1] - (kh - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (padded.shape[2] - (kw - 1) * dilation[1] - 1) // stride[1] + 1
    output = np.zeros((n, rows, columns, out), x.dtype)
    for group in range(groups):
        inputs = slice(group * depth, (group + 1) * depth)
        outputs = slice(group * (out // groups), (group + 1) * (out // groups))
        for i in range(rows):
            for j in range(columns):
                top, left = i * stride[0], j * stride[1]
                window = padded[
                    :,
                    top : top + (kh - 1) * dilation[0] + 1 : dilation[0],
                    left : left + (kw - 1) * dilation[1] + 1 : dilation[1],
                    inputs,
                ]
                output[:, i, j, outputs] = np.einsum("nhwc,nohwc->no", window, kernels[:, outputs])
    return output


def numpy_cond_conv2d(x, routing_weights, experts, bias=None, **options):
    kernels = np.einsum("ne,e...->n...", routing_weights, experts)
    output = numpy_conv2d(x, kernels, **options)
    return output if bias is None else output + np.einsum("ne,eo->no", routing_weights, bias)[:, None, None]
