"""Name what photos show, one line per photo: python predict.py photo.jpg …

Needs numpy, Pillow and ai-edge-litert; the preprocessing is, to the last bit, that of the study.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

folder = Path(__file__).parent
how = json.loads((folder / "preprocess.json").read_text())
labels = (folder / "labels.txt").read_text("utf-8").split("\n")
network = Interpreter(str(folder / "model.tflite"), num_threads=1)
network.allocate_tensors()
[input_of], [output_of] = network.get_input_details(), network.get_output_details()
height, width = how["image_size"]
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
    resized = image.resize((width, height), Image.Resampling.BILINEAR, box)
    pixels = np.asarray(resized, np.float32).reshape(height, width, -1)
    pixels = pixels[..., ::-1] if how["bgr"] else pixels
    values = (pixels - np.float32(how["mean"])) / np.float32(how["std"])
    if np.issubdtype(input_of["dtype"], np.integer):
        codes = np.rint(values / how["input"]["scale"]) + how["input"]["zero_point"]
        values = np.clip(codes, *how["input"]["range"])
    network.set_tensor(input_of["index"], values[None].astype(input_of["dtype"]))
    network.invoke()
    scores = network.get_tensor(output_of["index"])[0]
    scores = (scores.astype(float) - how["output"]["zero_point"]) * how["output"]["scale"]
    # A single output is the score of the second class.
    best = int(scores.argmax()) if len(scores) > 1 else int(scores[0] > how["even"])
    print(f"{path}\t{labels[best]}\t{scores[best if len(scores) > 1 else 0]:.6g}")
