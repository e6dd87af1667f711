"""What a network computes, one net a file."""

from jaxnn.models import neuron, perceptron, rbf, som
from jaxnn.models.functional import Functional, functional
from jaxnn.models.mlp import MLP
from jaxnn.models.text_cnn import TextCNN

__all__ = ["MLP", "Functional", "TextCNN", "functional", "neuron", "perceptron", "rbf", "som"]
