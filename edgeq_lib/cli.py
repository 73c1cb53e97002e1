"""The command line `edgeq`. It imports nothing heavy, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import yaml

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
    try:
        {
            "run": _run,
            "list": _list,
            "show": _show,
            "publish": _publish,
            "add-peer": _add_peer,
            "export-bench": _export_bench,
            "import-bench": _import_bench,
        }[given.command](given)
    except EdgeqError as error:
        print(f"edgeq: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `edgeq show NAME | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(
            "\nedgeq: stopped; finished stages and training epochs are kept, the same command "
            "goes on from there.",
            file=sys.stderr,
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeq", description="Compress image models and measure what it costs and buys."
    )
    commands = parser.add_subparsers(dest="command", required=True)
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
    for name, text in (
        ("show", "print a study's table of variants"),
        ("publish", "copy a study's report to figures/"),
    ):
        commands.add_parser(name, help=text).add_argument("study")
    _peer_and_board_commands(commands)
    return parser


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


def _results(name: str) -> tuple[Any, dict]:
    for folder in (runs() / name / "report", home() / "figures" / name):
        if (folder / "results.json").exists():
            return folder, read_json(folder / "results.json")
    raise EdgeqError(f"Study '{name}' has no report yet; `edgeq run {name}` makes it.")


def _print(name: str) -> None:
    from edgeq_lib.report.text import recommendation_text, terminal_table

    folder, results = _results(name)
    print(f"\n{recommendation_text(results)}\n\n{terminal_table(results)}\n")
    shown = folder.relative_to(home()) if folder.is_relative_to(home()) else folder
    print(f"Report: {shown}/report.html (also report.pdf, report.md, results.json, results.csv)")


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

    machine = remote.import_results(given.study, Path(given.file))
    print(
        f"Measurements of '{machine}' are on the shelf; `edgeq run {given.study}` puts them into "
        "the report."
    )


def _publish(given: argparse.Namespace) -> None:
    from edgeq_lib.report.publish import publish_study

    for line in publish_study(given.study):
        print(line)
    print(f"Published in figures/{given.study}; commit it.")


if __name__ == "__main__":
    sys.exit(main())
