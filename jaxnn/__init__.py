"""The classic neural networks in JAX: pure functions, real data, published numbers."""

from jaxnn import activations, data, devices, initializers, learners, losses, measure, models, optimizers, record, schedules, train, types

__version__ = "0.1.0"

__all__ = [
    "activations",
    "data",
    "devices",
    "initializers",
    "learners",
    "losses",
    "measure",
    "models",
    "optimizers",
    "record",
    "schedules",
    "train",
    "types",
]
