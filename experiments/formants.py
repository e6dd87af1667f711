"""Generated /ba/, /di/, /gu/ …: 15 frames of 10 ms in 16 mel channels, in which only the second formant tells the consonants apart.

A voiced stop is a closure, with no more than a low hum, and an opening, from where the formants glide to those of the vowel. Where the
second one comes from is the consonant's: it points to a locus of 720 Hz for b, 1800 for d and 3000 for g, and is half-way between locus
and vowel when the mouth opens (Delattre, Liberman, Cooper 1955, doi:10.1121/1.1908024). So the same frequency at the opening may be
d before a and b before i; what decides is where the formant moves, within some 50 ms. What else varies: the vowel, one of five,
and how it is spoken; the length of the speaker's vocal tract, which moves all frequencies together; how fast the glide is and how loud
each formant; when the mouth opens, within a frame; noise.

These are no recordings, and their numbers are not to be held beside those of recorded speech.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnn.types import Batch

CLASSES = ("b", "d", "g")
FRAMES, CHANNELS = 15, 16
OPENING = 6.0
"""The frame by which the mouth has opened in a token that is not shifted."""
LOCI = (720.0, 1800.0, 3000.0)
"""Of the second formant, Hz, one a class."""
VOWELS = ((750.0, 1200.0, 2500.0), (300.0, 2250.0, 3000.0), (330.0, 1250.0, 2300.0), (480.0, 1850.0, 2550.0), (480.0, 850.0, 2450.0))
"""The first three formants of a, i, u, e and o, Hz."""
RANGE = (150.0, 5000.0)
"""Of the channels' centres, Hz."""
WIDTH = 130.0
"""Of a formant as the channels hear it, mel; the next channel is 143 away."""
FLOOR, HUM = 0.02, 0.15
"""Energies of silence, and of the hum in the lowest channel; a formant's peak is about 1."""


class Voice(NamedTuple):
    """How a token is spoken, apart from its consonant."""

    vowel: Float[Array, "3"]
    """Its formants, Hz."""
    tract: Float[Array, ""]
    """Factor of all frequencies; a short vocal tract has a high one."""
    glide: Float[Array, ""]
    """Time constant of the formants' glide, frames."""
    loudness: Float[Array, "3"]
    """Of the formants."""
    early: Float[Array, ""]
    """By how much the mouth opens before a frame's begin."""


def mel(hertz: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """m = 2595 log₁₀(1 + f/700), in which what sounds equally far apart lies so.

    >>> f"{mel(jnp.array(1000.0)):.0f}"
    '1000'
    """
    return 2595 * jnp.log10(1 + hertz / 700)


def centres() -> Float[Array, "C"]:
    """Of the channels, in mel, equally far apart."""
    lowest, highest = mel(jnp.array(RANGE))
    return jnp.linspace(lowest, highest, CHANNELS)


def draw_voice(key: PRNGKeyArray) -> Voice:
    vowel, spoken, tract, glide, loudness, early = jax.random.split(key, 6)
    return Voice(
        jnp.array(VOWELS)[jax.random.randint(vowel, (), 0, len(VOWELS))] * jnp.exp(0.06 * jax.random.normal(spoken, (3,))),
        jnp.exp(0.08 * jax.random.normal(tract)),
        jax.random.uniform(glide, minval=1.5, maxval=3.0),
        jnp.array([1.0, 0.7, 0.5]) * jnp.exp(0.2 * jax.random.normal(loudness, (3,))),
        jax.random.uniform(early),
    )


def formants(label: Array, voice: Voice, time: Float[Array, "T"]) -> Float[Array, "T 3"]:
    """F(t) = v + (F(0) - v) e^(-t/τ), in Hz, t frames after the opening: the first from 200 Hz, the third the vowel's own throughout."""
    opening = jnp.array([200.0, 0.0, 0.0]).at[1:].set(voice.vowel[1:])
    opening = opening.at[1].set((jnp.array(LOCI)[label] + voice.vowel[1]) / 2)
    gone = jnp.exp(-jnp.maximum(time, 0) / voice.glide)
    return voice.tract * (voice.vowel[None] + gone[:, None] * (opening - voice.vowel)[None])


def energy(label: Array, voice: Voice, time: Float[Array, "T"]) -> Float[Array, "T C"]:
    """Of each channel, t frames after the opening: silence, a hum in the lowest, and from 0 on, in some ten milliseconds, the formants.

    A formant is heard in a channel by e^(-½ (Δ/WIDTH)²), Δ being how far apart they are in mel.
    """

    def heard(peak: Float[Array, "*any"]) -> Float[Array, "*any C"]:
        apart = peak[..., None] - jnp.broadcast_to(centres(), (*peak.shape, CHANNELS))
        return jnp.exp(-0.5 * (apart / WIDTH) ** 2)

    opened = 1 - jnp.exp(-jnp.maximum(time, 0) / 0.7)
    voiced = jnp.sum(voice.loudness[None, :, None] * heard(mel(formants(label, voice, time))), axis=1)
    return FLOOR + HUM * heard(centres()[0])[None] + opened[:, None] * voiced


def token(key: PRNGKeyArray, label: Array, shift: Array, noise: float) -> Float[Array, "T C"]:
    """The logarithm of the channels' energies, in -1 … 1, of a token whose mouth opens `shift` frames after frame `OPENING`, or earlier."""
    voice_key, noise_key = jax.random.split(key)
    voice = draw_voice(voice_key)
    heard = jnp.log(energy(label, voice, jnp.arange(FRAMES) - (OPENING + shift - voice.early)))
    return in_range(heard + noise * jax.random.normal(noise_key, heard.shape))


def in_range(x: Float[Array, "T C"]) -> Float[Array, "T C"]:
    """Less the mean over the token, then in -1 … 1; so it is the same however loud the token is."""
    x = x - x.mean()
    return x / jnp.abs(x).max()


def draw(key: PRNGKeyArray, count: int, shift: Array, noise: float) -> Batch:
    """`count` tokens of b, d and g in turn: `x` (N, 15, 16) and `label` (N,). `shift` is one for all of them, or (N,)."""
    label = jnp.arange(count) % len(CLASSES)
    shift = jnp.broadcast_to(jnp.asarray(shift, jnp.float32), (count,))
    x = jax.vmap(token, (0, 0, 0, None))(jax.random.split(key, count), label, shift, noise)
    return {"x": x, "label": label}
