"""Backpropagation written by hand in NumPy, float64, from lecture row 45. It shares no code with jaxnn."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forward(weights, biases, x):
    """x^l = f(W^l x^{l-1} + b^l) for every layer, all sigmoid; the input first."""
    xs = [x]
    for weight, bias in zip(weights, biases, strict=True):
        xs.append(sigmoid(xs[-1] @ weight + bias))
    return xs


def backward(weights, xs, output_delta):
    """δ^l = f'(z^l) Σ_k δ_k^{l+1} w_jk^{l+1} from the output back; returns ∂C/∂W^l and ∂C/∂b^l as means over the batch."""
    deltas = [output_delta]
    for weight, x in zip(weights[:0:-1], xs[-2:0:-1], strict=True):
        deltas.insert(0, x * (1 - x) * (deltas[0] @ weight.T))
    count = len(output_delta)
    return [x.T @ delta / count for x, delta in zip(xs[:-1], deltas, strict=True)], [delta.mean(0) for delta in deltas]


def cross_entropy_gradients(weights, biases, x, targets):
    """For the cross-entropy summed over sigmoid outputs δ^L = ŷ - y."""
    xs = forward(weights, biases, x)
    return backward(weights, xs, xs[-1] - targets)


def softmax_loss_and_gradients(weights, biases, x, targets):
    """For sigmoid hidden units, softmax outputs p and the cross-entropy, whose mean comes first, δ^L = p - y."""
    xs = forward(weights[:-1], biases[:-1], x)
    z = xs[-1] @ weights[-1] + biases[-1]
    log_p = z - z.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    return -(targets * log_p).sum(-1).mean(), backward(weights, [*xs, z], np.exp(log_p) - targets)


def squared_error_gradients(weights, biases, x, targets):
    """For ½Σ(ŷ - y)² with sigmoid outputs δ^L = f'(z)(ŷ - y): lecture row 45, erratum E6."""
    xs = forward(weights, biases, x)
    return backward(weights, xs, xs[-1] * (1 - xs[-1]) * (xs[-1] - targets))


def nielsen_norms(weights, biases, x, targets, *, learning_rate, weight_decay, epochs):
    """‖∂C/∂b^l‖ of the hidden layers before each full-batch step of gradient descent with weight decay: (epochs, layers)."""
    weights, biases = [w.astype(float) for w in weights], [b.astype(float) for b in biases]
    norms = []
    for _ in range(epochs):
        by_weight, by_bias = cross_entropy_gradients(weights, biases, x, targets)
        norms.append([np.linalg.norm(gradient) for gradient in by_bias[:-1]])
        weights = [w * (1 - learning_rate * weight_decay / len(x)) - learning_rate * g for w, g in zip(weights, by_weight, strict=True)]
        biases = [b - learning_rate * g for b, g in zip(biases, by_bias, strict=True)]
    return np.array(norms)


def online_map(grid_positions, codebook, x, rates, radii):
    """Kohonen's online rule, sample by sample in float64: w ← w + η h (x - w). Returns the codebook and each sample's distance before."""
    positions, w, distances = np.asarray(grid_positions, float), np.array(codebook, float), []
    for sample, rate, radius in zip(np.asarray(x, float), rates, radii, strict=True):
        apart = np.linalg.norm(w - sample, axis=1)
        distances.append(apart.min())
        h = rate * np.exp(-((positions - positions[apart.argmin()]) ** 2).sum(1) / (2 * radius**2))
        w += h[:, None] * (sample - w)
    return w, np.array(distances)


def batch_map(grid_positions, codebook, x, radius):
    """One step of Kohonen's batch rule in float64, every weight written out."""
    positions, w, x = np.asarray(grid_positions, float), np.array(codebook, float), np.asarray(x, float)
    won = np.linalg.norm(x[:, None] - w, axis=-1).argmin(1)
    h = np.exp(-((positions[:, None] - positions[won]) ** 2).sum(-1) / (2 * radius**2))
    return (h @ x) / h.sum(1, keepdims=True)


def minisom_of(grid, codebook, **settings):
    """A MiniSom of the same geometry with this codebook; its first index is the place in a row. Hexagons need an odd number of rows."""
    from minisom import MiniSom

    hexagonal = grid.rows > 1 and grid.positions[grid.columns, 0] > 0
    assert not hexagonal or grid.rows % 2, "MiniSom shifts the last row and every other one before it, jaxnn the second"
    theirs = MiniSom(grid.columns, grid.rows, codebook.shape[1], topology="hexagonal" if hexagonal else "rectangular", **settings)
    theirs._weights = np.array(codebook, float).reshape(grid.rows, grid.columns, -1).transpose(1, 0, 2).copy()
    return theirs


def minisom_codebook(theirs):
    """Its weights in jaxnn's order of the units."""
    return theirs.get_weights().transpose(1, 0, 2).reshape(-1, theirs.get_weights().shape[-1])


def gradients_of_any(weights, biases, x, f, slope, output_delta):
    """∂E/∂W^l and ∂E/∂b^l, means over the batch, example by example and unit by unit, for hidden units f of slope f' and δ^L(z)."""
    by_weight, by_bias = [np.zeros_like(w) for w in weights], [np.zeros_like(b) for b in biases]
    for number, example in enumerate(x):
        zs, xs = [], [example]
        for weight, bias in zip(weights, biases, strict=True):
            zs.append(np.array([xs[-1] @ weight[:, j] + bias[j] for j in range(len(bias))]))
            xs.append(f(zs[-1]))
        delta = output_delta(zs[-1], number)
        for layer in reversed(range(len(weights))):
            by_weight[layer] += np.outer(xs[layer], delta) / len(x)
            by_bias[layer] += delta / len(x)
            if layer:
                sums = [sum(weights[layer][j, k] * delta[k] for k in range(len(delta))) for j in range(len(weights[layer]))]
                delta = slope(zs[layer - 1]) * np.array(sums)
    return by_weight, by_bias
