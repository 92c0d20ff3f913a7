"""Models as files of MLX operations."""

import os
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from condconv_mlx import create_model
from condconv_mlx.convert.condconvert import condconvert
from condconv_mlx.convert.exporting import export_model
from condconv_mlx.convert.fold import fold
from condconv_mlx.explain import trace


def rand(*shape, seed=0):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def close(a, b, tolerance=1e-5):
    a, b = np.array(a), np.array(b)
    assert a.shape == b.shape and np.abs(a - b).max() <= tolerance * np.abs(b).max()


def converted():
    return condconvert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.gelu, nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm(4)), 3)


def conditional():
    return create_model("condconv_small", width=4, num_experts=3)


def folded(make):
    model = make()
    return fold(model, {router.name: router.weights[0] for router in trace(model, rand(1, 16, 16, 3)).routers})


@pytest.mark.parametrize(
    "make", [converted, conditional, lambda: folded(converted), lambda: folded(conditional)], ids=range(4)
)
def test_what_is_loaded_computes_the_same(tmp_path, make):
    model, path = make(), tmp_path / "new folder" / "model.mlxfn"
    export_model(model, path, (16, 16, 3), batch_sizes=(1, 3))
    assert model.training
    model.eval()
    loaded = mx.import_function(str(path))
    for count in (1, 3):
        x = rand(count, 16, 16, 3, seed=count)
        close(loaded(x)[0], model(x))
    with pytest.raises(ValueError, match="matches"):
        loaded(rand(2, 16, 16, 3))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "make", [converted, conditional, lambda: folded(converted), lambda: folded(conditional)], ids=range(4)
)
def test_mlx_alone_exports_them_too(tmp_path, make):
    model, path, x = make().eval(), str(tmp_path / "model.mlxfn"), rand(2, 16, 16, 3)
    mx.eval(model.parameters())
    mx.export_function(path, lambda x: model(x), x)
    close(mx.import_function(path)(x)[0], model(x))


def test_views_and_lazy_arrays_are_written_as_what_they_are(tmp_path):
    model, x = nn.Linear(4, 4), rand(1, 4)
    model.weight, model.bias = rand(4, 4).T, mx.random.normal((4,))
    export_model(model, tmp_path / "model.mlxfn", (4,))
    close(mx.import_function(str(tmp_path / "model.mlxfn"))(x)[0], x @ rand(4, 4) + model.bias)


def test_what_mlx_writes_wrong_is_not_kept(tmp_path):
    hidden = rand(4, 4).T
    mx.eval(hidden)

    class Hiding(nn.Module):
        def __call__(self, x):
            return x @ hidden

    with pytest.raises(RuntimeError, match="the exported function is off by"):
        export_model(Hiding(), tmp_path / "model.mlxfn", (4,))
    assert not os.listdir(tmp_path)


def test_the_arrays_are_in_the_file_once(tmp_path):
    model = nn.Sequential(nn.Linear(300, 300))
    export_model(model, tmp_path / "model.mlxfn", (300,), batch_sizes=(1, 2, 4, 8))
    size = sum(array.nbytes for array in model.layers[0].parameters().values())
    assert size < (tmp_path / "model.mlxfn").stat().st_size < 1.1 * size


def test_what_is_loaded_needs_nothing_but_mlx(tmp_path):
    model, path, x = conditional(), str(tmp_path / "model.mlxfn"), rand(1, 16, 16, 3)
    export_model(model, path, (16, 16, 3))
    mx.save(str(tmp_path / "x.npy"), x)
    program = (
        "import sys, mlx.core as mx; folder = sys.argv[1]; x = mx.load(folder + '/x.npy');"
        "mx.save(folder + '/y.npy', mx.import_function(folder + '/model.mlxfn')(x)[0]);"
        "assert 'condconv_mlx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)
    close(mx.load(str(tmp_path / "y.npy")), model.eval()(x))


def test_another_dtype(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.relu)
    model.set_dtype(mx.bfloat16)
    export_model(condconvert(model, 2), tmp_path / "model.mlxfn", (8, 8, 3), dtype=mx.bfloat16)
    x = rand(1, 8, 8, 3).astype(mx.bfloat16)
    output = mx.import_function(str(tmp_path / "model.mlxfn"))(x)[0]
    assert output.dtype == mx.bfloat16
    close(output.astype(mx.float32), model(x).astype(mx.float32), 0.05)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("model.bin", {}, r"must end in .mlxfn, got model.bin"),
        ("model.mlxfn", {"batch_sizes": ()}, "at least one batch size"),
        ("model.mlxfn", {"batch_sizes": (0,)}, r"must be positive integers.*\(0,\)"),
        ("model.mlxfn", {"input_shape": (16, 16, 5)}, "channels"),
    ],
)
def test_wrong_arguments_leave_the_file_that_was_there(tmp_path, name, options, says):
    (tmp_path / name).write_text("precious")
    model = conditional()
    with pytest.raises(ValueError, match=says):
        export_model(model, tmp_path / name, **{"input_shape": (16, 16, 3), **options})
    assert model.training
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "precious"
