"""How a network learns: factories of `jaxnn.types.Learner`."""

from jaxnn.learners.backpropagation import Backpropagation, backpropagation
from jaxnn.learners.competitive import Competitive, batch_competitive, competitive
from jaxnn.learners.neocognitron_rule import Neocognitron, neocognitron_rule
from jaxnn.learners.one_vs_rest import OneVsRest, one_vs_rest
from jaxnn.learners.perceptron_rule import PerceptronRule, Pocket, perceptron_rule, pocket_rule
from jaxnn.learners.supervised import Supervised, image_and_label, standardised, supervised

__all__ = [
    "Backpropagation",
    "Competitive",
    "Neocognitron",
    "OneVsRest",
    "PerceptronRule",
    "Pocket",
    "Supervised",
    "backpropagation",
    "batch_competitive",
    "competitive",
    "image_and_label",
    "neocognitron_rule",
    "one_vs_rest",
    "perceptron_rule",
    "pocket_rule",
    "standardised",
    "supervised",
]
