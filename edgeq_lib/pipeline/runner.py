"""The stages, run headless by papermill: what is current stays, what is not is made again."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import grimp

import edgeq_lib
from edgeq_lib.files import EdgeqError, digest, home, read_json, runs, state_of, write_json
from edgeq_lib.pipeline import config
from edgeq_lib.study import Study, left_out, shelf_state

# What these do changes no result: they run, watch and show.
_NO_MATTER = ("edgeq_lib.pipeline", "edgeq_lib.progress", "edgeq_lib.cli")
_PLOTS = "edgeq_lib.plots"


def run_study(
    name: str,
    *,
    only: str = "",
    start: str = "",
    before: str = "",
    force: bool = False,
    overrides: dict[str, Any] | None = None,
    say: Any = print,
) -> Study:
    """Run the stages of a study that are not current.

    A stage is done only when its records exist. A technique that fails does not keep the others
    from running, nor the report from being written: its error is raised at the end.

    Args:
        name: The study, or the path of its file.
        only: This stage alone.
        start: This stage and those after it.
        before: The stages before this one.
        force: Run stages that are current, too.
        overrides: Parameters, `section.key` or `key` → value.
        say: Called with each line of progress.

    Returns:
        The study.

    Raises:
        EdgeqError: For the user's mistakes, for stages that failed, and when another run holds the
            study.
    """
    file = config.load(name, overrides)
    stages = {stage: given for stage, given in file.stages.items() if not before or stage < before}
    for asked in filter(None, (only, start)):
        if _full_name(asked, stages) is None:
            raise EdgeqError(f"There is no stage '{asked}'; take one of {', '.join(stages)}.")
    command = " ".join(
        [
            "edgeq run",
            name,
            *[f"-p {key}={json.dumps(value)}" for key, value in (overrides or {}).items()],
        ]
    )
    ran, failures = 0, []
    first = (_full_name(start, stages) if start else None) or ""
    with _locked(file.name, command):
        for notebook in config.notebooks():
            stage = notebook.stage
            if stage not in file.stages:  # left out: what it made before counts no more
                (runs() / file.name / "stages" / f"{stage}.json").unlink(missing_ok=True)
                _failure(file.name, stage).unlink(missing_ok=True)
            chosen = stage in stages and (not only or stage == _full_name(only, stages))
            if not chosen or stage < first:
                continue
            key = _key(notebook, stages[stage])
            if not force and is_current(Study(file.name), stage, key):
                continue
            ran += 1
            try:
                _run_stage(file.name, notebook, stages[stage], key, command, say)
            except EdgeqError as error:
                if only or not _is_technique(stage):
                    raise
                failures.append(str(error))
                write_json(_failure(file.name, stage), {"reason": str(error)})
                say(f"  {stage:<20} failed, the study goes on without it: {error}")
    if failures:
        raise EdgeqError(" ".join(failures))
    if not ran:
        say(f"Nothing to do: every stage of '{file.name}' is current.")
    return Study(file.name)


def _is_technique(stage: str) -> bool:
    """Tell whether the rest of a study makes sense without it: all between baseline and benchmark.

    That is a matter of the notebooks' numbers.
    """
    return "02" < stage[:2] < "80"


def _failure(name: str, stage: str) -> Path:
    return runs() / name / "failures" / f"{stage}.json"


def _full_name(asked: str, stages: dict[str, Any]) -> str | None:
    return next(
        (
            stage
            for stage in stages
            if asked in (stage, stage.split("_", 1)[1], stage.split("_", 1)[0])
        ),
        None,
    )


def is_current(study: Study, stage: str, key: str) -> bool:
    """Tell whether a stage's record was made by this code from what is on the shelf now."""
    path = study.folder / "stages" / f"{stage}.json"
    if not path.exists():
        return False
    record = read_json(path)
    if record["key"] != key:
        return False
    for name, state in record["reads"].items():
        if name == "variants":
            now: str | None = shelf_state(study.on_shelf(), record["made"])
        elif name == "left_out":
            now = digest(left_out(study.folder))
        else:
            now = state_of(study.folder / name)
        if now != state:
            return False
    return all(state_of(study.folder / name) == state for name, state in record["written"].items())


def _key(notebook: config.Notebook, given: dict[str, Any]) -> str:
    return digest([notebook.code, given, source_digest(notebook.path)])


def source_digest(notebook: Path) -> str:
    """Fingerprint what a notebook imports from `edgeq_lib`, directly or not.

    Plots count where the stage keeps a figure for the report, so that a plotting fix redraws it.

    Args:
        notebook: The `.ipynb` file.

    Returns:
        A hexadecimal SHA-256 sum over the sources of these modules.
    """
    cells = [cell for cell in read_json(notebook)["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    ignored = _NO_MATTER if ".figure(" in code or "write_report(" in code else (*_NO_MATTER, _PLOTS)
    graph, waiting, sources = _import_graph(), list(_imports(code)), {}
    while waiting:
        module = waiting.pop()
        if module in sources or module not in graph.modules or module.startswith(ignored):
            continue
        sources[module] = digest(Path(_source_file(module)).read_bytes())
        waiting.extend(graph.find_modules_directly_imported_by(module))
    return digest(sources)


@functools.cache
def _import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("edgeq_lib", cache_dir=None)


def _source_file(module: str) -> Path:
    path = Path(edgeq_lib.__file__).parent.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(source: str) -> Iterator[str]:
    """The modules of edgeq_lib that a notebook's code names; IPython's own lines do not count."""
    lines = source.splitlines()
    source = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (module := node.module or "").startswith(
                "edgeq_lib"
            ):
                yield module
                yield from (f"{module}.{name.name}" for name in node.names)


@contextlib.contextmanager
def _locked(name: str, command: str) -> Iterator[None]:
    folder = runs() / name
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = filelock.FileLock(folder / ".lock"), folder / ".lock.json"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = read_json(holder) if holder.exists() else {"pid": "?", "since": "?", "command": "?"}
        raise EdgeqError(
            f"Study '{name}' is being run by process {who['pid']} since {who['since']} "
            f"(`{who['command']}`); wait for it or stop it."
        ) from None
    try:
        write_json(
            holder,
            {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": command},
        )
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _run_stage(
    name: str, notebook: config.Notebook, given: dict[str, Any], key: str, command: str, say: Any
) -> None:
    folder = runs() / name / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    partial, done = folder / f".{notebook.stage}.ipynb", folder / f"{notebook.stage}.ipynb"
    (runs() / name / "stages" / f"{notebook.stage}.json").unlink(missing_ok=True)
    _failure(name, notebook.stage).unlink(missing_ok=True)
    started = time.time()
    with (
        _watched(notebook.stage, say) as channel,
        _environment(
            EDGEQ_STAGE_KEY=key,
            EDGEQ_PROGRESS=channel,
            EDGEQ_COMMAND=command,
            PYDEVD_DISABLE_FILE_VALIDATION="1",
        ),
    ):
        _execute(notebook, given, partial, folder / f"{notebook.stage}.failed.ipynb")
    record = runs() / name / "stages" / f"{notebook.stage}.json"
    if not record.exists() or read_json(record)["key"] != key:
        raise EdgeqError(
            f"{notebook.stage} ended without its records, so it does not count as done; its last "
            "cell must call `stage.finish`."
        )
    os.replace(partial, done)
    (folder / f"{notebook.stage}.failed.ipynb").unlink(missing_ok=True)
    reason = read_json(record)["summary"].get("left_out")
    say(
        f"  {notebook.stage:<20} {time.time() - started:6.1f} s"
        + (f"  left out: {reason}" if reason else "")
    )


def _execute(
    notebook: config.Notebook, given: dict[str, Any], executed: Path, failed: Path
) -> None:
    """Write the executed notebook; one that failed is kept as `failed` and named by the error.

    One that left itself out has closed its stage, and is as good as executed.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    # Parameters are validated already, and better than papermill does.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            notebook.path,
            executed,
            given,
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            cwd=home(),
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except DeadKernelError:
        raise EdgeqError(
            f"{notebook.stage}: its process was killed, as a system does that runs out of memory; "
            "finished stages are kept, and the same command goes on from there."
        ) from None
    except PapermillExecutionError as error:
        if error.ename == "CannotTake":
            return
        os.replace(executed, failed)
        if error.ename == "EdgeqError":
            raise EdgeqError(f"{notebook.stage}: {error.evalue}") from None
        said = (error.evalue or "").split("\n")[0][:300]
        raise EdgeqError(
            f"{notebook.stage} failed with {error.ename}: {said} (the notebook that shows "
            f"where: {_shown(failed)}); finished stages are kept."
        ) from None


def _shown(path: Path) -> str:
    return str(path.relative_to(home())) if path.is_relative_to(home()) else str(path)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _watched(stage: str, say: Any) -> Iterator[str]:
    """Show what the stage reports of its progress.

    One line that changes in a terminal, one line per minute elsewhere.
    """
    over, terminal = threading.Event(), sys.stderr.isatty()
    with tempfile.TemporaryDirectory() as folder:
        channel, started = Path(folder) / "progress.json", time.time()

        def watch() -> None:
            while not over.wait(1.0 if terminal else 60.0):
                try:
                    state = json.loads(channel.read_text())
                except (OSError, ValueError):
                    state = {"label": "", "done": 0, "total": None, "eta": None}
                share = f" {state['done']}/{state['total']}" if state["total"] else ""
                eta = f", {state['eta']:.0f} s to go" if state["eta"] is not None else ""
                text = f"  {stage:<20} {time.time() - started:6.0f} s  {state['label']}{share}{eta}"
                if terminal:
                    sys.stderr.write("\r\033[K" + text[:118])
                    sys.stderr.flush()
                else:
                    say(text)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield str(channel)
        finally:
            over.set()
            thread.join()
            if terminal:
                sys.stderr.write("\r\033[K")


def interruptible() -> None:
    """Let a polite kill end like Ctrl-C: kernel stopped, lock freed, finished work kept."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
