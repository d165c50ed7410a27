"""Matrix products of encoders, in the precision that config.model.precision names."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from negflax.config import ModelConfig
from negflax.mesh import platform

_PRECISION = contextvars.ContextVar("precision of an encoder's products", default="float32")


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """The products that are traced within have that precision, those of their gradients too.

    Args:
      name: `float32`: operands as they are, on every platform (TPUs and GPUs would round float32
        to fewer bits unless they are told). `bfloat16`: `matmul` rounds both operands to bfloat16
        and sums in float32; on TPUs and GPUs other products may do so as well.
    """
    token = _PRECISION.set(name)
    try:
        with jax.default_matmul_precision({"float32": "highest"}.get(name, name)):
            yield
    finally:
        _PRECISION.reset(token)


def in_force(config: ModelConfig) -> str:
    """`float32` or `bfloat16`: config.model.precision, with `auto` decided by the devices.

    `auto` is bfloat16 on GPUs and TPUs, and on CPUs that multiply it (AVX512-BF16 or AMX on Linux).
    """
    if config.precision != "auto":
        return config.precision
    fast = config.dtype == "float32" and (platform() != "cpu" or _cpu_multiplies_bfloat16())
    return "bfloat16" if fast else "float32"


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
    try:
        said = Path("/proc/cpuinfo").read_text()
    except OSError:  # another system
        return False
    return "avx512_bf16" in said or "amx_bf16" in said


def current() -> str:
    """The precision in force, for functions that bring their own gradient."""
    return _PRECISION.get()


def matmul(x: jax.Array, kernel_IO: jax.Array, precision: str | None = None) -> jax.Array:
    """x (…, I) times a kernel, in their dtype; `precision` as above, by default that in force."""
    if (precision or current()) == "float32":
        return jnp.matmul(x, kernel_IO, precision="highest")
    return _rounded(x, kernel_IO)


def transposed(kernel_IO: jax.Array, precision: str | None = None) -> jax.Array:
    """The kernel (O, I) as an operand of `matmul`, to be made outside of loops.

    XLA's CPU multiplies bfloat16 half as fast if an operand lies transposed: it is copied.
    """
    if (precision or current()) == "float32" or platform() != "cpu":
        return kernel_IO.T
    return with_layout_constraint(kernel_IO.astype(jnp.bfloat16).T, Layout((0, 1)))


@jax.custom_vjp
def _rounded(x: jax.Array, kernel_IO: jax.Array) -> jax.Array:
    kind = jnp.result_type(x, kernel_IO)
    x, kernel_IO = x.astype(jnp.bfloat16), kernel_IO.astype(jnp.bfloat16)
    axes = ((x.ndim - 1,), (0,)), ((), ())
    return lax.dot_general(x, kernel_IO, axes, preferred_element_type=kind)


def _fwd(x, kernel_IO):
    return _rounded(x, kernel_IO), (x, kernel_IO)


def _bwd(residuals, g):
    x, kernel_IO = residuals
    x_NI, g_NO = (y.reshape(-1, y.shape[-1]) for y in (x, g))
    d_x = _rounded(g, transposed(kernel_IO, "bfloat16"))
    return d_x, _rounded(transposed(x_NI, "bfloat16"), g_NO)


_rounded.defvjp(_fwd, _bwd)
