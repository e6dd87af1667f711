"""How a network learns: factories of `jaxnn.types.Learner`."""

from jaxnn.learners.competitive import Competitive, batch_competitive, competitive
from jaxnn.learners.supervised import Supervised, image_and_label, supervised

__all__ = ["Competitive", "Supervised", "batch_competitive", "competitive", "image_and_label", "supervised"]
