"""Surfaces of `scenes`: random textures on objects and grounds."""

import math

import cv2
import numpy as np

GROUNDS = ("clouds", "grain", "fibres", "tiles")
FINEST = 64  # samples along the longer side that noise is made of: its smallest bumps are a 32nd of it


def palette(rng: np.random.Generator) -> np.ndarray:
    """Two RGB colours, float32 [2,3]: from vivid to grey, from alike to unlike."""
    first = rng.uniform(0, 255, 3)
    second = first + rng.normal(0, 1, 3) * np.exp(rng.uniform(np.log(8), np.log(120)))
    both = np.stack([first, second])
    grey = both.mean(1, keepdims=True)
    colours: np.ndarray = grey + (both - grey) * rng.beta(1, 2)
    return np.clip(colours, 0, 255).astype(np.float32)


def near(colours: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Colours like the given ones, each moved by about `spread` (0..255)."""
    moved: np.ndarray = np.clip(colours + rng.normal(0, spread, colours.shape), 0, 255)
    return moved.astype(np.float32)


def surface(height: int, width: int, colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random texture, float32 [H,W,3], about 0..255, of any of the kinds that objects have."""
    kind = int(rng.integers(7))
    if kind < 3:
        return ground(GROUNDS[int(rng.integers(len(GROUNDS)))], height, width, colours, rng)
    x, y = _turned(height, width, rng)
    period = float(np.exp(rng.uniform(np.log(3), np.log(max(6, min(height, width) / 2)))))
    if kind == 3:
        mix = np.zeros((height, width), np.float32)
    elif kind == 4:  # stripes, bent
        bent = x + rng.uniform(0, 0.6) * period * noise(height, width, 1.0, rng)
        mix = np.clip(0.5 + rng.uniform(0.6, 4) * np.sin(bent * np.float32(2 * math.pi / period)), 0, 1)
    elif kind == 5:  # checks
        step = np.float32(math.pi / period)
        mix = np.clip(0.5 + 3 * np.sin(x * step) * np.sin(y * step), 0, 1)
    else:  # dots
        away = np.hypot(x % period - period / 2, y % period - period / 2)
        mix = np.clip(rng.uniform(0.2, 0.45) * period - away + 0.5, 0, 1)
    mix = np.asarray(mix + rng.uniform(0, 0.25) * noise(height, width, 0.5, rng), np.float32)[..., None]
    return colours[0] * (1 - mix) + colours[1] * mix


def ground(kind: str, height: int, width: int, colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of GROUNDS, float32 [H,W,3], about 0..255."""
    level: np.ndarray
    if kind == "clouds":
        level = 0.5 + 0.35 * noise(height, width, 1.3, rng)
    elif kind == "grain":
        level = 0.5 + 0.25 * rng.standard_normal((height, width), np.float32) + 0.15 * noise(height, width, 1.0, rng)
    elif kind == "fibres":  # noise smeared along one direction
        kernel = np.zeros((11, 11), np.float32)
        angle = rng.uniform(0, math.pi)
        reach = np.array([math.cos(angle), math.sin(angle)]) * 5
        ends = [np.round(5 + sign * reach).astype(int).tolist() for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        level = cv2.filter2D(rng.standard_normal((height, width), np.float32), -1, kernel / np.sqrt(kernel.sum()))
        level = 0.5 + 0.25 * level + 0.1 * noise(height, width, 1.0, rng)
    else:  # tiles: the nearest of scattered points
        number = int(rng.integers(6, 60))
        points = rng.uniform(0, 1, (number, 2)) * (height, width)
        marks = np.full((height, width), 255, np.uint8)
        for row, column in points.astype(int).tolist():
            marks[row, column] = 0
        away, tiles = cv2.distanceTransformWithLabels(marks, cv2.DIST_L2, 3)
        level = rng.random(number + 2).astype(np.float32)[np.minimum(tiles, number + 1)]
        level = level * np.float32(0.8) + np.float32(rng.uniform(0, 0.02)) * away
    mix = np.asarray(level, np.float32)[..., None]
    return colours[0] * (1 - mix) + colours[1] * mix


def noise(height: int, width: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of several scales, float32 [H,W], mean about 0 and spread about 1; a larger slope is smoother."""
    longest = max(height, width)
    rows, columns = (max(2, -(-side * min(longest, FINEST) // longest)) for side in (height, width))
    total = np.zeros((rows, columns), np.float32)
    power = 0.0
    for octave in range(1, 6):
        cells = 2**octave
        if cells > longest:
            break
        weight = cells**-slope
        coarse = rng.standard_normal((cells + 1, cells + 1), np.float32)
        total += np.float32(weight) * cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)
        power += weight**2
    total /= np.float32(max(math.sqrt(power) * 0.7, 1e-6))
    return cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR)


def _turned(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates x, y, float32 [H,W], turned by a random angle."""
    angle = rng.uniform(0, math.pi)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x * cos + y * sin, y * cos - x * sin
