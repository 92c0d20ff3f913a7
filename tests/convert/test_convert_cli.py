"""`condconv-mlx convert`, and `predict` with weights from the hub."""

import io
import json
import sys

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from timm_material import images, random_arrays, stored_network

from condconv_mlx import create_model, load_model, save_model
from condconv_mlx.checkpoint import write_arrays
from condconv_mlx.cli import main
from condconv_mlx.convert.from_timm import timm_arrays
from condconv_mlx.explain import trace

NAME = "tf_efficientnet_cc_b0_4e"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def small(tmp_path):
    """A small model of ours."""
    model = create_model("condconv_small", num_experts=4, width=4)
    taken = {"size": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    model.info.update(dataset="cifar10", labels=list("abcdefghij"), input=taken)
    save_model(model, tmp_path / "small.safetensors", dtype=mx.float32)
    return tmp_path / "small.safetensors"


@pytest.fixture
def theirs(tmp_path):
    """A small network of timm's kind, which no one published."""
    model = create_model("mobilenet_v1", num_classes=3, num_experts=2, width=0.25)
    arrays = random_arrays(model)
    arrays |= {t.name: np.ones(t.shape, np.float32) for name, t in timm_arrays(model).items() if "running" in name}
    path = tmp_path / "theirs.safetensors"
    write_arrays(path, {name: mx.array(value) for name, value in arrays.items()}, {})
    return path


@pytest.fixture
def on_hub(hub_running, tmp_path):
    """The hub with one network, whose answers are stored."""
    (tmp_path / "published").mkdir()
    path, stored = stored_network(tmp_path / "published")
    hub_running.files = {f"timm/{NAME}.in1k/model.safetensors": path.read_bytes()}
    path.unlink()
    return hub_running, stored


def answer(monkeypatch, text):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(text))


def test_from_the_hub_to_a_file_of_ours(on_hub, tmp_path, capsys):
    _, stored = on_hub
    out = tmp_path / "cc.safetensors"
    assert main(["convert", NAME, str(out), "--yes"]) == 0
    assert "cc.safetensors: efficientnet_b0, 4 experts, 53.5 MB" in capsys.readouterr().out
    model = load_model(out)
    logits = np.array(model(mx.array(images((2, 97, 97, 3)))))
    assert np.abs(logits - stored["logits"]).max() <= 1e-4 * np.ptp(stored["logits"])
    assert model.info["source"] == f"timm/{NAME}.in1k" and model.info["labels"][281].startswith("tabby")


def test_asking_before_a_download(on_hub, picture, monkeypatch, capsys):
    server, _ = on_hub
    command = ["predict", str(picture), "--model", NAME, "--top", "2"]
    # A script is not asked, it has to say so.
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(command) == 1
    assert f"53 MB from huggingface.co/timm/{NAME}.in1k. To download it, say --yes" in capsys.readouterr().err
    for refusal in ("n\n", ""):
        answer(monkeypatch, refusal)
        assert main(command) == 1
        assert "Download it? [Y/n]" in capsys.readouterr().err
    assert not server.requests
    answer(monkeypatch, "\n")
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{picture}: ") and len(shown) == 1 + 2 + 1 + 8
    # It is here now.
    server.requests.clear()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main([*command, "--json"]) == 0 and not server.requests
    (printed,) = json.loads(capsys.readouterr().out)["images"]
    assert len(printed["classes"]) == 1000 and len(printed["routing"]) == 8
    assert main(["models", "--json"]) == 0
    here = {known["name"]: bool(known["path"]) for known in json.loads(capsys.readouterr().out)["hub"]}
    assert here[NAME] and sum(here.values()) == 1


def test_a_network_of_ones_own(theirs, tmp_path, capsys):
    out, names = tmp_path / "own.safetensors", tmp_path / "names.txt"
    names.write_text("cat\ndog\ncow\n")
    settings = ["--set", "norm_eps=1e-3", "same_padding=true"]
    assert main(["convert", str(theirs), str(out), "--labels", str(names), *settings, "--dtype", "float16"]) == 0
    assert "mobilenet_v1, 2 experts" in capsys.readouterr().out
    model = load_model(out)
    assert model.info["labels"] == ["cat", "dog", "cow"]
    assert model.config["norm_eps"] == 1e-3 and model.config["same_padding"] and model.config["width"] == 0.25


def test_folded_for_a_picture(small, picture, tmp_path, capsys):
    out = tmp_path / "folded.safetensors"
    assert main(["convert", str(small), str(out), "--fold", str(picture)]) == 0
    assert "condconv_small, static" in capsys.readouterr().out
    static = load_model(out)
    assert static.config["num_experts"] is None
    assert main(["predict", str(picture), "--model", str(small), "--json"]) == 0
    conditional = json.loads(capsys.readouterr().out)["images"][0]
    assert main(["predict", str(picture), "--model", str(out), "--json"]) == 0
    folded = json.loads(capsys.readouterr().out)["images"][0]
    for a, b in zip(conditional["classes"], folded["classes"], strict=True):
        assert a["label"] == b["label"] and abs(a["probability"] - b["probability"]) < 1e-4


def test_folded_by_numbers_and_exported(small, tmp_path):
    model = load_model(small)
    routing = {router.name: [0.1, 0.2, 0.3, 0.4] for router in trace(model, mx.zeros((1, 32, 32, 3))).routers}
    (tmp_path / "routing.json").write_text(json.dumps(routing))
    out = tmp_path / "folded.mlxfn"
    assert main(["convert", str(small), str(out), "--fold", str(tmp_path / "routing.json"), "--batch", "1", "3"]) == 0
    for n in (1, 3):
        x = mx.random.normal((n, 32, 32, 3), key=mx.random.key(n))
        wanted = trace(model, x, override={name: np.array(weights) for name, weights in routing.items()}).output
        assert np.allclose(np.array(mx.import_function(str(out))(x)[0]), wanted, atol=1e-4)


def test_exported_with_its_routing(small, tmp_path):
    out = tmp_path / "small.mlxfn"
    assert main(["convert", str(small), str(out), "--batch", "2", "--size", "40"]) == 0
    x = mx.random.normal((2, 40, 40, 3))
    assert mx.allclose(mx.import_function(str(out))(x)[0], load_model(small)(x), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (["{small}", "out.bin"], 2, "must end in .safetensors or .mlxfn, got out.bin"),
        (["{small}", "{small}"], 1, "is there already; --force replaces it"),
        (["missing.safetensors", "out.safetensors"], 1, "There is no file missing.safetensors"),
        (["tf_efficientnet_cc_b0", "out.safetensors"], 1, "Did you mean tf_efficientnet"),
        (["{theirs}", "out.safetensors", "--set", "norm_eps"], 1, "--set wants NAME=VALUE"),
        (["{theirs}", "out.safetensors", "--set", "wide=1"], 1, "no such setting"),
        (["{theirs}", "out.safetensors", "--fold", "{picture}"], 1, "lacks labels and input for pictures"),
        (["{small}", "out.safetensors", "--fold", "{small}"], 1, "is not a picture this program can read"),
        (["{small}", "out.safetensors", "--fold", "{wrong}"], 1, "routing must name all 3 routers"),
        (["{small}", "out.safetensors", "--labels", "{wrong}"], 1, "is a file of ours"),
        (["{pickle}", "out.safetensors"], 1, "is a pickle of PyTorch's, which can run any program"),
        (["{cut}", "out.safetensors"], 1, "is cut short"),
        (["{longer}", "out.safetensors"], 1, "bytes follow that belong to nothing"),
    ],
)
def test_mistakes(arguments, status, says, small, theirs, picture, tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong.json").write_text("{}")
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04 and so on, for a while")
    content = theirs.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-10])
    (tmp_path / "longer.safetensors").write_bytes(content + b"more")
    places = {"small": small, "theirs": theirs, "picture": picture, "wrong": tmp_path / "wrong.json"}
    places |= {"pickle": tmp_path / "net.pth", "cut": tmp_path / "cut.safetensors"}
    places["longer"] = tmp_path / "longer.safetensors"
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *(argument.format(**places) for argument in arguments)]) == status
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1] and "Traceback" not in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_force_replaces(small, theirs, tmp_path):
    assert main(["convert", str(theirs), str(small), "--force"]) == 0
    assert load_model(small).config["name"] == "mobilenet_v1"
