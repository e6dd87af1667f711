"""Supervised learning by the gradient of a mean loss."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn import losses
from jaxnn.learners.pixels import check_names, pixels
from jaxnn.models.functional import AUXILIARY
from jaxnn.optimizers import evaluation_point
from jaxnn.types import Batch, InputError, Learner, Metrics, PyTree, num_examples

Numbers: TypeAlias = float | Sequence[float] | np.ndarray | Array


class Supervised(NamedTuple):
    """The state of `supervised`."""

    variables: Mapping[str, Any]
    """`params`, and what else the model carries (BatchNorm's running averages, say)."""
    opt_state: optax.OptState


def image_and_label(batch: Batch) -> tuple[Float[Array, "B H W C"], Array]:
    """(x, y) of a batch: `pixels`, which are bytes over 255 and floats as they are, and labels as they are.

    Raises `InputError` for a batch that lacks one of them, or has no images.
    """
    check_names(batch, "image", "label")
    return pixels(batch), jnp.asarray(batch["label"])


def standardised(mean: Numbers, deviation: Numbers = 1.0) -> Callable[[Batch], tuple[Array, Array]]:
    """`preprocess` that gives (x - mean)/deviation of the x of `image_and_label`, which bytes make 0 … 1, and the labels as they are.

    Both are of one image (H, W, C), or of less that goes with it: one number a channel (C,), or one of all. Lecture row 166. Raises
    `InputError` for a deviation that is not above 0, and later for images that they do not go with.
    """
    shift, scale = np.asarray(mean, np.float32), np.asarray(deviation, np.float32)
    if not (scale > 0).all():
        raise InputError(f"deviation must be above 0 everywhere, got {scale.min()}; 1 leaves what never varies as it is")

    def preprocess(batch: Batch) -> tuple[Array, Array]:
        x, y = image_and_label(batch)
        try:
            return (x - jnp.broadcast_to(shift, x.shape)) / jnp.broadcast_to(scale, x.shape), y
        except ValueError as error:
            raise InputError(f"a mean {shift.shape} and a deviation {scale.shape} do not go with images {x.shape}") from error

    return preprocess


def labelled(batch: Batch) -> Batch:
    """A batch for `predict`, which looks at no labels: it may come without. What is no dict is for `preprocess` to take or refuse."""
    return {"label": jnp.zeros(num_examples(batch), jnp.int32), **batch} if isinstance(batch, Mapping) else batch


def no_measure(gradients: PyTree) -> Metrics:
    """Nothing to look at."""
    return {}


def apart(variables: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Array]]:
    """What a net keeps, and what it gave beside its outputs: all that it has sown under `auxiliary`."""
    return {name: values for name, values in variables.items() if name != AUXILIARY}, jax.tree.leaves(variables.get(AUXILIARY, ()))


def computed_in(dtype: DTypeLike | None, apply: Callable) -> Callable:
    """`apply` with parameters and inputs cast to `dtype`, whose outputs and variables come back in float32 and in their own dtypes.

    The parameters that the optimizer keeps, and their gradients, stay float32: mixed precision, Micikevicius et al. 2018,
    arXiv:1710.03740. bfloat16 has float32's range and needs no scaling of the loss. None changes nothing. Raises `InputError` for a
    dtype that is not of floats.
    """
    if dtype is None:
        return apply
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"compute_dtype must be one of floats, bfloat16 say, got {jnp.dtype(dtype)}")

    def lower(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    def applied(variables: Mapping[str, Any], x: Array, **how: Any) -> tuple[Array, Mapping[str, Any]]:
        outputs, after = apply({**variables, "params": lower(variables["params"])}, lower(x), **how)
        kept, heads = apart({**after, "params": variables["params"]})
        kept = jax.tree.map(lambda new, old: new.astype(old.dtype), kept, dict(variables))
        return outputs.astype(jnp.float32), {**kept, AUXILIARY: [head.astype(jnp.float32) for head in heads]}

    return applied


def check_labels_of(functions: Iterable[Callable], outputs: Array, y: Array) -> None:
    """Raise `InputError` where a function takes class labels, one a row of the outputs, and y are none, one-hot targets say."""
    if not any(map(losses.takes_labels, functions)) or (jnp.issubdtype(y.dtype, jnp.integer) and y.shape == outputs.shape[:-1]):
        return
    hint = "; these look one-hot: take the arg max, label.argmax(-1)" if y.shape == outputs.shape else ""
    raise InputError(
        f"labels must be integers of the shape {outputs.shape[:-1]}, one for each of the outputs {outputs.shape}, "
        f"got {y.dtype} of the shape {y.shape}{hint}"
    )


def supervised(
    init: Callable,
    apply: Callable,
    loss: Callable[[Array, Array], Array],
    optimizer: optax.GradientTransformation,
    *,
    preprocess: Callable[[Batch], tuple[Array, Array]] = image_and_label,
    metrics: Mapping[str, Callable[[Array, Array], Array]] | None = None,
    measure: Callable[[PyTree], Metrics] = no_measure,
    penalty: Callable[[PyTree], Array] | None = None,
    augment: Callable[[PRNGKeyArray, Array], Array] | None = None,
    auxiliary_weight: float = 0.3,
    compute_dtype: DTypeLike | None = None,
) -> Learner:
    """w ← w − optimizer(∇_w [mean_B loss(apply(w, x), y) + penalty(w)]): lecture rows 38, 40, 45 and 167.

    `init(key, x) -> variables` and `apply(variables, x, train=, rngs=) -> (outputs, new_variables)` are a model as
    `jaxnn.models.functional` gives it. `preprocess(batch) -> (x, y)` runs on the device. `loss` and the further `metrics`
    map (outputs, y) to one value an example: `step` reports their means over the batch, measured before the update,
    `evaluate` the values themselves; `predict` gives the outputs. What `measure(∂ mean loss/∂params)` returns joins the metrics of a step.
    `penalty(params)`, of `jaxnn.penalties` say, is added to what is minimised, and so to the gradient that `measure` sees; the
    metric `loss` stays the mean loss of the examples, `penalty` stands beside it.
    `augment(key, x)`, `jaxnn.distortions.distorted` say, draws x anew in every step, and never in `evaluate` and `predict`.
    Where the model sows further outputs under `auxiliary` in training (GoogLeNet's heads), `auxiliary_weight` times the mean loss of each
    is added as well, and stands as the metric `auxiliary`: 0.3 is Szegedy et al. 2015, arXiv:1409.4842, section 5.
    `compute_dtype=jnp.bfloat16` computes the net in it, with parameters, loss and updates in float32 (`computed_in`).
    Optimizers that ask for them get `value`, `grad` and `value_fn` (L-BFGS's line search); one that averages its iterates is
    evaluated at the average (`jaxnn.optimizers.evaluation_point`).
    A loss or metric of class labels (`losses.takes_labels`) raises `InputError` for targets that are none.
    """
    for name in ("loss", "penalty", "auxiliary"):
        if name in (metrics or {}):
            raise InputError(f"metrics already has a {name!r}, that of the learner; give yours another name")
    optimizer, apply = optax.with_extra_args_support(optimizer), computed_in(compute_dtype, apply)
    per_example = {"loss": loss, **(metrics or {})}

    def initialise(key: PRNGKeyArray, batch: Batch) -> Supervised:
        variables = init(key, preprocess(batch)[0])
        opt_state = jax.tree.map(lambda x: x.astype(x.dtype), optimizer.init(variables["params"]))  # a weak type would change in a step
        return Supervised(variables, opt_state)

    def step(key: PRNGKeyArray, state: Supervised, batch: Batch) -> tuple[Supervised, Metrics]:
        x, y = preprocess(batch)
        if augment is not None:
            key, augment_key = jax.random.split(key)
            x = augment(augment_key, x)
        params = state.variables["params"]

        def objective(params: PyTree) -> tuple[Array, tuple]:
            outputs, variables = apply({**state.variables, "params": params}, x, train=True, rngs={"dropout": key})
            variables, heads = apart(variables)
            check_labels_of(per_example.values(), outputs, y)
            mean, more = loss(outputs, y).mean(), {} if penalty is None else {"penalty": penalty(params)}
            if heads:
                more["auxiliary"] = auxiliary_weight * jnp.sum(jnp.array([loss(head, y).mean() for head in heads]))
            return sum(more.values(), mean), ({"loss": mean, **more}, outputs, variables)

        (value, (terms, outputs, variables)), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        again = lambda params: objective(params)[0]  # noqa: E731
        updates, opt_state = optimizer.update(gradients, state.opt_state, params, value=value, grad=gradients, value_fn=again)
        variables = {**variables, "params": optax.apply_updates(params, updates)}
        measured = {name: function(outputs, y).mean() for name, function in per_example.items() if name != "loss"}
        return Supervised(variables, opt_state), {**terms, **measured, **measure(gradients)}

    def outputs_of(state: Supervised, x: Array) -> Array:
        params = evaluation_point(state.variables["params"], state.opt_state)
        return apply({**state.variables, "params": params}, x, train=False, rngs=None)[0]

    def evaluate(key: PRNGKeyArray, state: Supervised, batch: Batch) -> Metrics:
        x, y = preprocess(batch)
        outputs = outputs_of(state, x)
        check_labels_of(per_example.values(), outputs, y)
        return {name: function(outputs, y) for name, function in per_example.items()}

    def predict(state: Supervised, batch: Batch) -> Array:
        return outputs_of(state, preprocess(labelled(batch))[0])

    return Learner(initialise, step, evaluate, predict)
