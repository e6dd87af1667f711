"""How the loop's programs are compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import losses, program
from jaxnn.learners import supervised
from jaxnn.members import Alone, Keys
from jaxnn.models import CifarResNet, functional


def test_convolutions_of_many_maps_stay_convolutions_on_a_cpu():
    """Inside a large program YNNPACK's, which XLA would put in their place, are slower."""
    net = CifarResNet(1, maps=(8, 24, 24))
    learner = supervised(*functional(net), losses.softmax_cross_entropy_with_integer_labels, optax.sgd(0.1))
    alone, keys = Alone(learner), Keys(*jax.random.split(jax.random.key(0), 4))
    batch = {"image": jnp.zeros((2, 12, 12, 3), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
    state = program.init(alone, {}, keys, batch)
    text = program.one_step.jitted.lower(alone, keys, state, batch, np.int32(0)).compile().as_text()
    assert "convolution(" in text
    assert not re.search(r"kind=kCustom.*conv_general_dilated", text)


def test_what_xla_flags_say_of_it_and_an_xla_without_it_are_left_alone(monkeypatch):
    assert program.quick("cpu")
    assert program.quick("gpu") == {}
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to= --{program.YNN}=LIBRARY_FUSION_TYPE_REDUCE")
    assert program.quick("cpu") == {}
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(program, "YNN", "xla_cpu_no_such_option")
    assert program.quick("cpu") == {}


@pytest.mark.parametrize("backend", ["cpu", "tpu"])
def test_what_runs_once_is_not_optimised_on_a_cpu(backend):
    assert program.unoptimised(backend) == ({"xla_backend_optimization_level": 0} if backend == "cpu" else {})
