"""How a network learns: factories of `jaxnn.types.Learner`."""

from jaxnn.learners.supervised import Supervised, image_and_label, supervised

__all__ = ["Supervised", "image_and_label", "supervised"]
