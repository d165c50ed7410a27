import pytest
from jax.experimental.pallas import tpu as pltpu


@pytest.fixture
def interpreter(capsys):
    """Kernels run in the TPU interpreter: memory starts as NaN, and a race fails the test."""
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams(detect_races=True)):
        yield
    pltpu.reset_tpu_interpret_mode_state()
    assert "RACE" not in capsys.readouterr().out
