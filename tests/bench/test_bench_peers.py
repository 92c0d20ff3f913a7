"""torch and timm: found or not, and measured as they are. The last part is skipped without them."""

import sys

import mlx.core as mx
import pytest
from bench_material import SMALL, TINY

from condconv_mlx.bench import network
from condconv_mlx.bench.peers import load_peer
from condconv_mlx.models import create_model


def test_nothing_is_loaded_where_torch_is_missing(monkeypatch):
    # None in sys.modules makes an import fail.
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load_peer(1, False) is None


def test_nothing_is_loaded_where_timm_is_missing(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert load_peer(1, False) is None


@pytest.fixture
def peer():
    torch = pytest.importorskip("torch")
    before, register = torch.get_num_threads(), torch.library.register_fake
    found = load_peer(1, False)
    if found is None:
        pytest.skip("timm is not installed")
    assert torch.get_num_threads() == 1
    assert torch.library.register_fake is register
    yield found
    torch.set_num_threads(before)


def test_the_peer_says_what_it_is(peer):
    assert peer.device == "cpu"
    assert peer.name.startswith("timm ") and ", torch " in peer.name


@pytest.mark.parametrize("shape", SMALL)
def test_layers_run(peer, shape):
    forward, both = peer.layer(shape, 3)
    forward()
    both()


def test_a_training_step_runs(peer):
    step = peer.training_step(TINY)
    step()
    step()


def test_a_network_runs_and_its_parts_are_ours(peer):
    work, parts = peer.network(64)
    work()
    taken = parts()
    ours = create_model(network.NETWORK, num_experts=2).eval()
    assert set(taken) == set(network.parts_of(ours, mx.zeros((1, 64, 64, 3))))
    assert min(taken.values()) > 0
