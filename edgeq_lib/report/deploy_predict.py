"""Name what photos show, one line a photo: python predict.py photo.jpg …   (needs numpy, Pillow, ai-edge-litert)"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

here = Path(__file__).parent
how, labels = (
    json.loads((here / "preprocess.json").read_text()),
    (here / "labels.txt").read_text("utf-8").split("\n"),
)
network = Interpreter(str(here / "model.tflite"), num_threads=1)
network.allocate_tensors()
[into], [out], (height, width) = (
    network.get_input_details(),
    network.get_output_details(),
    how["image_size"],
)
for path in sys.argv[1:]:
    image, box = ImageOps.exif_transpose(Image.open(path)), None
    if image.mode.startswith("I"):  # 16 bits
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB").convert("L" if how["channels"] == 1 else "RGB")
    if how["aspect"] == "crop":  # the middle, as ImageNet evaluation takes it
        zoom = max(height / image.height, width / image.width) * 256 / 224
        left, top = (image.width - width / zoom) / 2, (image.height - height / zoom) / 2
        box = (left, top, image.width - left, image.height - top)
    pixels = np.float32(image.resize((width, height), Image.Resampling.BILINEAR, box)).reshape(
        height, width, -1
    )
    x = ((pixels[..., ::-1] if how["bgr"] else pixels) - np.float32(how["mean"])) / np.float32(
        how["std"]
    )
    if np.issubdtype(into["dtype"], np.integer):
        x = np.clip(
            np.rint(x / how["input"]["scale"]) + how["input"]["zero_point"], *how["input"]["range"]
        )
    network.set_tensor(into["index"], x[None].astype(into["dtype"]))
    network.invoke()
    scores = network.get_tensor(out["index"])[0]
    best = int(scores.argmax())
    score = (float(scores[best]) - how["output"]["zero_point"]) * how["output"]["scale"]
    print(f"{path}\t{labels[best]}\t{score:.6g}")
