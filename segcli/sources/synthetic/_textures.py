"""Surfaces of the embedded 2D data: patterns on objects, and the four stuff materials of the background."""

import math

import cv2
import numpy as np

# three RGB colours a material; an image mixes them, so that neighbouring materials overlap in colour
STUFF_COLOURS = {
    "sky": ((105, 155, 220), (170, 175, 180), (215, 165, 140)),
    "grass": ((60, 115, 45), (115, 135, 60), (155, 140, 85)),
    "sand": ((205, 175, 125), (165, 140, 100), (190, 180, 160)),
    "water": ((45, 90, 135), (75, 120, 120), (135, 150, 165)),
}


def pattern(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour [h,w,3] float32, 0..255, of one random two-colour surface at coordinates u, v [h,w] in pixels."""
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    kind, strength, angle = rng.integers(6), rng.uniform(0.35, 1.0), rng.uniform(0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)  # Python floats: NumPy's would turn float32 arrays into float64
    u, v = u * cos + v * sin, v * cos - u * sin
    mix: np.ndarray
    if kind == 0:  # plain
        mix = np.zeros(u.shape, np.float32)
    elif kind == 1:  # gradient
        mix = (u - u.min()) / max(float(np.ptp(u)), 1e-6)
    elif kind == 2:  # stripes
        mix = np.sin(u * (2 * math.pi / rng.uniform(4, 9))) > 0
    elif kind == 3:  # checks
        step = math.pi / rng.uniform(4, 8)
        mix = np.sin(u * step) * np.sin(v * step) > 0
    elif kind == 4:  # speckle
        mix = rng.random(u.shape, np.float32) * 0.7
    else:  # dots
        step = rng.uniform(5, 9)
        mix = (u % step - step / 2) ** 2 + (v % step - step / 2) ** 2 < (step / 3.2) ** 2
    mix = (np.asarray(mix, np.float32) * np.float32(strength))[..., None]
    return first * (1 - mix) + second * mix


def smooth_field(size: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Random smooth field [size,size] float32, about zero mean and unit spread, with `cells` bumps a side."""
    coarse = rng.standard_normal((cells + 1, cells + 1), np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def material(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Colour [size,size,3] float32, about 0..255, of one stuff material: told apart by colour and by texture."""
    weights = rng.dirichlet((1.0, 1.0, 1.0)).astype(np.float32)
    colour = weights @ np.array(STUFF_COLOURS[name], np.float32) + rng.normal(0, 10, 3).astype(np.float32)
    slow = smooth_field(size, int(rng.integers(2, 6)), rng)
    if name == "sky":  # a vertical gradient and soft clouds
        fall = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
        level = rng.uniform(-25, 25) * fall + rng.uniform(8, 22) * slow
    elif name == "water":  # ripples, bent by the slow field
        tilt, period = rng.uniform(-0.4, 0.4), rng.uniform(3.5, 9)
        y, x = np.mgrid[:size, :size].astype(np.float32)
        level = rng.uniform(8, 22) * np.sin((y + tilt * x) * (2 * math.pi / period) + rng.uniform(1, 3) * slow)
        level += rng.uniform(3, 12) * slow
    elif name == "grass":  # blades: noise smeared along one direction near the vertical
        noise = rng.standard_normal((size, size), np.float32)
        kernel = np.zeros((7, 7), np.float32)
        lean = int(rng.integers(-1, 2))
        cv2.line(kernel, (3 - lean, 0), (3 + lean, 6), 1.0)
        level = (
            rng.uniform(18, 38) * cv2.filter2D(noise, -1, kernel / np.sqrt(kernel.sum())) + rng.uniform(3, 12) * slow
        )
    else:  # sand: fine grain on dunes
        level = rng.uniform(8, 20) * rng.standard_normal((size, size), np.float32) + rng.uniform(8, 20) * slow
    return colour + np.asarray(level, np.float32)[..., None]
