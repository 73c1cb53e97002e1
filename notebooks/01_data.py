# %% [markdown]
# # 01 · What are the data, and may the numbers that come of them be trusted?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/01_data.ipynb)
#
# Every later figure rests on four sets of images: **train** fits weights, **calibration** (a part of train) sets the ranges of quantized activations, **validation** makes every choice, and **test** is read once, to report. This notebook makes these sets once for the whole study, shows them, and proves that none leaks into another.
#
# **Overall flow:** find the images → split and decode them once → look at them → draw the calibration set → prove the splits disjoint → keep the fingerprints.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveInt

from edgeq_lib.data.dataset import prove_disjoint
from edgeq_lib.data.prepare import prepare
from edgeq_lib.pipeline.config import Fraction, NameOrPath
from edgeq_lib.plots.data import plot_class_balance, plot_samples
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters
#
# The defaults are those of the study `quickstart`. `edgeq run` overrides them from `studies/NAME.yaml`.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to fill: runs/<study>
seed: NonNegativeInt = 0  # decides the splits and the calibration set
data: NameOrPath = "faint_digits"  # a data set by name, or a folder of class folders
splits: dict[str, str] | None = None  # sub-folders: {train: …, validation: …, test: …}
image_size: PositiveInt | list[PositiveInt] = 16  # pixels, or [height, width]
channels: PositiveInt = 3  # 1 grey, 3 RGB
validation: Fraction | PositiveInt | None = None  # a share, a number, or the data set's default
test: Fraction | PositiveInt | None = None  # likewise
limit_train: PositiveInt | None = None  # keep only so many training images
calibration: PositiveInt = 128  # images that set activation ranges
max_skipped: Fraction = 0.01  # share of images that cannot be read past which the study fails

# %% [markdown]
# ## 1 · Find, split and decode
#
# Each image is decoded and resized once, to 8-bit pixels on disk. Scaling to the network's input is the network's business and happens on the way. Unreadable images are left out and listed; unusual ones (grey, CMYK, 16-bit, animated) are converted and counted. Class folders stand in alphabetical order; where all of their names are numbers, in that of the numbers (2 before 10). What is an image is decided by its content; hidden files and folders (`.name`, `@name`, `Thumbs.db`) are passed over at any depth.

# %%
stage = open_study(study, "01_data")
manifest = prepare(stage, data=data, image_size=image_size, channels=channels, splits=splits,
                   validation=validation, test=test, limit_train=limit_train,
                   calibration=calibration, seed=seed, max_skipped=max_skipped)
train = stage.data.train

# %% [markdown]
# ## 2 · The splits
#
# How many images each split has, and how many the rarest and the most frequent class. A split that lacks a class cannot say anything about it. Fingerprints are SHA-256 sums over pixels and labels: two runs with the same fingerprint saw the same images.

# %% tags=["nbval-check-output"]
pd.DataFrame([
    {"split": name, "images": part["n"], "rarest class": min(part["per_class"]),
     "most frequent class": max(part["per_class"]), "fingerprint": part["fingerprint"][:12]}
    for name, part in manifest["splits"].items()
]).set_index("split")

# %% [markdown]
# Balance matters for what "accuracy" means: with one frequent class, guessing it already scores its share.

# %%
plot_class_balance(manifest)

# %% [markdown]
# ## 3 · Look at them
#
# Always look. Wrong labels, wrong colours and wrong crops are seen in a second here and cost a day later.

# %% tags=["photos"]
plot_samples(train.images[:24], train.labels[:24], stage.data.classes)

# %% [markdown]
# What was left out or converted on the way in. Copies of a test or validation photo leave train, and so do near-duplicates of the same class (thumbnails, resized or encoded anew); photos of fewer than 64 pixels are compared by equal pixels alone, since too many of them look alike:

# %% tags=["nbval-check-output"]
print(f"converted: {manifest['converted'] or 'none'}; copies inside a split, which stay: "
      f"{manifest['duplicates']['inside'] or 'none'}")
pd.DataFrame(manifest["left_out"], columns=["why", "n", "names"]).set_index("why")

# %% [markdown]
# ## 4 · The representative (calibration) set
#
# Static quantization must know how large each activation gets. It learns that from these images: **drawn from train only**, the same number from each class, with a seed. Their indices are kept, so that anybody can calibrate with the same ones.

# %% tags=["nbval-check-output"]
drawn = manifest["calibration"]
print(f"{drawn['n']} of {manifest['splits']['train']['n']} training images, seed {drawn['seed']}, "
      f"{min(drawn['per_class'])} to {max(drawn['per_class'])} per class; "
      f"the first indices: {drawn['indices'][:8]}")

# %% [markdown]
# Do they look like the data? A representative set of noise or of one class is a classic reason for a bad int8 model.

# %% tags=["photos"]
chosen = stage.data.calibration[:16]
plot_samples(stage.data.calibration_images[:16], train.labels[chosen], stage.data.classes)

# %% [markdown]
# ## 5 · Proof that nothing leaks
#
# Compared by content, not by file name: no image may stand in two splits. This raises an error if one does.

# %% tags=["nbval-check-output"]
shared = prove_disjoint(stage.data)
pd.Series(shared, name="images shared").to_frame()

# %% [markdown]
# ## What we know now
#
# These sentences are computed from the records. At worst, the 95 % interval of an accuracy $p$ on $n$ images reaches
#
# $$\pm\, 1.96 \sqrt{p (1 - p) / n} \;\le\; 0.98 / \sqrt{n}.$$

# %%
parts = manifest["splits"]
width = 100 * 0.98 / parts["test"]["n"] ** 0.5
Markdown(f"""**{manifest['name']}** ({manifest['form']}): {parts['train']['n']:,} train,
{parts['validation']['n']:,} validation and {parts['test']['n']:,} test images in
{len(manifest['classes'])} classes, {sum(shared.values())} shared between splits. At worst, an
accuracy on this test set is known to ± {width:.1f} points; paired comparisons resolve more.""")

# %% [markdown]
# The record closes the stage: without it, the runner does not count it as done.

# %%
stage.finish({"fingerprint": manifest["fingerprint"],
              **{name: part["n"] for name, part in parts.items()}})
