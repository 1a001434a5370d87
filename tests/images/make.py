"""Makes the images of this folder and, with PIL, the pixels that are expected of them.

Needs numpy and Pillow. The images are gradients with a little noise, 24 columns by 16 rows.
"""
from pathlib import Path

import numpy as np
from PIL import Image

here = Path(__file__).parent
rows, columns = np.mgrid[0:16, 0:24]
noise = np.random.default_rng(7).integers(-9, 10, (16, 24, 3))
rgb = np.stack([rows * 15, columns * 10, 255 - rows * 6 - columns * 5], axis=2) + noise
image = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8), "RGB")

image.save(here / "rgb.png")
image.save(here / "rgb_420.jpg", quality=90, subsampling=2)
image.save(here / "rgb_progressive.jpg", quality=90, subsampling=0, progressive=True)
image.convert("L").save(here / "grey.jpg", quality=90)
image.convert("CMYK").save(here / "cmyk.jpg", quality=95)
for name in ["rgb.png", "rgb_420.jpg", "rgb_progressive.jpg", "grey.jpg", "cmyk.jpg"]:
    np.save(here / f"{Path(name).stem}.npy", np.asarray(Image.open(here / name).convert("RGB")))

# Resizing, smaller and larger, of both sides; and of the shorter side to 11, which makes the longer 16.
for height, width in [(7, 9), (40, 50), (11, 16)]:
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    np.save(here / f"resized_{height}x{width}.npy", np.asarray(resized))
grey = image.convert("L").resize((9, 7), Image.Resampling.BILINEAR)
np.save(here / "grey_resized_7x9.npy", np.asarray(grey))
