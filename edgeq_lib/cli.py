"""The command line: `edgeq run|list|show|publish`. It imports nothing heavy, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any

import yaml

from edgeq_lib import parameters, run
from edgeq_lib.study import EdgeqError, home, read_json, runs


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status (0 done, 1 a mistake that the message says how to mend, 130 stopped)."""
    parser = argparse.ArgumentParser(prog="edgeq", description="Compress image models and measure what it costs and buys.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run the stages of a study that are not current, then show its result")
    one.add_argument("study", help="a name in studies/, or the path of your own YAML file")
    one.add_argument("--only", default="", metavar="STAGE", help="this stage alone (03_ptq, ptq or 03)")
    one.add_argument("--from", default="", metavar="STAGE", dest="start", help="this stage and those after it")
    one.add_argument("--force", action="store_true", help="also the stages that are current")
    one.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                     help="set a parameter: -p qat.epochs=2; the value is YAML")
    commands.add_parser("list", help="the studies, and how far each has come")
    for name, text in (("show", "print a study's table of variants"), ("publish", "copy a study's report to figures/")):
        commands.add_parser(name, help=text).add_argument("study")
    given = parser.parse_args(arguments)
    try:
        {"run": _run, "list": _list, "show": _show, "publish": _publish}[given.command](given)
    except EdgeqError as error:
        print(f"edgeq: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `edgeq show NAME | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\nedgeq: stopped; finished stages and training epochs are kept, the same command goes on from there.",
              file=sys.stderr)
        return 130
    return 0


def _run(given: argparse.Namespace) -> None:
    run.interruptible()
    print(f"Study '{given.study}'")
    study = run.run_study(given.study, only=given.only, start=given.start, force=given.force,
                          overrides=_overrides(given.overrides), say=lambda text: print(text, flush=True))
    if not given.only or given.only in "90_analysis":  # after another stage alone, the report is out of date
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
    stages = [notebook.stage for notebook in parameters.notebooks()]
    for path in sorted((home() / "studies").glob("*.yaml")):
        done = sum((runs() / path.stem / "stages" / f"{stage}.json").exists() for stage in stages)
        published = ", published" if (home() / "figures" / path.stem / "results.json").exists() else ""
        print(f"{path.stem:<32} {done} of {len(stages)} stages done{published}")


def _results(name: str) -> tuple[Any, dict]:
    for folder in (runs() / name / "report", home() / "figures" / name):
        if (folder / "results.json").exists():
            return folder, read_json(folder / "results.json")
    raise EdgeqError(f"Study '{name}' has no report yet; `edgeq run {name}` makes it.")


def _print(name: str) -> None:
    from edgeq_lib import report
    folder, results = _results(name)
    print(f"\n{report.sentence(results)}\n\n{report.table(results)}\n")
    shown = folder.relative_to(home()) if folder.is_relative_to(home()) else folder
    print(f"Report: {shown}/report.html (also report.pdf, report.md, results.json, results.csv)")


def _show(given: argparse.Namespace) -> None:
    _print(given.study)


def _publish(given: argparse.Namespace) -> None:
    source = runs() / given.study / "report"
    if not (source / "results.json").exists():
        raise EdgeqError(f"Study '{given.study}' has no report yet; `edgeq run {given.study}` makes it.")
    target = home() / "figures" / given.study
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    print(f"Published in figures/{given.study}; commit it.")


if __name__ == "__main__":
    sys.exit(main())
