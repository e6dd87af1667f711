"""LeNet-5 in NumPy, one image at a time: forwards, and what is sent back to the pixels by stored switches and turned filters."""

import numpy as np


def correlate(x, kernel):
    """y_pqo = Σ_abc x_{p+a, q+b, c} w_abco of one image, place by place."""
    rows, columns = (n - len(kernel) + 1 for n in x.shape[:2])
    y = np.zeros((rows, columns, kernel.shape[3]))
    for p in range(rows):
        for q in range(columns):
            y[p, q] = np.tensordot(x[p : p + len(kernel), q : q + len(kernel)], kernel, 3)
    return y


def transposed(signal, kernel, padding=0):
    """What correlates with the turned filters, their maps exchanged; the zeros around the image below are cut off."""
    k = len(kernel)
    below = correlate(np.pad(signal, ((k - 1, k - 1), (k - 1, k - 1), (0, 0))), kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    return below[padding : len(below) - padding, padding : below.shape[1] - padding]


def pooled(x):
    """Maxima of 2×2 windows, and where they were: the first by rows."""
    rows, columns, maps = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    y, switches = np.zeros((rows, columns, maps)), {}
    for p, q, c in np.ndindex(rows, columns, maps):
        window = x[2 * p : 2 * p + 2, 2 * q : 2 * q + 2, c]
        i, j = np.unravel_index(window.argmax(), (2, 2))
        y[p, q, c], switches[p, q, c] = window[i, j], (2 * p + i, 2 * q + j, c)
    return y, switches


def unpooled(signal, switches, shape):
    x = np.zeros(shape)
    for place, switch in switches.items():
        x[switch] = signal[place]
    return x


def forward(params, image):
    """z of C1, of C3, and both poolings' (maxima, switches)."""
    z1 = correlate(np.pad(image, ((2, 2), (2, 2), (0, 0))), params["c1"]["kernel"]) + params["c1"]["bias"]
    pool1 = pooled(np.maximum(z1, 0))
    z3 = correlate(pool1[0], params["c3"]["kernel"]) + params["c3"]["bias"]
    return z1, pool1, z3, pooled(np.maximum(z3, 0))


def scores(params, maps):
    """Dense layers over pooled maps (P, Q, O): logits, and the weighted sums on the way."""
    z5 = maps.ravel() @ params["c5"]["kernel"] + params["c5"]["bias"]
    z6 = np.maximum(z5, 0) @ params["f6"]["kernel"] + params["f6"]["bias"]
    return np.maximum(z6, 0) @ params["output"]["kernel"] + params["output"]["bias"], z5, z6


def projected(params, image, channel, rule):
    z1, (_, switches), z3, _ = forward(params, image)
    signal = np.zeros_like(z3)
    place = np.unravel_index(z3[..., channel].argmax(), z3.shape[:2])
    signal[(*place, channel)] = max(z3[(*place, channel)], 0)
    signal = unpooled(transposed(signal, params["c3"]["kernel"]), switches, z1.shape)
    return transposed(rule(signal, z1), params["c1"]["kernel"], padding=2)


def cam(params, image, label):
    """δ of the logit down to the pooled maps, put back where the maxima were, without asking whether the unit was active."""
    z3, (maps, switches) = forward(params, image)[2:]
    _, z5, z6 = scores(params, maps)
    below = params["f6"]["kernel"] @ (params["output"]["kernel"][:, label] * (z6 > 0))
    below = params["c5"]["kernel"] @ (below * (z5 > 0))
    gradient = unpooled(below.reshape(maps.shape), switches, z3.shape)
    silent = np.abs(gradient[z3 <= 0]).sum()
    return np.maximum(np.einsum("pqk,k->pq", np.maximum(z3, 0), gradient.mean((0, 1))), 0), silent
