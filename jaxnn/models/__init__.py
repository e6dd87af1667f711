"""What a network computes, one net a file."""

from jaxnn.models import neuron, perceptron, rbf, som
from jaxnn.models.functional import Functional, apply_changed, functional, layers
from jaxnn.models.lenet import LeNet5, LeNet5Original, LocallyConnectedLeNet5
from jaxnn.models.mlp import MLP
from jaxnn.models.text_cnn import TextCNN
from jaxnn.models.two_layer_cnn import TwoLayerCNN

__all__ = [
    "MLP",
    "Functional",
    "LeNet5",
    "LeNet5Original",
    "LocallyConnectedLeNet5",
    "TextCNN",
    "TwoLayerCNN",
    "apply_changed",
    "functional",
    "layers",
    "neuron",
    "perceptron",
    "rbf",
    "som",
]
