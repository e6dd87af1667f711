"""What a convolutional net looks at: what of an image a unit answers to, and the image that it answers to most.

All are functions of functions: of `layer`, from images (B, H, W, C) to the maps (B, P, Q, O) of a layer, or `scores`, from images to
(B, K). `jaxnn.models.layers` makes them of any Linen net.

A signal at one activation is sent back to the pixels by the transposes of all layers below: a convolution's is the filters turned by
180°, without its biases; `max_pool`'s puts each number where the maximum was; and at a ReLU, y = max(0, z), an incoming δ becomes

| | backwards | the net has | of a silent unit, z ≤ 0, with δ > 0 | of an active one with δ < 0 |
|---|---|---|---|---|
| gradient | δ [z > 0] | `relu` | cut | passed |
| deconvnet | max(0, δ) | `deconv_relu` | passed | cut |
| guided backpropagation | max(0, δ) [z > 0] | `guided_relu` | cut | cut |

so that a net with another `activation` and the same parameters, under `jax.vjp`, is the whole method.

Source: lecture row 109 (S3:740-749). Simonyan, Vedaldi, Zisserman 2014, arXiv:1312.6034 (gradient, class images); Zeiler & Fergus 2014,
arXiv:1311.2901 (deconvnet); Springenberg, Dosovitskiy, Brox, Riedmiller 2015, arXiv:1412.6806 (guided); Selvaraju et al. 2017,
arXiv:1610.02391 (Grad-CAM); Erhan, Bengio, Courville, Vincent 2009 (activation maximisation).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxnn.activations import relu
from jaxnn.coding import one_of_c
from jaxnn.types import InputError

Images = Float[Array, "B H W C"]


@jax.custom_vjp
def deconv_relu(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = max(0, z), and backwards max(0, δ) whatever z was: what is sent back is rectified as what comes up is.

    No gradient of anything. Zeiler & Fergus 2014, arXiv:1311.2901, section 2.1; lecture row 109.

    >>> jax.vjp(deconv_relu, jnp.array([-1.0, 2.0, 2.0]))[1](jnp.array([3.0, 3.0, -3.0]))[0]
    Array([3., 3., 0.], dtype=float32)
    """
    return relu(z)


deconv_relu.defvjp(lambda z: (relu(z), None), lambda _, signal: (relu(signal),))


@jax.custom_vjp
def guided_relu(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """y = max(0, z), and backwards max(0, δ) [z > 0]: cut where either the gradient or the deconvnet cuts.

    No gradient of anything. Springenberg et al. 2015, arXiv:1412.6806, section 3.4; lecture row 109.

    >>> jax.vjp(guided_relu, jnp.array([-1.0, 2.0, 2.0]))[1](jnp.array([3.0, 3.0, -3.0]))[0]
    Array([0., 3., 0.], dtype=float32)
    """
    return relu(z)


guided_relu.defvjp(lambda z: (relu(z), z > 0), lambda active, signal: (jnp.where(active, relu(signal), 0),))


def strongest_places(maps: Float[Array, "*batch P Q O"]) -> Int[Array, "*batch O 2"]:
    """(row, column) of the largest entry of each map; of equal ones the first by rows.

    >>> strongest_places(jnp.array([[1.0, 2.0], [5.0, 5.0]])[..., None])
    Array([[1, 0]], dtype=int32)
    """
    columns = maps.shape[-2]
    place = maps.reshape(*maps.shape[:-3], -1, maps.shape[-1]).argmax(-2)
    return jnp.stack([place // columns, place % columns], -1)


def strongest_alone(maps: Float[Array, "P Q O"], channel: int | Int[Array, ""]) -> Float[Array, "P Q O"]:
    """The largest entry of map `channel`; all other entries, of all maps, are 0. Raises `InputError` for a map that there is none of.

    >>> strongest_alone(jnp.array([[1.0, 2.0], [5.0, 4.0]])[..., None], 0)[..., 0]
    Array([[0., 0.],
           [5., 0.]], dtype=float32)
    """
    _check_channel(channel, maps.shape[-1])
    row, column = strongest_places(maps)[channel]
    return jnp.zeros_like(maps).at[row, column, channel].set(maps[row, column, channel])


def project_back(layer: Callable[[Images], Float[Array, "B P Q O"]], images: Images, channel: int | Int[Array, ""]) -> Images:
    """(∂layer/∂x)ᵀ s, where s is all 0 but for the strongest activation max(0, z) of map `channel` in each image.

    What of the image it comes from, by the rule of the ReLUs that `layer` is made of: see the table above. By plain `relu` it is the
    activation times its gradient. 0 where the map is silent. Raises `InputError` for images that are no floats, for a layer without
    places and a map that there is none of.
    """
    _check_images(images)
    maps, back = jax.vjp(layer, images)
    _check_maps(maps)
    return back(jax.vmap(strongest_alone, (0, None))(relu(maps), channel))[0]


def saliency(scores: Callable[[Images], Float[Array, "B K"]], images: Images, label: Int[Array, "B"]) -> Float[Array, "B H W"]:
    """max_c |∂S_y/∂x_c| at each pixel, over the colours c: how much the score of class y answers to a change of it.

    S is what comes before the softmax. Raises `InputError` for images that are no floats, and for labels that are no classes; inside
    jit, where nobody can look at them, these make NaN.
    Simonyan et al. 2014, arXiv:1312.6034, section 3; lecture row 109.
    """
    _check_images(images)
    gradient = jax.grad(lambda x: _score(scores(x), label))(images)
    return jnp.abs(gradient).max(-1)


def grad_cam(
    above: Callable[[Float[Array, "B P Q O"]], Float[Array, "B K"]], maps: Float[Array, "B P Q O"], label: Int[Array, "B"]
) -> Float[Array, "B P Q"]:
    """max(0, Σ_k α_k A^k) with α_k = (1/PQ) Σ_pq ∂S_y/∂A^k_pq: where the maps A hold what speaks for class y.

    All black, 0 at every place, where Σ_k α_k A^k is nowhere above 0: by this measure nothing in the image speaks for the class.
    `above` is the net from the maps to the scores S before the softmax; `let_through` and `jaxnn.models.apply_changed`
    make it of a Linen net. Raises `InputError` for a layer without places, and for labels that are no classes, as `saliency` does.
    Selvaraju et al. 2017, arXiv:1610.02391, eqs. 1 and 2; lecture row 109.
    """
    _check_maps(maps)
    gradient = jax.grad(lambda maps: _score(above(maps), label))(maps)
    return relu(jnp.einsum("bpqk,bk->bpq", maps, gradient.mean((1, 2))))


def let_through(maps: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Activations A ≥ 0 as weighted sums z with max(0, z) = A, to rounding, and ∂max(0, z)/∂A = 1 for all of them.

    A silent unit stands at the least normal number and not at 0, where a ReLU has the slope 0: handed to
    `jaxnn.models.apply_changed` in place of a layer's sums they give ∂S/∂A, whose entries of silent units ∂S/∂z does not have.

    >>> jax.grad(lambda maps: relu(let_through(maps)).sum())(jnp.array([0.0, 2.0]))
    Array([1., 1.], dtype=float32)
    """
    return maps + jnp.finfo(maps.dtype).tiny


class Maximised(NamedTuple):
    """What `maximise` comes to."""

    image: Float[Array, "H W C"]
    activation: Float[Array, "T"]
    """Before each step, of the image where it stands, jitter and all."""


def maximise(
    key: PRNGKeyArray,
    activation: Callable[[Float[Array, "H W C"]], Float[Array, ""]],
    start: Float[Array, "H W C"],
    *,
    steps: int,
    learning_rate: float | Float[Array, ""],
    pull: float | Float[Array, ""] = 0.0,
    jitter: int = 0,
    between: tuple[float, float] = (-jnp.inf, jnp.inf),
) -> Maximised:
    """x ← x + η ∂/∂x [a(x) - λ‖x - x_0‖²] from x_0 = `start`, each pixel kept `between` two numbers: the image that a unit answers to most.

    η is `learning_rate`, λ `pull`. `jitter` moves the image by up to so many pixels before each step, drawn anew, and back after it: a
    pattern that answers at one place alone does not last. For many units at once, `vmap` it over what `activation` closes over.
    Raises `InputError` for a start that is no image of floats, and for an activation that is more than one number.
    Erhan et al. 2009; Simonyan et al. 2014, arXiv:1312.6034, section 2, with x_0 = 0; Mordvintsev et al. 2015 (jitter). Lecture row 109.

    >>> best = maximise(jax.random.key(0), lambda x: 3 * x.sum(), jnp.ones((1, 1, 1)), steps=100, learning_rate=0.1, pull=0.5)
    >>> best.image.ravel().round(3)  # x_0 + w/(2λ)
    Array([4.], dtype=float32)
    """
    if steps < 1 or jitter < 0:
        raise InputError(f"maximise needs steps of at least 1 and jitter of at least 0, got steps={steps} and jitter={jitter}")
    _check_images(start, "H, W, C")

    def objective(x: Array, shift: Array) -> tuple[Array, Array]:
        value = activation(jnp.roll(x, shift, (0, 1)))
        if jnp.ndim(value):
            raise InputError(
                f"activation must give one number, that of a unit, or a mean of several; it gives an array of shape {value.shape}"
            )
        return value - pull * jnp.square(x - start).sum(), value

    def step(x: Array, t: Array) -> tuple[Array, Array]:
        shift = jax.random.randint(jax.random.fold_in(key, t), (2,), -jitter, jitter + 1)
        gradient, value = jax.grad(objective, has_aux=True)(x, shift)
        return jnp.clip(x + learning_rate * gradient, *between), value

    return Maximised(*lax.scan(step, start, jnp.arange(steps)))


def _score(scores: Array, label: Array) -> Float[Array, ""]:
    """Σ_b S_by of each image's class y = label_b."""
    if scores.ndim != 2:
        raise InputError(f"scores (B, K) are wanted, a number a class, got an array of shape {scores.shape}")
    if label.shape != scores.shape[:1] or not jnp.issubdtype(label.dtype, jnp.integer):
        raise InputError(f"label must be {len(scores)} whole numbers, a class an image; got {label.dtype} of shape {label.shape}")
    return (scores * one_of_c(label, scores.shape[1])).sum()


def _check_images(images: Array, axes: str = "B, H, W, C") -> None:
    if images.ndim != axes.count(",") + 1:
        raise InputError(f"images ({axes}) are wanted, got an array of shape {images.shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"images are {images.dtype}, along which there is no gradient; the net learnt from floats, x.astype(float) / 255 say"
        )


def _check_maps(maps: Array) -> None:
    if maps.ndim != 4:
        hint = "; its units, y[:, None, None], are maps of one place each" if maps.ndim == 2 else ""
        raise InputError(f"maps (B, P, Q, O) are wanted, got an array of shape {maps.shape}, as of a layer without places{hint}")


def _check_channel(channel: Any, maps: int) -> None:
    """Where it is a number: inside jit nobody can look at it."""
    if isinstance(channel, jax.core.Tracer):
        return
    if jnp.ndim(channel) or not jnp.issubdtype(jnp.result_type(channel), jnp.integer):
        raise InputError(f"channel must be the number of a map, got {channel}")
    if not 0 <= channel < maps:
        raise InputError(f"channel {channel} is outside the layer's {maps} maps, 0 to {maps - 1}")
