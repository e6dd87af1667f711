"""What `experiments.cnn_features` finds in a trained LeNet-5: maps of an image, what they come from, why an answer, and F6 in the plane.

Its claims, its sources and its numbers stand there.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnn.activations import relu
from jaxnn.inside import deconv_relu, grad_cam, guided_relu, let_through, project_back, saliency, strongest_places
from jaxnn.models import LeNet5, apply_changed, layers
from jaxnn.models.pooling import max_pool

Variables = Mapping[str, Any]
WAYS: dict[str, Callable[[Array], Array]] = {"gradient": relu, "deconvnet": deconv_relu, "guided": guided_relu}
SEEN, JUMP, AROUND = 14, 2, 2
"""What a unit of C3 sees: 5 + 1 + 2·4 pixels a side, the first at twice its own place, less the two zeros around the image."""


def maps_of(variables: Variables, image: Float[Array, "H W 1"]) -> dict[str, Array]:
    """The maps of one image, behind each convolution's ReLU and each pooling."""
    given = layers(LeNet5(), variables, image[None])
    c1, c3 = (relu(given[name][0]) for name in ("c1", "c3"))
    return {"image": image, "c1": c1, "pooled c1": max_pool(c1), "c3": c3, "pooled c3": max_pool(c3)}


def sent_back(variables: Variables, images: Float[Array, "B 28 28 1"], best: int) -> dict[str, Array]:
    """For each map of C3 the images of its strongest activations, and what these come from, cut to what the unit sees."""
    maps = jax.jit(lambda x: relu(layers(LeNet5(), variables, x)["c3"]))(images)
    order = jnp.argsort(-maps.max((1, 2)), axis=0, stable=True)[:best].T  # (O, best)
    places = jax.vmap(lambda rows, o: strongest_places(maps[rows])[:, o])(order, jnp.arange(len(order)))
    patches = {"patch/image": images[order]}
    for way, activation in WAYS.items():
        patches[f"patch/{way}"] = projected(LeNet5(activation=activation), variables, images[order])
    cut = jax.vmap(jax.vmap(_seen_by))
    return {name: cut(patch, places) for name, patch in patches.items()} | {"strongest": order}


def projected(model: LeNet5, variables: Variables, images: Float[Array, "O T H W 1"]) -> Float[Array, "O T H W 1"]:
    """What the strongest activation of map o of C3 comes from, in each of the T images kept for it."""
    back = partial(project_back, lambda x: layers(model, variables, x)["c3"])
    return jax.jit(jax.vmap(back))(images, jnp.arange(len(images)))


def _seen_by(image: Float[Array, "H W 1"], place: Array) -> Float[Array, "k k"]:
    """What the unit of C3 at this place sees of an image, zeros around it and all."""
    around = jnp.pad(image[..., 0], AROUND)
    return jax.lax.dynamic_slice(around, (JUMP * place[0], JUMP * place[1]), (SEEN, SEEN))


def asked(variables: Variables, images: Float[Array, "B 28 28 1"], label: np.ndarray, logits: np.ndarray) -> dict[str, Array]:
    """Why? Six right answers, of six classes, and the six wrong ones that are surest: for what it says, and for the other class.

    The other is the right one where the answer is wrong, and else the second best.
    """
    said, sure = logits.argmax(-1), logits.max(-1) - np.sort(logits, -1)[:, -2]
    wrong = np.flatnonzero(said != label)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:6]
    right = [rows[0] for rows in (np.flatnonzero((said == label) & (label == k)) for k in range(10)) if len(rows)][:6]
    rows = np.array([*right, *wrong])
    other = np.where(said == label, np.argsort(logits, -1)[:, -2], label)
    classes, chosen = np.stack([said, other], -1)[rows], images[rows]
    return {
        "asked": rows,
        "is": label[rows],
        "asked_class": classes,
        "asked_image": chosen[..., 0],
        "saliency": jax.jit(partial(saliency, lambda x: layers(LeNet5(), variables, x)["output"]))(chosen, classes[:, 0]),
        "cam": jnp.stack([cam_at_c3(variables, chosen, k) for k in classes.T], 1),
    }


@jax.jit
def cam_at_c3(variables: Variables, images: Float[Array, "B 28 28 1"], label: Array) -> Float[Array, "B 10 10"]:
    """Grad-CAM of C3's maps."""
    above = lambda maps: apply_changed(LeNet5(), variables, images, "c3", lambda _: let_through(maps))  # noqa: E731
    return grad_cam(above, relu(layers(LeNet5(), variables, images)["c3"]), label)


def in_the_plane(variables: Variables, images: Float[Array, "B 28 28 1"]) -> dict[str, Any]:
    """F6 of every image by its first two principal components and by t-SNE, and the share of the variance of each component."""
    from sklearn.manifold import TSNE

    f6 = np.asarray(jax.jit(lambda x: relu(layers(LeNet5(), variables, x)["f6"]))(images))
    centred = f6 - f6.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    neighbours = min(30.0, (len(f6) - 1) / 3)
    tsne = TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(f6)
    return {"plane/pca": u[:, :2] * s[:2], "plane/tsne": tsne, "variance": s**2 / max((s**2).sum(), 1e-12)}
