"""The matrix rate: the sizes of a step are all of its FLOPs, laid out as linear layers have them, weighed by number."""

import pytest
import torch

from model.benchmark import gemm
from model.benchmark.gemm import Size, factors, matrix_rate, sizes
from model.config import preset
from model.vla.flops import Product, Workload, forward_flops, inference_products, step_flops, training_products

DEBUG = preset("debug")
WORK = Workload(batch=2, draws=3)


def test_the_sizes_of_a_training_step_are_all_its_flops() -> None:
    products = training_products(DEBUG, WORK)
    counted = sum(size.flops * count for size, count in sizes(products, training=True).items())
    assert counted == sum(step_flops(products, WORK).values())


def test_the_sizes_of_an_inference_are_all_its_flops() -> None:
    products = inference_products(DEBUG, Workload())
    counted = sum(size.flops * count for size, count in sizes(products, training=False).items())
    assert counted == sum(forward_flops(products).values())


@pytest.mark.parametrize("layout", ["forward", "left", "right"])
def test_factors_lie_as_a_linear_layer_and_its_gradients_have_them(layout: str) -> None:
    """x [m, k] with w [n, k] stored row by row: w.T forward, w for x's gradient, g.T for w's gradient."""
    x = torch.randn(5, 3, requires_grad=True)
    w = torch.randn(4, 3, requires_grad=True)
    gradient = torch.randn(5, 4)
    pairs = {"forward": (x, w.T), "left": (gradient, w), "right": (gradient.T, x)}
    expected = pairs[layout]
    size = Size(layout, 1, expected[0].shape[0], expected[0].shape[1], expected[1].shape[1])  # type: ignore[arg-type]
    actual = factors(size, torch.bfloat16)
    assert [t.shape for t in actual] == [t.shape for t in expected]
    assert [t.stride() for t in actual] == [t.stride() for t in expected]
    assert {t.dtype for t in actual} == {torch.bfloat16}


def test_a_product_weighs_as_often_as_it_occurs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of 2000 FLOP at 1 s, once, and one of 16000 at 2 s, three times: 50000 FLOP in 7 s."""
    monkeypatch.setattr(gemm, "_time", lambda size, dtype: (1.0, 3.0) if size.rows == 10 else (2.0, 6.0))
    products = [
        Product(part="tower", rows=10, inner=10, columns=10),
        Product(part="tower", rows=20, inner=20, columns=20, count=3),
    ]
    rate = matrix_rate(products, torch.float32, training=False)
    assert rate.per_wall_second == pytest.approx(50_000 / 7)
    assert rate.per_cpu_second == pytest.approx(50_000 / 21)


def test_the_rate_is_that_of_products_and_not_of_python() -> None:
    """One product with a million times the work runs at a higher rate."""
    small, large = (Product(part="tower", rows=n, inner=n, columns=n) for n in (4, 400))
    rates = [matrix_rate([product], torch.float32, training=False).per_cpu_second for product in (small, large)]
    assert rates[1] > 10 * rates[0] > 0
