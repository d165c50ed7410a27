"""The loss alone, in a model that is not ours: matrix factorisation on likes and dislikes.

python examples/loss_in_your_model.py

Bring vectors of states and items; `ntr_loss` needs nothing else of the library.
"""

import jax
import jax.numpy as jnp
import optax

from negflax import ntr_loss

USERS, ITEMS, WIDTH = 200, 500, 16
keys = jax.random.split(jax.random.key(0), 5)

# Each user likes some items and dislikes one.
liked = jax.random.randint(keys[0], (USERS, 3), 0, ITEMS)
disliked = jax.random.randint(keys[1], (USERS, 1), 0, ITEMS)
labels = jnp.concatenate([liked, disliked], axis=1)
r = jnp.tile(jnp.array([1.0, 1.0, 1.0, 0.0]), (USERS, 1))  # weights of the positive labels
w = jnp.tile(jnp.array([0.0, 0.0, 0.0, 100.0]), (USERS, 1))  # and of the negative one

parameters = {
    "users": jax.random.normal(keys[2], (USERS, WIDTH)) / WIDTH**0.5,
    "items": jax.random.normal(keys[3], (ITEMS, WIDTH)),
}


def loss(parameters):
    """Eq. 1 of the paper, a mean over labels."""
    return ntr_loss(parameters["users"], parameters["items"], labels, r, w)


optimizer = optax.adam(0.05)


@jax.jit
def step(parameters, state):
    """One update."""
    value, gradients = jax.value_and_grad(loss)(parameters)
    change, state = optimizer.update(gradients, state)
    return optax.apply_updates(parameters, change), state, value


def shares(parameters):
    """Mean p of a liked and of a disliked item; 1/ITEMS is chance."""
    probability = jax.nn.softmax(parameters["users"] @ parameters["items"].T)
    p = jnp.take_along_axis(probability, labels, axis=1)
    return float(p[:, :3].mean()), float(p[:, 3].mean())


print("p before: liked {:.6f}, disliked {:.6f}".format(*shares(parameters)))
state = optimizer.init(parameters)
for _ in range(100):
    parameters, state, value = step(parameters, state)
print("p after:  liked {:.6f}, disliked {:.6f}".format(*shares(parameters)))
