# %% [markdown]
# # 02 · How good is the float model that everything is compared with?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/02_baseline.ipynb)
#
# Compression is measured against a float32 model, so that model must be sound: trained to the end, evaluated on held-out images, and **the same in Keras and as a flatbuffer**. This notebook obtains it, trains it if asked to, exports it once, and proves that the export changed nothing.
#
# **Overall flow:** obtain a model and its preprocessing → train or fine-tune (resumable) → export the float flatbuffer → check it against Keras on real images → put it on the shelf as `float32`.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

from typing import Any, Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize.why_not import missing_parts
from edgeq_lib.measure import plausibility
from edgeq_lib.measure.accuracy import check_parity, score
from edgeq_lib.models import training, zoo
from edgeq_lib.models.network import obtain_network
from edgeq_lib.models.weights import checkpoint_bytes, save_float_model
from edgeq_lib.pipeline.config import FirstOf, Fraction, IfThere, NameOrPath, Percent
from edgeq_lib.plots.data import plot_learning_curves
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters
#
# `model` is a name of the zoo or a file of your own: Keras 2 or 3 (`.keras`, `.h5`, SavedModel), a float `.tflite`, or PyTorch (`.pt2`, written by `torch.export.save`). `epochs: 0` takes the weights as they are. Of a list of `weights` the first that exists is taken, so that a study runs with a file of yours or with the official download. `trained` names the weights that this very recipe gave once: without the file, the recipe is trained.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to fill: runs/<study>
seed: NonNegativeInt = 0  # decides initial weights and the order of images
model: NameOrPath = "resnet8"  # a zoo name, or a file: .keras, .h5, SavedModel, .tflite, .pt2
weights: FirstOf = "none"  # imagenet, none, a weights file, or a list: the first that exists
trained: IfThere = None  # weights that this recipe gave once; with them, training is skipped
alpha: PositiveFloat = 1.0  # width of the network, where it has one
preprocessing: str | dict[str, Any] | None = None  # signed, unit, none, torch, caffe, {mean, std}
expected_top1: Percent | None = None  # what you know of the model; far below it, the study stops
allow_chance: bool = False  # go on although the weights may be untrained
trusted: bool = False  # allow Lambda layers, SavedModels, pickled PyTorch objects: they run code
head_epochs: NonNegativeInt = 0  # first train the last layer alone
head_learning_rate: PositiveFloat = 1e-3  # of that phase, which spares pretrained features
epochs: NonNegativeInt = 24  # passes over the training images
learning_rate: PositiveFloat = 2e-3  # of the optimizer, at the start
optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # of all phases
schedule: Literal["constant", "cosine"] = "cosine"  # of the learning rate
batch: PositiveInt = 64  # images per step
patience: PositiveInt | None = None  # stop after so many epochs without improvement
weight_decay: NonNegativeFloat = 0.0  # decoupled from the gradient
label_smoothing: Fraction = 0.0  # share of the target that is spread over all classes
flip: bool = False  # augmentation: mirror images left to right (not digits!)
shift: NonNegativeFloat = 0.0  # augmentation: ± share, up and sideways
rotation: NonNegativeFloat = 0.02  # augmentation: ± turns
zoom: NonNegativeFloat = 0.08  # augmentation: ± share
plain_epochs: NonNegativeInt = 0  # at the end: a tenth of the learning rate, no CutMix
freeze_norms: bool = False  # keep batch-norm statistics: a thousand images would spoil them
cutmix: Fraction = 0.0  # share of steps in which a box of each image comes from another

# %% [markdown]
# ## 1 · The model and its preprocessing
#
# Weights are copied by layer name. What could not be loaded (a head for another number of classes, say) is listed, never passed over in silence. A Keras 3 network is written anew in Keras 2, and TensorFlow functions inside a network as plain layers; both are kept only where real images give the same outputs.

# %%
stage = open_study(study, "02_baseline", needs="01_data")
images = stage.data
network = obtain_network(
    model, weights, images.validation.images, len(images.classes), alpha=alpha,
    preprocessing=preprocessing, trusted=trusted, seed=seed, trained=trained)
stage.note_sources(model, weights, trained)
net, preprocess = network.keras, network.preprocessing
print("\n".join(network.loaded) or f"{model}: as it is.")

# %% [markdown]
# A file of your own may have been trained on pixels of any scaling, and the wrong one gives a wrong number without a word. So the usual ones are tried on validation images, with a paired test. Without a stated `preprocessing` the best is taken, and where the images cannot tell two apart, the study stops and asks.

# %%
choice = plausibility.Choice(preprocess)
if model not in zoo.ZOO or (preprocessing and (weights != "none" or trained)):
    choice = plausibility.settle_preprocessing(
        network.predict, *images.validation, preprocess, classes=images.classes,
        allow_chance=allow_chance, scales_inside=network.scales_inside())
preprocess = choice.preprocessing
pd.DataFrame(choice.rows).round(4) if choice.rows else Markdown("*The zoo knows its own scaling.*")

# %% tags=["nbval-check-output"]
print(f"{network.parameters():,} parameters; pixels become (x - {preprocess.mean}) / "
      f"{preprocess.std}; outputs: {network.outputs()}; "
      f"layers not loaded: {network.not_loaded or 'none'}")
pd.Series(network.census(), name="layers").to_frame().T

# %% [markdown]
# What this network cannot have, and why. All other techniques can take it.

# %%
missing = missing_parts(network)
pd.DataFrame(missing).set_index("stage") if missing else Markdown("*Every technique can take it.*")

# %% [markdown]
# ## 2 · Train
#
# A checkpoint is written each epoch, keyed by the data, the model and the hyper-parameters. Stopped and started again, training goes on where it was, and editing other code never throws it away. The best epoch **on validation** is kept.

# %%
augmentation = {"flip": flip, "rotation": rotation, "zoom": zoom, "shift": shift}
config = training.TrainingConfig(
    epochs, learning_rate, batch, seed, optimizer, schedule, patience, label_smoothing,
    weight_decay, cutmix, augmentation)
phases = training.phases_of(config, head_epochs, head_learning_rate, plain_epochs)

# %% [markdown]
# A pretrained network first gets a head that fits it (`head_epochs`), then all layers are trained, at the end perhaps on unmixed images (`plain_epochs`). With `trained` weights all phases are skipped, and so they are for a network that is a flatbuffer only.

# %%
key = {"data": images.manifest["fingerprint"],
       "model": [model, weights, alpha, preprocess.record()]}
history = [] if trained or net is None else training.fit_phases(
    net, images.train, images.validation, preprocess, phases,
    folder=stage.folder / "training", key=key, norms=not freeze_norms)
seconds = sum(epoch["seconds"] for epoch in history)

# %% [markdown]
# Curves that still rise mean that training was too short, and that every later comparison is made with a weak baseline.

# %%
plot_learning_curves(history) if history else Markdown("*Nothing was trained here.*")

# %% [markdown]
# ## 3 · The float flatbuffer, once
#
# Exported at a batch of one. All post-training variants are made from this one file, so conversion is paid once.

# %%
save_float_model(stage, net)
flatbuffer = network.to_file(anew=bool(history))
float32 = stage.save_variant("float32", flatbuffer, technique="baseline", scheme="float32",
                             engine="converter", seed=seed, seconds=round(seconds, 1))

# %% [markdown]
# The float flatbuffer is what sizes are compared with. Published ratios are often taken to the training checkpoint, which holds the optimizer's state as well: three numbers per weight instead of one. This is how large that file is here.

# %% tags=["nbval-check-output"]
checkpoint = checkpoint_bytes(net) if net is not None else None
print(f"checkpoint with Adam's state {checkpoint / 1e3:,.0f} kB: "
      f"{checkpoint / len(flatbuffer):.1f} × the float flatbuffer" if checkpoint else "none here")

# %% [markdown]
# Is it the same function? The network and the flatbuffer see the same real images: they must agree on every top-1, up to rounding. A `.tflite` file has nothing to be compared with.

# %%
parity = network.parity if net is None else check_parity(
    net, flatbuffer, images.validation.images[:256], preprocess)
pd.Series(parity, name="network against flatbuffer", dtype=float).to_frame()

# %% [markdown]
# ## 4 · How good is it?
#
# On **validation**, with a 95 % interval (Wilson). Test predictions are stored for the last notebook and not looked at here.

# %%
quality = score(stage, float32, images, preprocess)
variants_table([float32])

# %% [markdown]
# Can it be what its maker measured? The study stops here when another order of the classes explains the labels far better, when the model is no better than naming the most frequent class, or when it is far below `expected_top1`.

# %%
notes = plausibility.check_baseline(
    float32.arrays()["validation"], images.validation.labels, images.classes,
    expected_top1=expected_top1, doubts=choice.notes,
    allow_chance=allow_chance or zoo.is_random(model, weights, trained, history))
Markdown("\n".join(f"- **{note}**" for note in notes) or "Nothing speaks against it.")

# %% [markdown]
# The class that it knows worst: a small drop on average can hide a large one there.

# %%
worst = quality["validation"]["worst_class"]
print(f"worst class on validation: {worst['name']}, {worst['top1']:.1f} % of {worst['n']} images")

# %% [markdown]
# ## What we know now

# %%
now = quality["validation"]
agrees = f""" and agrees with the network on {parity['top-1 agreement %']:.1f} % of
{parity['images']} images""" if parity else ""
Markdown(f"""The float model **{network.name}** has {network.parameters():,} parameters and gets
**{now['top1']:.2f} %** ({now['low']:.2f} … {now['high']:.2f}) of {now['n']:,} validation images.
Its flatbuffer weighs {len(flatbuffer) / 1000:,.0f} kB{agrees}.""")

# %% [markdown]
# The record names all that decided the outcome.

# %%
recipe = {"optimizer": optimizer, "learning rate": learning_rate, "schedule": schedule,
          "batch": batch, "head epochs": head_epochs, "epochs": epochs,
          "plain epochs": plain_epochs, "weight decay": weight_decay,
          "label smoothing": label_smoothing, "cutmix": cutmix, "frozen batch norms": freeze_norms}
stage.write("baseline", {
    "model": model, "weights": weights, "trained": trained, "alpha": alpha, "history": history,
    "parameters": network.parameters(), "checkpoint_bytes": checkpoint,
    "preprocessing": preprocess.record(), "not_loaded": network.not_loaded, "parity": parity,
    "recipe": recipe if history else {}, "augmentation": augmentation,
    "own": model not in zoo.ZOO, "outputs": network.outputs(), "notes": notes,
    "preprocessings_tried": choice.record(), "loaded": network.loaded,
    "no_keras": network.reason, "missing_parts": missing})
stage.finish({"parameters": network.parameters(), "validation": now["top1"]})
