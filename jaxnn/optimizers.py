"""Optimizers as the textbooks have them (rows 52-66), in optax's form: `init(params)`, `update(gradients, state, params)`.

g is the gradient of a mean loss at the parameters w, η = `learning_rate`, and squares, roots and quotients are elementwise.
The mean of one example is stochastic gradient descent (row 52), of all the batch form (row 53), of m what is usually meant by SGD
(row 54). S3:208-244 says epoch for iteration, sum for mean, and writes ΔE for ∇E (erratum E17; right at S1:366-369).

| optimizer | v_0 = n_0 = 0; t = 1, 2, …                                    | first three w of f(w) = w²/2, w_0 = 1, η = .1 |
|-----------|---------------------------------------------------------------|-----------------------------------------------|
| sgd       | w ← w - ηg                                                    | .9, .81, .729                                 |
| momentum  | v ← αv + ηg; w ← w - v                                        | .9, .72, .486                                 |
| nesterov  | the same with g at w - αv                                     | .9, .729, .51759 (its nesterov_iterate)       |
| adagrad   | n ← n + g²; w ← w - ηg/√(n + ε)                               | .9, .833104, .780456                          |
| rmsprop   | n ← ρn + (1 - ρ)g²; w ← w - ηg/√(n + ε)                       | .683772, .498871, .369181                     |
| adadelta  | Δ = -η g √(u + ε)/√(n + ε), n as in rmsprop, u the same of Δ² | .995528, .991009, .986465 at η = 1            |
| adam      | w ← w - η m̂/(√n̂ + ε)                                          | .9, .800412, .701586                          |

A learning rate is a number, a traced scalar, or a schedule (`jaxnn.schedules`) of the number of updates made so far, which every
state counts. Every other float may be traced too, so a grid over any of them is one vmapped program. A concrete float out of
range is an InputError. The default rates are the papers' or their authors' from Adadelta on, and customary ones before it.

Parameters and updates keep their dtype; accumulators are at least float32, since in bfloat16 ρ = .999 is 1 and a mean becomes a sum.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Integer
from optax import contrib

from jaxnn.schedules import Number, check_range
from jaxnn.types import PyTree, unknown

Rate: TypeAlias = Number | optax.Schedule
Optimizer: TypeAlias = optax.GradientTransformationExtraArgs


class SgdState(NamedTuple):
    step: Integer[Array, ""]
    """Updates made so far; the first field of all seven states."""


class MomentumState(NamedTuple):
    step: Integer[Array, ""]
    velocity: PyTree
    """v, the last step with its sign turned."""


class NesterovState(NamedTuple):
    step: Integer[Array, ""]
    ahead: PyTree
    """αv: how far the parameters look ahead of the iterate."""


class SquaresState(NamedTuple):
    step: Integer[Array, ""]
    squares: PyTree
    """n: Adagrad's sum of g², RMSprop's running mean."""


class AdadeltaState(NamedTuple):
    step: Integer[Array, ""]
    mean_square: PyTree
    mean_square_update: PyTree


class AdamState(NamedTuple):
    step: Integer[Array, ""]
    mean: PyTree
    mean_square: PyTree


def sgd(learning_rate: Rate = 0.01) -> Optimizer:
    """w ← w - ηg. Robbins & Monro 1951, doi:10.1214/aoms/1177729586; lecture rows 37 (η "generally .01"), 38 and 52-54 (E17).

    As optax.sgd and torch.optim.SGD.
    """

    def change(rate, t, g):
        return (-rate * g,)

    return _for_each_leaf(change, SgdState, learning_rate)


def momentum(learning_rate: Rate = 0.01, momentum: Number = 0.9) -> Optimizer:
    """v ← αv + ηg; w ← w - v. Polyak 1964, doi:10.1016/0041-5553(64)90137-5; lecture rows 41, 61 and 66.

    So Δw_t = -ηg + αΔw_(t-1) (Rumelhart et al. 1986, doi:10.1038/323533a0), where S2:145 has the constant μα for the second
    term (E2). The first v is η∇E, where S3:318 lacks the η (E19).
    optax.sgd and torch.optim.SGD keep η outside, v ← αv + g; w ← w - ηv: equal while η is constant. Both default to no momentum.
    """
    check_range(0, 1, momentum=momentum)

    def change(rate, t, g, v):
        v = momentum * v + rate * g
        return -v, v

    return _for_each_leaf(change, MomentumState, learning_rate)


def nesterov(learning_rate: Rate = 0.01, momentum: Number = 0.9) -> Optimizer:
    """v ← αv + η∇E(w - αv); w ← w - v, where the parameters given and updated are the look-ahead points w - αv.

    An update sees the gradient at the parameters it is given, so these are .81, .5751, .327321 where the textbook's w,
    `nesterov_iterate(params, state)`, is .9, .729, .51759. Nesterov 1983; Sutskever et al. 2013 (PMLR 28:1139); in this form
    Bengio et al. 2012, arXiv:1212.0901. Lecture row 62, whose formula is lost.
    As optax.sgd and torch.optim.SGD with nesterov=True, which keep η outside as in `momentum`: equal while η is constant.
    """
    check_range(0, 1, momentum=momentum)

    def change(rate, t, g, ahead):
        v = ahead + rate * g
        ahead = momentum * v
        return -(ahead + rate * g), ahead

    return _for_each_leaf(change, NesterovState, learning_rate)


def nesterov_iterate(params: PyTree, state: NesterovState) -> PyTree:
    """The textbook's w = (w - αv) + αv, from the look-ahead parameters and the state that belongs to them."""
    return jax.tree.map(lambda p, ahead: (p + ahead).astype(p.dtype), params, state.ahead)


def adagrad(learning_rate: Rate = 0.01, eps: Number = 1e-8) -> Optimizer:
    """n ← n + g²; w ← w - ηg/√(n + ε): large steps for rare features. Duchi et al. 2011 (JMLR 12:2121); lecture row 58.

    optax starts n at .1 with ε = 1e-7; with 0 and 1e-8 it is equal. torch.optim.Adagrad has √n + ε with ε = 1e-10: equal at ε = 0.
    """
    check_range(0, 1, eps=eps)

    def change(rate, t, g, n):
        n = n + g**2
        return -rate * g / jnp.sqrt(n + eps), n

    return _for_each_leaf(change, SquaresState, learning_rate)


def rmsprop(learning_rate: Rate = 0.001, rho: Number = 0.9, eps: Number = 1e-8) -> Optimizer:
    """n ← ρn + (1 - ρ)g²; w ← w - ηg/√(n + ε). Tieleman & Hinton 2012 (Coursera, lecture 6e); lecture row 59.

    As optax.rmsprop, ρ being its decay. torch.optim.RMSprop has √n + ε and ρ = .99, called alpha: equal at one ρ and ε = 0.
    """
    check_range(0, 1, rho=rho, eps=eps)

    def change(rate, t, g, n):
        n = rho * n + (1 - rho) * g**2
        return -rate * g / jnp.sqrt(n + eps), n

    return _for_each_leaf(change, SquaresState, learning_rate)


def adadelta(learning_rate: Rate = 1.0, rho: Number = 0.95, eps: Number = 1e-6) -> Optimizer:
    """n ← ρn + (1 - ρ)g²; Δ = -g √(u + ε)/√(n + ε); u ← ρu + (1 - ρ)Δ²; w ← w + ηΔ. Zeiler 2012, arXiv:1212.5701; row 60.

    The paper has no η: 1. S3:303 puts √w + ε for √(u + ε), the weights for the mean square of their updates (E1).
    optax and torch.optim.Adadelta default to ρ = .9; with ρ = .95 they are equal. optax.adadelta() without a rate climbs.
    """
    check_range(0, 1, rho=rho, eps=eps)

    def change(rate, t, g, n, u):
        n = rho * n + (1 - rho) * g**2
        delta = -g * jnp.sqrt(u + eps) / jnp.sqrt(n + eps)
        u = rho * u + (1 - rho) * delta**2
        return rate * delta, n, u

    return _for_each_leaf(change, AdadeltaState, learning_rate)


def adam(learning_rate: Rate = 0.001, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """m ← β₁m + (1 - β₁)g; n ← β₂n + (1 - β₂)g²; m̂ = m/(1 - β₁ᵗ); n̂ = n/(1 - β₂ᵗ); w ← w - η m̂/(√n̂ + ε).

    Kingma & Ba 2015, arXiv:1412.6980; lecture row 63, where S3:344 leaves out η, that is takes 1 (E7).
    As optax.adam and torch.optim.Adam.
    """
    check_range(0, 1, b1=b1, b2=b2, eps=eps)

    def change(rate, t, g, m, n):
        m = b1 * m + (1 - b1) * g
        n = b2 * n + (1 - b2) * g**2
        m_hat, n_hat = m / (1 - b1**t), n / (1 - b2**t)
        return -rate * m_hat / (jnp.sqrt(n_hat) + eps), m, n

    return _for_each_leaf(change, AdamState, learning_rate)


def clip_by_norm(limit: Number) -> Optimizer:
    """g ← g min(1, c/‖g‖), with one norm for the whole tree: optax.chain(clip_by_norm(1.0), sgd(0.1)). Lecture row 65.

    Pascanu et al. 2013, arXiv:1211.5063. As optax.clip_by_global_norm; torch.nn.utils.clip_grad_norm_ has ‖g‖ + 1e-6.
    """
    check_range(0, math.inf, limit=limit)

    def clip(gradients, params=None):
        scale = jnp.minimum(1, limit / optax.tree.norm(gradients))
        return jax.tree.map(lambda g: scale * g, gradients)

    return _keep_dtypes(optax.stateless(clip))


def clip_by_element(limit: Number) -> Optimizer:
    """g_i ← min(max(g_i, -c), c), which turns the gradient's direction where clip_by_norm keeps it. Lecture row 65; optax.clip."""
    check_range(0, math.inf, limit=limit)
    return _keep_dtypes(optax.stateless(lambda gradients, params: jax.tree.map(lambda g: jnp.clip(g, -limit, limit), gradients)))


def nadam(learning_rate: Rate = 0.001, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """optax.nadam: Adam with β₁m/(1 - β₁ᵗ⁺¹) + (1 - β₁)g/(1 - β₁ᵗ) for m̂. Dozat 2016 (openreview OM0jvwB8jIp57ZJjtNEZ).

    torch.optim.NAdam differs by design: it raises β₁ slowly (its momentum_decay).
    """
    check_range(0, 1, b1=b1, b2=b2)
    return _library(partial(optax.nadam, b1=b1, b2=b2, eps=eps), learning_rate)


def adamw(learning_rate: Rate = 0.001, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, weight_decay: Number = 0.01) -> Optimizer:
    """optax.adamw: w ← w - η(m̂/(√n̂ + ε) + λw). Loshchilov & Hutter 2019, arXiv:1711.05101; row 63.

    λ = `weight_decay` is .01 as in torch.optim.AdamW, which is equal; optax's default is 1e-4.
    """
    check_range(0, 1, b1=b1, b2=b2)
    return _library(partial(optax.adamw, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay), learning_rate)


def lion(learning_rate: Rate = 1e-4, b1: Number = 0.9, b2: Number = 0.99, weight_decay: Number = 0.0) -> Optimizer:
    """optax.lion: w ← w - η(sign(β₁m + (1 - β₁)g) + λw); m ← β₂m + (1 - β₂)g. Chen et al. 2023, arXiv:2302.06675.

    λ is 0 as in the authors' code; optax's default is 1e-3. Every weight moves by η, so η is a tenth to a third of Adam's.
    """
    check_range(0, 1, b1=b1, b2=b2)
    return _library(partial(optax.lion, b1=b1, b2=b2, weight_decay=weight_decay), learning_rate)


def muon(learning_rate: Rate = 0.02, beta: Number = 0.95, weight_decay: Number = 0.0) -> Optimizer:
    """optax.contrib.muon: matrices move along UVᵀ of their momentum USVᵀ, by five Newton-Schulz steps; all else by NAdamW.

    Jordan et al. 2024 (kellerjordan.github.io/posts/muon). A matrix is a leaf of two axes: Dense kernels, but no convolution's.
    Both parts have the one rate.
    """
    check_range(0, 1, beta=beta)
    return _library(partial(contrib.muon, beta=beta, weight_decay=weight_decay), learning_rate)


def schedule_free_adamw(
    learning_rate: Rate = 0.0025, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, weight_decay: Number = 0.0
) -> Optimizer:
    """optax.contrib.schedule_free_adamw: z ← z - η g/(√n̂ + ε); x ← (1 - c)x + cz; y ← β₁x + (1 - β₁)z, with c ≈ 1/t.

    Defazio et al. 2024, arXiv:2405.15682, which replaces decay by averaging. The parameters are y, where the gradient is taken;
    loss and accuracy are x's, `evaluation_point(params, state)`. β₁ must be above 0. BatchNorm's averages would be y's.
    """
    check_range(1e-9, 1, b1=b1)
    check_range(0, 1, b2=b2)
    return _library(partial(contrib.schedule_free_adamw, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay), learning_rate)


def evaluation_point(params: PyTree, state: optax.OptState) -> PyTree:
    """Where to evaluate a net: x for a state of `schedule_free_adamw`, alone or in an optax.chain, else `params` themselves."""
    is_average = lambda node: isinstance(node, contrib.ScheduleFreeState)  # noqa: E731
    for node in filter(is_average, jax.tree.leaves(state, is_leaf=is_average)):
        average = contrib.schedule_free_eval_params(node, params)
        params = jax.tree.map(lambda x, p: x.astype(p.dtype), average, params)
    return params


def prodigy(learning_rate: Rate = 1.0, b1: Number = 0.9, b2: Number = 0.999, weight_decay: Number = 0.0) -> Optimizer:
    """optax.contrib.prodigy: Adam with η times an estimate of ‖w_0 - w*‖ that grows from 1e-6; leave η at 1 or give a schedule.

    Mishchenko & Defazio 2023, arXiv:2306.06101.
    """
    check_range(0, 1, b1=b1, b2=b2)
    return _library(partial(contrib.prodigy, betas=(b1, b2), weight_decay=weight_decay), learning_rate)


def lbfgs(learning_rate: Rate = 1.0, memory_size: int = 10) -> Optimizer:
    """optax.lbfgs: a step along -H⁻¹g, H⁻¹ from the last `memory_size` steps, its length by a zoom line search that tries η first.

    Liu & Nocedal 1989, doi:10.1007/BF01589116. `update` needs value=, grad= and value_fn=, which `supervised` gives. For the full
    batch: on mini-batches its curvature is noise. Row 65: second-order information, "not encouraged".
    """
    return _library(partial(optax.lbfgs, memory_size=memory_size), learning_rate)


SEVEN = (sgd, momentum, nesterov, adagrad, rmsprop, adadelta, adam)
"""The lecture's."""
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    factory.__name__: factory for factory in (*SEVEN, nadam, adamw, lion, muon, schedule_free_adamw, prodigy, lbfgs)
}
"""Every optimizer: a factory that takes the learning rate first."""


def by_name(name: str) -> Callable[..., Optimizer]:
    """The factory of that name; an InputError names the nearest where there is none.

    >>> by_name("adam")(learning_rate=0.1).init(jnp.zeros(2)).mean
    Array([0., 0.], dtype=float32)
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def _for_each_leaf(change: Callable[..., tuple], state_type: Any, learning_rate: Rate) -> Optimizer:
    """`change(η, t, g, *accumulators) -> (Δw, *accumulators)` on every leaf; the accumulators are the state's fields after `step`."""
    check_range(0, math.inf, learning_rate=learning_rate)
    fields = len(state_type._fields)

    def init(params):
        zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(1, fields)]
        return state_type(jnp.zeros((), jnp.int32), *zeros)

    def update(gradients, state, params=None):
        rate = learning_rate(state.step) if callable(learning_rate) else learning_rate
        step = optax.safe_increment(state.step)
        leaves = zip(*map(jax.tree.leaves, (gradients, *state[1:])), strict=True)
        changes = [change(rate, step, *leaf) for leaf in leaves]
        tree = jax.tree.structure(gradients)  # jax.tree.transpose would do, but not for a tree without leaves
        updates, *accumulators = (jax.tree.unflatten(tree, [leaf[field] for leaf in changes]) for field in range(fields))
        return updates, state_type(step, *accumulators)

    return _keep_dtypes(optax.GradientTransformation(init, update))


def _library(make: Callable[..., optax.GradientTransformation], learning_rate: Rate) -> Optimizer:
    check_range(0, math.inf, learning_rate=learning_rate)
    return _keep_dtypes(make(learning_rate=learning_rate))


def _keep_dtypes(inner: optax.GradientTransformation) -> Optimizer:
    """Compute in float32 or wider and return updates in the gradients' dtype, the state in its own, whatever dtype a traced η has."""
    inner = optax.with_extra_args_support(inner)
    widen = partial(jax.tree.map, lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    cast_like = partial(jax.tree.map, lambda x, like: x.astype(like.dtype))

    def init(params):
        state = inner.init(widen(params))
        return cast_like(state, state)  # a weak type would change in the first step

    def update(gradients, state, params=None, **extra):
        extra = {name: value if callable(value) else widen(value) for name, value in extra.items()}
        updates, after = inner.update(widen(gradients), state, widen(params), **extra)
        return cast_like(updates, gradients), cast_like(after, state)

    return optax.GradientTransformationExtraArgs(init, update)
