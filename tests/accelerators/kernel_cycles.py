"""Cycles of the loss by the TPU kernel: kernel_cycles.py one_pass|two_passes PRECISION FOLDER

LIBTPU_INIT_ARGS tells the compiler to write the instructions of kernels into the folder; libtpu
reads it when it is loaded, so that this is a program of its own.
"""

import sys


def main(form, precision, folder):
    """Prints the estimate for N states of one device."""
    import cycles
    import jax.numpy as jnp
    import test_compiled_loss as test

    from negflax.loss import KernelOptions
    from negflax.loss.kernels import block_weights, tiles_tpu

    budget = {"one_pass": KernelOptions.block_elements, "two_passes": 1}[form]
    options = KernelOptions("mosaic_tpu", budget, precision=precision)
    shapes = test.operands(test.N, test.S, test.D, jnp.float32)
    text = test.compile_for("tpu_v5e", test.loss(options), *shapes).as_text()
    candidates = jnp.zeros((test.S, test.D))
    block = block_weights.block_states(test.N, candidates, options)
    vectors = jnp.zeros((test.S, test.D), precision)
    kept = form == "one_pass"
    _, keys = tiles_tpu.tiles(vectors, vectors, jnp.zeros((1, 2), jnp.int32), kept)
    kernels = cycles.of_kernels(folder, test.S // keys)
    print(kernels, cycles.estimate(text, -(-test.N // block), kernels))


if __name__ == "__main__":
    main(*sys.argv[1:])
