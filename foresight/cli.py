"""The `foresight` command: arguments and errors. What commands do is in `foresight.commands`, imported on use."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import __version__
from .commands import early
from .common.errors import ConfigError, ForesightError, StoppedError, did_you_mean, one_of
from .common.plugins import part

_SETTINGS = (
    "Settings come from a recipe, or from flags, --name value; flags win. `foresight {} --settings` lists them with "
    "their meanings and defaults."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 if a check, or a run of a comparison, failed; 2 after an error that the user can mend; 130 after Ctrl-C. For
    `train` 143 after SIGTERM and 75 when its hours are over: a checkpoint is then complete, and --resume goes on.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = bool(os.environ.get("FORESIGHT_DEBUG")) or words[:1] == ["--debug"]
    try:
        return _run(words)
    except StoppedError as stopped:
        print(f"foresight: {stopped}", file=sys.stderr)
        return stopped.code
    except ForesightError as error:
        if debug:
            traceback.print_exc()
        print(f"foresight: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("foresight: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, say `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(words: list[str]) -> int:
    parser, commands = _parsers()
    name = next((word for word in words if not word.startswith("-")), None)
    if name is not None:
        one_of("command", name, commands)
    args, rest = parser.parse_known_args(words)
    if name is None:
        parser.refuse(rest)
        parser.print_help()
        return 0
    if args.read is None:
        args.parser.refuse(rest)
        return args.run(args) or 0
    if args.settings is None and not args.schema:
        return args.run(args, args.read(args.config, rest)) or 0
    args.parser.refuse(rest)
    from .commands.explain import listing, schema

    print(json.dumps(schema(name), indent=2) if args.schema else listing(name, args.settings))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def refuse(self, rest: list[str]) -> None:
        """Raise ConfigError for arguments that are left over, which only a command with settings can use."""
        if rest:
            self.error(f"unexpected argument {rest[0]!r}{did_you_mean(rest[0], self._option_string_actions)}")


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(
        prog="foresight",
        description="Fine-tune causal language models with predictive masks.",
        epilog="`foresight COMMAND --help` explains a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"foresight {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors (or set FORESIGHT_DEBUG=1)")
    sub = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run: Callable | None, help: str, read: Callable | None = None, among: Any = sub) -> _Parser:
        """Add a command; `read` reads and checks the settings of one that has settings, which `run` gets."""
        epilog = _SETTINGS.format(name) if read else None
        result = among.add_parser(name, help=help, description=help, epilog=epilog, allow_abbrev=False)
        result.set_defaults(run=run, parser=result, read=read)
        if read:
            result.add_argument("--config", metavar="RECIPE", help="a YAML file, or a recipe by name: jsonl")
            listing = "list the settings, or those with WORD in their name or help, and stop"
            result.add_argument("--settings", metavar="WORD", nargs="?", const="", help=listing)
            schema = "print a JSON schema of recipes, for editors, and stop"
            result.add_argument("--schema", action="store_true", help=schema)
        return result

    def out(of: _Parser, what: str, default: str) -> None:
        of.add_argument("--out", metavar="DIR", default=default, help=f"folder of the {what} (default: %(default)s)")

    for name, about in (
        ("demo", "a comparison on the shipped model: track, forecast, train, judge; minutes on a CPU"),
        ("compare", "masks against baselines: arms, tasks, seeds and budgets, run, judged and reported"),
    ):
        comparing = command(name, _compare, about, early.compare)
        out(comparing, "results", name)
        comparing.add_argument("--quick", action="store_true", help="the same in a minute; its numbers mean nothing")

    report = command("report", _report, "rebuild the report of finished comparisons from their recorded runs")
    report.add_argument("folders", metavar="DIR", nargs="+", help="folders of `compare`; several are reported as one")
    report.add_argument("--out", metavar="DIR", help="where report.html goes (default: the first folder)")

    locating = "does the location matter: edits at localized heads against edits at random ones"
    out(command("evidence", _evidence, locating, early.evidence), "study; a rerun continues it", "evidence")

    train = command("train", _train, "fine-tune a model with a predictive mask", early.train)
    train.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint of output_dir")
    train.add_argument("--max-hours", type=float, metavar="H", help="stop in time, with a checkpoint (exit code 75)")

    seeing = "show what the model will see of the training rows; loads no model"
    preview = command("preview", _preview, seeing, early.preview)
    preview.add_argument("--rows", metavar="N", type=int, default=3, help="rows to show (default: %(default)s)")

    watching = "watch circuits evolve: a study of tasks, strategies and seeds"
    track = command("track", _track, watching, early.track)
    track.add_argument("--out", metavar="DIR", help="folder of the study (default: the setting output_dir)")
    track.add_argument("--resume", action="store_true", help="continue the study in that folder")

    components = command("components", _components, "list what of a model can be masked, with parameter counts")
    components.add_argument("model", metavar="MODEL", nargs="?", help="folder or Hub name (default: the shipped model)")
    components.add_argument("--mlp-block", metavar="N", type=int, help="neurons in an MLP block")
    components.add_argument("--list", action="store_true", help="one line per component, separated by tabs")

    mapping = "keep how much each row and column took part in other runs of a model, for policy foresight over weights"
    maps = command("maps", _maps, mapping)
    sources = "run folders, deltas, PEFT adapters or checkpoints of the model"
    maps.add_argument("sources", metavar="SOURCE", nargs="+", help=sources)
    maps.add_argument("--model", metavar="MODEL", help="folder or Hub name (default: the shipped model)")
    out(maps, "maps", "maps")

    planning = "dry run of train: budget, parameters, memory and steps; nothing is loaded"
    plan = command("plan", _plan, planning, early.plan)
    plan.add_argument("--processes", metavar="N", type=int, default=1, help="processes that ZeRO would shard over")
    plan.add_argument("--rows", metavar="N", type=int, help="training examples, where max_steps is not set")

    forecasters = command("forecasters", None, "list forecasters, and check that one keeps the contract")
    verbs = forecasters.add_subparsers(metavar="ACTION", required=True)
    command("list", _list, "built-in ones, those of installed packages, and what each can do", among=verbs)
    check = command("check", _check, "try every rule of the contract; exit code 1 if one is broken", among=verbs)
    check.add_argument("name", metavar="NAME", help="a name from the list, or module:Class")
    racing = "judge forecasters on recorded runs that they have not learned from; a rerun continues where it stopped"
    bench = command("bench", _bench, racing, among=verbs)
    bench.add_argument("names", metavar="NAME", nargs="*", help="forecasters, or module:Class (default: all)")
    recorded = "studies of `foresight track`, recorded runs, or corpus files (default: the shipped corpus)"
    bench.add_argument("--runs", metavar="PLACE", nargs="+", help=recorded)
    bench.add_argument("--add", metavar="PLACE", nargs="+", default=[], help="recorded runs besides the shipped corpus")
    bench.add_argument("--leave-out", metavar="KIND", choices=("task", "model"), help="task or model (default: both)")
    bench.add_argument("--scorer", metavar="NAME", help="which scores, where runs have several")
    bench.add_argument("--workers", metavar="N", type=int, default=1, help="processes (default: %(default)s)")
    out(bench, "results", "bench")

    export = command("export", _export, "write what a run has learned as a model folder or as a delta")
    export.add_argument("folder", metavar="RUN", help="output_dir of a finished run, or a checkpoint in it")
    export.add_argument("--to", metavar="FORM", required=True, help="merged (a whole model) or delta (what changed)")
    export.add_argument("--out", metavar="DIR", required=True, help="a new folder")
    return parser, sub.choices


# What a command is given is checked first, in well under a second; the module that does the work imports torch.


def _compare(args: argparse.Namespace, config: Any) -> int:
    return part("commands.compare.run")(args.out, config, args.quick)


def _report(args: argparse.Namespace) -> None:
    early.check_folders("a folder of `foresight compare`", args.folders)
    part("commands.compare.report")(args.folders, args.out)


def _evidence(args: argparse.Namespace, config: Any) -> None:
    part("commands.compare.evidence")(args.out, config)


def _train(args: argparse.Namespace, values: dict[str, Any]) -> None:
    part("commands.train.run")(values, args.resume, args.max_hours)


def _preview(args: argparse.Namespace, values: dict[str, Any]) -> None:
    part("commands.preview.show")(values, args.rows)


def _track(args: argparse.Namespace, values: dict[str, Any]) -> None:
    part("commands.track.run")(values, args.out, args.resume)


def _components(args: argparse.Namespace) -> None:
    early.check_model(args.model)
    part("commands.components.show")(args.model, args.mlp_block, args.list)


def _maps(args: argparse.Namespace) -> None:
    early.check_model(args.model)
    early.check_folders("a run folder, a delta, a PEFT adapter or a checkpoint", args.sources)
    part("commands.maps.make")(args.sources, args.model, args.out)


def _plan(args: argparse.Namespace, values: dict[str, Any]) -> None:
    part("commands.plan.show")(values, args.processes, args.rows)


def _list(args: argparse.Namespace) -> None:
    part("commands.forecasters.show")()


def _check(args: argparse.Namespace) -> int:
    early.check_forecasters([args.name], of_scores=True)
    return part("commands.forecasters.check")(args.name)


def _bench(args: argparse.Namespace) -> None:
    early.check_forecasters(args.names)
    early.check_folders("recorded runs, or a corpus file", [*(args.runs or []), *args.add])
    bench = part("commands.bench.run")
    bench(args.out, args.runs, args.add, args.names, args.leave_out, args.scorer, args.workers)


def _export(args: argparse.Namespace) -> None:
    print(f"written to {part('training.export.export')(args.folder, args.to, args.out)}")


if __name__ == "__main__":
    raise SystemExit(main())
