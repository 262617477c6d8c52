import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell.encoders.packing import pack_weights, unpack_weights

SEEDS = st.integers(0, 2**32 - 1)


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = 10.0 ** torch.randint(-6, 4, (7, 1), generator=generator)
    return {
        "matrix": torch.randn(7, 33, generator=generator) * rows,
        "kernel": torch.randn(4, 3, 2, 2, generator=generator),
        "zeros": torch.zeros(2, 3),
        "output.weight": torch.randn(9, 4, generator=generator),
        "bias": torch.randn(7, generator=generator),
        "count": torch.tensor(5),
    }


@given(SEEDS)
def test_int8_is_off_by_half_a_step_at_most(seed: int) -> None:
    state = weights(seed)
    packed = pack_weights(state, "int8")
    restored = unpack_weights(packed)
    assert restored.keys() == state.keys()
    for name in ("matrix", "kernel", "zeros"):
        assert packed[name].dtype == torch.int8
        step = packed[f"{name}.scale"].float().view(-1, *[1] * (state[name].dim() - 1))
        assert ((restored[name] - state[name]).abs() <= step * 0.5001 * (1 + 2**-7)).all()
    assert packed["output.weight"].dtype == torch.float16
    assert torch.equal(restored["bias"], state["bias"])
    assert torch.equal(restored["count"], state["count"])


@given(SEEDS)
def test_packing_again_gives_the_same_to_the_bit(seed: int) -> None:
    for storage in ("fp32", "fp16", "int8"):
        packed = pack_weights(weights(seed), storage)
        again = pack_weights(unpack_weights(packed), storage)
        assert packed.keys() == again.keys()
        assert all(torch.equal(packed[name], again[name]) for name in packed)


def test_what_fp16_cannot_hold_stays() -> None:
    large = {"w": torch.tensor([[1e6, 1.0]]), "v": torch.tensor([[1.0, 2.0]])}
    packed = pack_weights(large, "fp16")
    assert {name: weight.dtype for name, weight in packed.items()} == {
        "w": torch.float32,
        "v": torch.float16,
    }
    assert torch.equal(unpack_weights(packed)["w"], large["w"])


def test_a_name_that_ends_in_scale_is_a_weight() -> None:
    state = {"norm.scale": torch.ones(2, 2), "norm": torch.ones(2)}
    assert unpack_weights(pack_weights(state, "int8")).keys() == state.keys()
