"""What a notebook works with: the study's shelf, its images, preprocessing and baseline."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgeq_lib import targets
from edgeq_lib.files import CannotTake, runs
from edgeq_lib.pipeline.runner import run_study
from edgeq_lib.study import Study, Variant, left_out

if TYPE_CHECKING:
    from edgeq_lib.data.dataset import Data
    from edgeq_lib.models.preprocessing import Preprocessing


class Stage(Study):
    """A study, opened by the notebook that is one of its stages; data are read when asked for.

    Attributes:
        target: Where files are to run, which decides the form in which they are saved; None for
            anywhere.
    """

    target: targets.Target | None = None

    @cached_property
    def data(self) -> Data:
        """Train, validation, test and calibration images, memory-mapped."""
        from edgeq_lib.data import dataset

        return dataset.load(self)

    @cached_property
    def baseline(self) -> dict[str, Any]:
        """The record of the float model: how it was made, its preprocessing and augmentation."""
        return self.read("baseline")

    @cached_property
    def preprocess(self) -> Preprocessing:
        """How uint8 pixels become the network's float32 input."""
        from edgeq_lib.models.preprocessing import Preprocessing

        return Preprocessing(**self.baseline["preprocessing"])

    @cached_property
    def float32(self) -> Variant:
        """The float flatbuffer that every variant is made from and compared with."""
        return self.variant("float32")

    def save_variant(self, name: str, model: bytes, **facts: Any) -> Variant:
        """Put a variant on the shelf, in the form that the target runs (`tflite.forms`)."""
        if self.target is not None:
            from edgeq_lib.tflite.forms import for_target

            model = for_target(model, self.target)
        return super().save_variant(name, model, **facts)

    def open_targets(self, *names: str) -> list[targets.Target]:
        """Open targets, each once; `targets.ANY` is none. Their files are noted as read."""
        named = [name for name in dict.fromkeys(names) if name != targets.ANY]
        self.note_sources(*(str(targets.path_of(name)) for name in named))
        return [targets.load(name) for name in named]


def open_study(name: str, stage: str, needs: str = "", target: str = targets.ANY) -> Stage:
    """Open a study for the notebook `stage`.

    Opened by hand, before the stage that it `needs` has ever run, the earlier notebooks of
    `studies/NAME.yaml` run first, so that each notebook works from top to bottom anywhere.

    Args:
        name: The study, `runs/NAME`.
        stage: The notebook at work, `03_ptq`.
        needs: The stage whose results it needs, `02_baseline`; none by default.
        target: The target whose form the files of this notebook take.

    Returns:
        The study with its data, preprocessing and baseline at hand.

    Raises:
        EdgeqError: When an earlier notebook fails, for a reason that the user can mend.
        CannotTake: When the stage that it needs was left out.
    """
    by_hand = "EDGEQ_STAGE_KEY" not in os.environ
    if needs and by_hand and not (runs() / name / "stages" / f"{needs}.json").exists():
        run_study(name, before=stage, say=lambda text: print(text, file=sys.stderr))
    opened = Stage(name, stage)
    opened.target = next(iter(opened.open_targets(target)), None)
    _leave_out_where_it_cannot_take(opened)
    if needs in left_out(opened.folder):
        raise CannotTake(f"It needs {needs}, which was left out: {opened.left_out()[needs]}")
    return opened


def _leave_out_where_it_cannot_take(stage: Stage) -> None:
    """In a kernel: a cell that ends in `CannotTake` closes the stage with that reason."""
    kernel = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if kernel is None:
        return

    def close(shell: Any, kind: Any, error: Exception, trace: Any, tb_offset: Any = None) -> None:
        stage.leave_out(str(error))
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)

    kernel.set_custom_exc((CannotTake,), close)
