"""The command line `edgeq`. It imports nothing heavy, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from edgeq_lib import targets
from edgeq_lib.files import EdgeqError, home, read_json, runs
from edgeq_lib.pipeline import config
from edgeq_lib.pipeline.runner import interruptible, run_study


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without the program's name; None for the process's own.

    Returns:
        The exit status: 0 done, 1 a mistake that the message says how to mend, 130 stopped.
    """
    given = _parser().parse_args(arguments)
    given.words = sys.argv[1:] if arguments is None else arguments
    try:
        {
            "compress": _compress,
            "new": _new,
            "run": _run,
            "list": _list,
            "targets": _targets,
            "show": _show,
            "publish": _publish,
            "add-peer": _add_peer,
            "export-bench": _export_bench,
            "import-bench": _import_bench,
            "bench": _bench,
        }[given.command](given)
    except EdgeqError as error:
        print(f"edgeq: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `edgeq show NAME | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stop:
        said = str(stop) or (
            "stopped; finished stages and training epochs are kept, the same command goes on from "
            "there."
        )
        print(f"\nedgeq: {said}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeq", description="Compress image models and measure what it costs and buys."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _new_study_commands(commands)
    one = commands.add_parser(
        "run", help="run the stages of a study that are not current, then show its result"
    )
    one.add_argument("study", help="a name in studies/, or the path of your own YAML file")
    one.add_argument(
        "--only", default="", metavar="STAGE", help="this stage alone (03_ptq, ptq or 03)"
    )
    one.add_argument(
        "--from", default="", metavar="STAGE", dest="start", help="this stage and those after it"
    )
    one.add_argument("--force", action="store_true", help="also the stages that are current")
    one.add_argument(
        "-p",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="overrides",
        help="set a parameter: -p qat.epochs=2; the value is YAML",
    )
    commands.add_parser("list", help="the studies, and how far each has come")
    commands.add_parser("targets", help="the targets that a file can be made and judged for")
    for name, text in (
        ("show", "print a study's table of variants"),
        ("publish", "copy a study's report to figures/"),
    ):
        commands.add_parser(name, help=text).add_argument("study")
    _peer_and_board_commands(commands)
    return parser


def _new_study_commands(commands: Any) -> None:
    for name, text in (
        (
            "compress",
            "compress your own model: from a model file and photos to a report and a file",
        ),
        ("new", "write the study file that `compress` would run, without running it"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("model", help="a model file, or a name of the zoo")
        one.add_argument(
            "--data", required=True, help="a folder with one folder per class, or a data set's name"
        )
        one.add_argument(
            "--preprocessing",
            metavar="NAME",
            help="how a model file wants its pixels: none (0 to 255), unit (0 to 1), signed (-1 to "
            "1), torch or caffe; by default the one that suits validation images best",
        )
        one.add_argument(
            "--max-drop",
            type=float,
            default=1.0,
            metavar="POINTS",
            help="points of top-1 accuracy that may be lost (1.0)",
        )
        one.add_argument(
            "--objective",
            choices=("smallest", "fastest", "accurate", "simplest"),
            default="smallest",
            help="which of the files that lose no more is shipped: the smallest, the fastest, the "
            "most accurate, or that of the simplest technique (smallest)",
        )
        one.add_argument(
            "--target",
            default=targets.ANY,
            metavar="NAME",
            help="where the file is to run: a name that `edgeq targets` lists, or the path of a "
            "YAML file of your own; by default anywhere",
        )
        one.add_argument("--name", help="of the study; by default the model file's")
        one.add_argument(
            "-p",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            dest="overrides",
            help="a further parameter of the study: -p baseline.preprocessing=unit",
        )
        if name == "compress":
            one.add_argument(
                "--time", help="how long it may take (90s, 20m, 1h): decides what is tried"
            )


def _peer_and_board_commands(commands: Any) -> None:
    peer = commands.add_parser(
        "add-peer", help="add someone else's .tflite to a study, to be measured beside its variants"
    )
    peer.add_argument("study", help="a name in studies/, or the path of your own YAML file")
    peer.add_argument("file", help="the .tflite file")
    peer.add_argument(
        "--preprocessing",
        required=True,
        metavar="NAME",
        help="how it wants its pixels: raw (0 to 255 into an integer input), signed, unit, none, "
        "torch or caffe",
    )
    peer.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="height and width; what the file asks for by default",
    )
    peer.add_argument(
        "--class-offset",
        type=int,
        default=0,
        metavar="N",
        help="leading outputs that are no class: 1 where class 0 is background",
    )
    peer.add_argument("--name", help="its row in the tables; by default the name of the file")
    peer.add_argument("--source", help="where it comes from")
    peer.add_argument("--licence", help="under which licence it was published")
    out = commands.add_parser(
        "export-bench", help="write a folder that measures a study's variants on another machine"
    )
    out.add_argument("study")
    out.add_argument(
        "folder", help="a new folder; copy it to the machine and run `python benchmark.py` there"
    )
    back = commands.add_parser("import-bench", help="take in what another machine measured")
    back.add_argument("study")
    back.add_argument("file", help="the cost.MACHINE.json that benchmark.py wrote")
    back.add_argument(
        "--power",
        metavar="CSV",
        help="what a power meter recorded during `benchmark.py --energy`: columns time (seconds "
        "since 1970, or ISO 8601) and watts",
    )
    over = commands.add_parser(
        "bench", help="measure a study's variants on a board over ssh, and take in the result"
    )
    over.add_argument("study")
    over.add_argument("host", metavar="user@host", help="the board, as ssh has it")
    over.add_argument(
        "--python",
        default="python3",
        metavar="PYTHON",
        help="the interpreter there: a name, or a path from the home there (python3)",
    )


def _wish(given: argparse.Namespace) -> Any:
    """What `compress` and `new` ask for, with what the model file and the folder say themselves."""
    from edgeq_lib.models.input_shape import input_shape
    from edgeq_lib.pipeline import new_study

    parameters = _overrides(given.overrides)
    model, shape, data, photos = given.model, None, given.data, 1000
    if "/" in model or Path(model).suffix or Path(model).exists():
        shape, model = input_shape(Path(model)), str(Path(model).resolve())
    if "/" in data or Path(data).is_dir():
        if not Path(data).is_dir():
            raise EdgeqError(f"There is no folder {data}; give one with a folder per class.")
        photos = sum(path.is_file() for path in Path(data).rglob("*"))
        data = str(Path(data).resolve())
    return new_study.Wish(
        model=model,
        data=data,
        preprocessing=given.preprocessing,
        image_size=parameters.pop("data.image_size", None) or _image_size(given.model, shape),
        channels=parameters.pop("data.channels", None) or _channels(shape),
        calibration=parameters.pop("data.calibration", max(2, min(200, photos // 4))),
        max_drop=given.max_drop,
        objective=given.objective,
        target=_target(given.target),
        parameters=parameters,
    )


def _target(name: str) -> str:
    """A target that exists: its name, or the path of its file, whole."""
    if name != targets.ANY:
        targets.load(name)
    return str(Path(name).resolve()) if name.endswith((".yaml", ".yml")) else name


def _channels(shape: tuple[int | None, ...] | None) -> int:
    """How many channels a network's input has; 1 where it has no such axis, 3 where unknown."""
    return 3 if shape is None else (*shape, 1)[2] or 3


def _image_size(model: str, shape: tuple[int | None, ...] | None) -> int | list[int]:
    """The image size that a network's input asks for; square ones as one number."""
    if shape is None or shape[0] is None or shape[1] is None:
        what = f"{Path(model).name} does not say" if Path(model).exists() else (
            f"There is no file {model}; if it is a name of the zoo, it does not say"
        )  # fmt: skip
        raise EdgeqError(
            f"{what} how large its images are; say it with -p data.image_size=224, or [height, "
            "width]."
        )
    return shape[0] if shape[0] == shape[1] else [shape[0], shape[1]]


def _begin(given: argparse.Namespace) -> tuple[Path, str, Any, bool]:
    """Write the study file, unless this command has: its path, the command, the wish, written."""
    from edgeq_lib.pipeline import edit_study, new_study

    command, wish = new_study.command_line(given.words), _wish(given)
    path = config.study_path(given.name or new_study.study_name(given.model))
    text = new_study.study_text(wish, command)
    written = new_study.is_written(path, command, text)
    if not written:
        edit_study.write_study(path, text)
    return path, command, wish, written


def _new(given: argparse.Namespace) -> None:
    path, *_ = _begin(given)
    print(f"{path} is written; `edgeq run {path.stem}` runs it.")


def _compress(given: argparse.Namespace) -> None:
    from edgeq_lib.pipeline import edit_study, new_study

    interruptible()
    limit = new_study.seconds(given.time) if given.time else None
    path, command, wish, written = _begin(given)
    name, say = path.stem, lambda text: print(text, flush=True)
    say(f"Study '{name}' ({path})")
    if limit and not written:
        run_study(name, before=new_study.FIRST_OPTIONAL, say=say)
        left_out = new_study.what_fits(name, limit)
        edit_study.write_study(path, new_study.study_text(wish, command, left_out))
        for section, reason in left_out.items():
            say(f"  {section} is left out: {reason}")
    try:
        run_study(name, say=say)
    finally:
        if (runs() / name / "report" / "results.json").exists():
            _print(name)
            print(f"To ship: {_shown(runs() / name / 'report' / 'deploy')}")


def _run(given: argparse.Namespace) -> None:
    interruptible()
    print(f"Study '{given.study}'")
    study = run_study(
        given.study,
        only=given.only,
        start=given.start,
        force=given.force,
        overrides=_overrides(given.overrides),
        say=lambda text: print(text, flush=True),
    )
    if (
        not given.only or given.only in "90_analysis"
    ):  # after another stage alone, the report is out of date
        _print(study.name)


def _overrides(pairs: list[str]) -> dict[str, Any]:
    overrides = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise EdgeqError(f"-p {pair} has no value; write -p name=value.")
        overrides[name] = yaml.safe_load(value)
    return overrides


def _list(_: argparse.Namespace) -> None:
    stages = [notebook.stage for notebook in config.notebooks()]
    for path in sorted((home() / "studies").glob("*.yaml")):
        done = sum((runs() / path.stem / "stages" / f"{stage}.json").exists() for stage in stages)
        published = (
            ", published" if (home() / "figures" / path.stem / "results.json").exists() else ""
        )
        print(f"{path.stem:<32} {done} of {len(stages)} stages done{published}")


def _targets(_: argparse.Namespace) -> None:
    for row in targets.table(map(targets.load, targets.names())):
        memory = f"{row['RAM']} RAM, {row['flash']} flash" if row["RAM"] != "–" else ""
        print(f"{row['target']:<16} {row['runtime']:<13} {row['what']}{memory and ': '}{memory}")


def _results(name: str) -> tuple[Any, dict]:
    for folder in (runs() / name / "report", home() / "figures" / name):
        if (folder / "results.json").exists():
            return folder, read_json(folder / "results.json")
    raise EdgeqError(f"Study '{name}' has no report yet; `edgeq run {name}` makes it.")


def _print(name: str) -> None:
    from edgeq_lib.report.text import recommendation_text, terminal_table

    folder, results = _results(name)
    print(f"\n{recommendation_text(results)}\n\n{terminal_table(results)}\n")
    print(
        f"Report: {_shown(folder)}/report.html (also report.pdf, report.md, results.json, "
        "results.csv)"
    )


def _shown(path: Path) -> Path:
    return path.relative_to(home()) if path.is_relative_to(home()) else path


def _show(given: argparse.Namespace) -> None:
    _print(given.study)


def _add_peer(given: argparse.Namespace) -> None:
    from edgeq_lib.measure import peers
    from edgeq_lib.pipeline import edit_study

    fields = ("file", "name", "preprocessing", "image_size", "class_offset", "source", "licence")
    declared = {field: value for field in fields if (value := getattr(given, field)) is not None}
    path = config.study_path(given.study)
    listed = config.load(given.study).stages.get("70_peers", {}).get("files", [])
    entry = peers.new_entry(declared, listed, path)
    edit_study.add_peer(path, entry)
    print(f"Peer '{entry['name']}' is in the study now; `edgeq run {given.study}` measures it.")


def _export_bench(given: argparse.Namespace) -> None:
    from edgeq_lib.measure import remote

    count = remote.export_folder(given.study, Path(given.folder))
    print(
        f"{count} files in {given.folder}. Copy the folder to the other machine and run there\n"
        f"  pip install numpy ai-edge-litert\n  python benchmark.py\n"
        f"then here: edgeq import-bench {given.study} cost.MACHINE.json"
    )


def _import_bench(given: argparse.Namespace) -> None:
    from edgeq_lib.measure import remote

    power = Path(given.power) if given.power else None
    _say_imported(given.study, remote.import_results(given.study, Path(given.file), power))


def _bench(given: argparse.Namespace) -> None:
    from edgeq_lib.measure import board

    interruptible()
    machine = board.bench(
        given.study, given.host, given.python, lambda text: print(text, flush=True)
    )
    _say_imported(given.study, machine)


def _say_imported(study: str, machine: str) -> None:
    print(
        f"Measurements of '{machine}' are on the shelf; `edgeq run {study}` puts them into the "
        "report."
    )


def _publish(given: argparse.Namespace) -> None:
    from edgeq_lib.report.publish import publish_study

    for line in publish_study(given.study):
        print(line)
    print(f"Published in figures/{given.study}; commit it.")


if __name__ == "__main__":
    sys.exit(main())
