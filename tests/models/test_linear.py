"""The matrix product: rows that do not know of each other, and bfloat16 where the CPU has none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.models import linear as module
from cairn.models.linear import linear


@settings(max_examples=40, deadline=None)
@given(
    num_rows=st.integers(1, 70),
    start=st.integers(0, 69),
    sizes=st.sampled_from([(32, 96), (64, 40), (576, 64), (300, 97), (256, 9), (32, 3), (1536, 1)]),
    with_bias=st.booleans(),
)
def test_a_row_is_the_same_alone_and_in_company(
    num_rows: int, start: int, sizes: tuple[int, int], with_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(70, sizes[0], generator=generator)
    weight = torch.randn(sizes[1], sizes[0], generator=generator)
    bias = torch.randn(sizes[1], generator=generator) if with_bias else None
    rows = slice(start, min(70, start + num_rows))
    assert torch.equal(linear(x[rows], weight, bias), linear(x, weight, bias)[rows])


@pytest.mark.parametrize("has_bfloat16", [True, False])
@pytest.mark.parametrize("num_rows", [1, 20])
def test_bfloat16(has_bfloat16: bool, num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda: has_bfloat16)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(num_rows, 64, generator=generator, dtype=torch.bfloat16).requires_grad_()
    weight = torch.randn(32, 64, generator=generator, dtype=torch.bfloat16).requires_grad_()
    out = linear(x, weight)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), x.float() @ weight.float().T, atol=0.15, rtol=0.02)
    out.sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert weight.grad.dtype == torch.bfloat16
