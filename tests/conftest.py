"""Eight virtual CPU devices for every test; a one-device mesh takes the first of them."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
